"""One's own account: open sessions and API tokens."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.pages.frame import Frame, frame_for
from api.proof import ProvenSessionDep, SessionDep
from api.rendering import render
from api.routes.access.passwords import PasswordChange, put_password
from api.routes.access.tokens import TokenRequest, made_token
from api.services import Services
from database.models.credentials import ApiToken
from database.store.access.identities import identity_by_id
from database.store.access.sessions import SessionView, end_session, end_sessions_of, session_owner, sessions_of
from database.store.access.tokens import revoke_token, tokens_of
from domain.access.passwords import LENGTH_MAX
from domain.access.permissions import DESCRIPTIONS, Permission
from domain.access.tokens import LIFETIME_DEFAULT, LIFETIME_MAX
from domain.errors import Conflict, InvalidInput, NotFound, PermissionMissing, TooManyRequests, Unauthenticated

router = APIRouter(include_in_schema=False)

HERE = "/me"
SHOWN_MAX = 200
PROJECT_LENGTH_MAX = 130


@dataclass(frozen=True, slots=True)
class AccountPage:
    """What ``access/account.html`` shows.

    Attributes:
        here: The session that asks.
        new_token: A token that was just made; shown this once.
        has_password: Whether there is one to change.
        password_length_min: Of a new one, in characters.
        told: What was just done.
        error: Why a token was refused.
        password_error: Why a new password was refused.
    """

    frame: Frame
    sessions: tuple[SessionView, ...]
    here: UUID | None
    tokens: tuple[ApiToken, ...]
    has_password: bool
    password_length_min: int
    permissions: tuple[tuple[Permission, str], ...] = tuple(DESCRIPTIONS.items())
    lifetime_days: int = LIFETIME_DEFAULT.days
    lifetime_days_max: int = LIFETIME_MAX.days
    new_token: str | None = None
    told: str | None = None
    error: str | None = None
    password_error: str | None = None


async def _shown(
    services: Services,
    caller: Caller,
    *,
    new_token: str | None = None,
    told: str | None = None,
    error: str | None = None,
    password_error: str | None = None,
    status_code: int = 200,
) -> Response:
    async with services.database.transaction() as session:
        sessions = await sessions_of(session, caller.actor.user_id, limit=SHOWN_MAX)
        tokens = await tokens_of(session, caller.actor, before=None, limit=SHOWN_MAX)
        own = await identity_by_id(session, caller.actor.user_id)
    page = AccountPage(
        frame=frame_for(services, caller, section="account"),
        sessions=tuple(sessions),
        here=caller.actor.session_id,
        tokens=tuple(tokens),
        has_password=own is not None and own.has_password,
        password_length_min=services.passwords.rules.length_min,
        new_token=new_token,
        told=told,
        error=error,
        password_error=password_error,
    )
    answer = render("access/account.html", status_code=status_code, page=page, frame=page.frame)
    answer.headers["cache-control"] = "no-store"
    return answer


def _back() -> Response:
    return RedirectResponse(HERE, status_code=303)


@router.get(HERE, summary="Your account")
async def get_account(caller: SessionDep, services: ServicesDep) -> Response:
    """Where you are signed in, and your API tokens."""
    return await _shown(services, caller)


@router.post(f"{HERE}/tokens", summary="Make an API token")
async def post_token(
    *,
    caller: ProvenSessionDep,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=400)],
    scopes: Annotated[list[Permission], Form()],
    project: Annotated[str, Form(max_length=PROJECT_LENGTH_MAX)] = "",
    expires_in_days: Annotated[int, Form()] = LIFETIME_DEFAULT.days,
) -> Response:
    """Shows the token once."""
    try:
        body = TokenRequest(
            name=name.strip(), scopes=scopes, project=project.strip() or None, expires_in_days=expires_in_days
        )
        made = await made_token(services, caller.actor, body)
    except ValidationError as refused:
        said = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in refused.errors())
        return await _shown(services, caller, error=f"No token was made. {said}.", status_code=422)
    except (NotFound, PermissionMissing) as refused:
        return await _shown(services, caller, error=refused.message, status_code=refused.status)
    return await _shown(services, caller, new_token=made.token)


@router.post(f"{HERE}/tokens/{{token_id}}/revoke", summary="Revoke an API token")
async def post_revocation(token_id: UUID, caller: SessionDep, services: ServicesDep) -> Response:
    """Ends it at once; one that ended before is fine."""
    async with services.database.transaction() as session:
        await revoke_token(session, caller.actor, token_id)
    return _back()


@router.post(f"{HERE}/sessions/{{session_id}}/end", summary="End a session")
async def post_end_of_session(session_id: UUID, caller: SessionDep, services: ServicesDep) -> Response:
    """Signs that browser out at once; one that ended before is fine."""
    async with services.database.transaction() as session:
        if await session_owner(session, session_id) == caller.actor.user_id:
            await end_session(session, caller.actor, session_id)
    return _back()


@router.post(f"{HERE}/sessions/end-others", summary="End your other sessions")
async def post_end_of_others(caller: SessionDep, services: ServicesDep) -> Response:
    """Signs out every other browser."""
    actor = caller.actor
    async with services.database.transaction() as session:
        await end_sessions_of(session, actor, actor.user_id, but=actor.session_id, reason="all others were ended")
    return _back()


@router.post(f"{HERE}/password", summary="Change your password")
async def post_password(
    *,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    present: Annotated[str, Form(max_length=LENGTH_MAX)],
    new: Annotated[str, Form(max_length=LENGTH_MAX)],
    again: Annotated[str, Form(max_length=LENGTH_MAX)],
) -> Response:
    """Sets a new password and signs every other browser out; what is refused says why and changes nothing."""
    try:
        if new != again:
            raise InvalidInput("The two passwords are not the same. Nothing was changed.", code="passwords_differ")
        done = await put_password(PasswordChange(present=present, new=new), request, caller.actor, services)
    except (InvalidInput, Conflict, Unauthenticated, TooManyRequests) as refused:
        answer = await _shown(services, caller, password_error=refused.message, status_code=refused.status)
        if isinstance(refused, TooManyRequests):
            answer.headers["retry-after"] = str(refused.retry_after_seconds)
        return answer
    told = f"Your password is changed. Other browser sessions that were signed out: {done.sessions_ended}."
    return await _shown(services, caller, told=told)
