"""One's own e-mail address: changed, and verified by a mailed link."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.csrf import check_origin
from api.dependencies import ActorDep, ServicesDep
from api.errors import problems
from api.links import TOKEN_LENGTH_MAX, count_mail, verify_by_link
from api.mails import start_mail
from api.routes.access.passwords import Told
from api.sign_in import check_password
from api.strict_route import StrictRoute
from database.store.access.identities import identity_by_id
from database.store.access.mails import order_verification
from domain.access.identities import EMAIL_LENGTH_MAX, check_email
from domain.access.passwords import LENGTH_MAX
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)


class EmailChange(BaseModel):
    """The address that shall be yours, and the password: whoever has the address can replace the password."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=EMAIL_LENGTH_MAX)
    password: str = Field(max_length=LENGTH_MAX)


class Verification(BaseModel):
    """The secret of a mailed link."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=TOKEN_LENGTH_MAX, description="What follows `token=` in the link")


class Verified(BaseModel):
    """The address that was verified."""

    email: str


@router.put(
    "/me/email",
    status_code=202,
    summary="Change your e-mail address",
    responses=problems(400, 401, 403, 409, 413, 429),
)
async def put_email(body: EmailChange, request: Request, actor: ActorDep, services: ServicesDep) -> Told:
    """Mails a link to the new address; the old one stays until that link is followed, within 24 hours."""
    email = check_email(body.email)
    async with services.database.transaction() as session:
        own = await identity_by_id(session, actor.user_id)
    if own is None or not own.has_password:
        raise Conflict(
            "You sign in without a password, so nothing here can show that it is you. Ask an administrator to change "
            "the address.",
            code="no_password",
        )
    await check_password(services, request, actor.name, body.password, action=AuditAction.EMAIL_CHANGE)
    return await _mail_link(services, request, actor, email)


@router.post(
    "/me/email/verification",
    status_code=202,
    summary="Verify your e-mail address",
    responses=problems(400, 401, 403, 409, 429),
)
async def post_verification(request: Request, actor: ActorDep, services: ServicesDep) -> Told:
    """Mails a link to your present address, again if need be; links of before are void."""
    async with services.database.transaction() as session:
        own = await identity_by_id(session, actor.user_id)
    if own is None or own.email is None:
        raise Conflict("You have no e-mail address. Set one with PUT /api/v1/me/email.", code="no_email")
    if own.email_verified_at is not None:
        raise Conflict("Your e-mail address is verified already.", code="already_verified")
    return await _mail_link(services, request, actor, own.email)


async def _mail_link(services: ServicesDep, request: Request, actor: Actor, email: str) -> Told:
    await count_mail(services, request, email, action=AuditAction.EMAIL_VERIFY)
    async with services.database.transaction() as session:
        mail_id = await order_verification(session, actor, actor.user_id, email, services.secret_key)
    await start_mail(services, mail_id)
    return Told(message=f"A mail to {email} is on its way. Open the link in it within 24 hours.")


@router.post(
    "/email/verifications", summary="Verify an address by a mailed link", responses=problems(400, 403, 409, 413)
)
async def post_link(body: Verification, request: Request, services: ServicesDep) -> Verified:
    """Makes the address that the link was mailed to the verified one of its user. Good once."""
    check_origin(request, services.public_url)
    link = await verify_by_link(services, request, body.token)
    return Verified(email=link.email)
