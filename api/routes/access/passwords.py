"""Passwords: changing one's own, and setting one by a link that was mailed."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.csrf import check_origin
from api.dependencies import ActorDep, ServicesDep
from api.errors import problems
from api.links import TOKEN_LENGTH_MAX, ask_for_reset, set_password_by_link
from api.mails import mailing
from api.sign_in import check_password
from api.strict_route import StrictRoute
from database.store.access.identities import identity_by_id
from database.store.access.passwords import set_password
from domain.access.identities import EMAIL_LENGTH_MAX
from domain.access.passwords import LENGTH_MAX
from domain.audit.actions import AuditAction
from domain.errors import Conflict

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)


class PasswordChange(BaseModel):
    """The present password and the new one."""

    model_config = ConfigDict(extra="forbid")

    present: str = Field(max_length=LENGTH_MAX)
    new: str = Field(max_length=LENGTH_MAX)


class PasswordChanged(BaseModel):
    """What a change of the password brought about."""

    sessions_ended: int = Field(description="Other browser sessions of yours, signed out now")


class ResetRequest(BaseModel):
    """Whose password is forgotten."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=EMAIL_LENGTH_MAX)


class PasswordByLink(BaseModel):
    """The secret of a mailed link and the password that it shall set."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=TOKEN_LENGTH_MAX, description="What follows `token=` in the link")
    password: str = Field(max_length=LENGTH_MAX)


class Told(BaseModel):
    """A sentence for a person."""

    message: str


@router.put("/me/password", summary="Change your password", responses=problems(400, 401, 403, 409, 413, 429))
async def put_password(
    body: PasswordChange, request: Request, actor: ActorDep, services: ServicesDep
) -> PasswordChanged:
    """Sets a new password; asks for the present one, and ends your other browser sessions. API tokens stay."""
    async with services.database.transaction() as session:
        own = await identity_by_id(session, actor.user_id)
    if own is None or not own.has_password:
        raise Conflict("You sign in without a password, so there is none to change.", code="no_password")
    await check_password(services, request, actor.name, body.present, action=AuditAction.PASSWORD_CHANGE)
    facts = (own.name, own.email or "", own.display_name or "")
    password_hash = await services.passwords.hash_new(body.new, about=facts)
    async with mailing(services) as session:
        return PasswordChanged(sessions_ended=await set_password(session, actor, actor.user_id, password_hash))


@router.post(
    "/password/resets", status_code=202, summary="Ask for a new password", responses=problems(400, 403, 413, 429)
)
async def post_reset(body: ResetRequest, request: Request, services: ServicesDep) -> Told:
    """Mails a link to whoever has this verified address; the answer is the same if it is nobody's."""
    check_origin(request, services.public_url)
    await ask_for_reset(services, request, body.email)
    return Told(message="If this is the verified address of somebody with a password, a mail is on its way.")


@router.post(
    "/password", status_code=204, summary="Set a password by a mailed link", responses=problems(400, 403, 413, 429)
)
async def post_password(body: PasswordByLink, request: Request, services: ServicesDep) -> None:
    """Sets the password of a reset or an invitation, and ends all browser sessions of its user. Good once.

    A password that is refused does not use up the link.
    """
    check_origin(request, services.public_url)
    await set_password_by_link(services, request, body.token, body.password)
