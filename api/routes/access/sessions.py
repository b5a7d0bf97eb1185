"""Signing in and out."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.attempts import NAME_LENGTH_MAX
from api.csrf import check_origin
from api.dependencies import ActorDep, ServicesDep
from api.errors import problems
from api.routes.access.me import Me, me_of
from api.second_factor import CODE_LENGTH_MAX, check_second_factor
from api.sign_in import (
    check_password,
    drop_session_cookie,
    set_session_cookie,
    start_session,
)
from api.strict_route import StrictRoute
from database.store.access.rights import held_by
from database.store.access.sessions import close_session
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.errors import InvalidInput

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)


class SignIn(BaseModel):
    """Name and password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=NAME_LENGTH_MAX)
    password: str = Field(max_length=PASSWORD_LENGTH_MAX)
    code: str | None = Field(
        default=None,
        max_length=CODE_LENGTH_MAX,
        description="Of the authenticator app, or a recovery code: for an identity with a second factor",
    )


@router.post("/sessions", status_code=201, summary="Sign in", responses=problems(400, 401, 403, 413, 429))
async def post_session(body: SignIn, request: Request, response: Response, services: ServicesDep) -> Me:
    """Opens a browser session: the answer sets its cookie and tells its CSRF token.

    An identity with a second factor is answered 401 `second_factor_required` until `code` is right too.
    """
    check_origin(request, services.public_url)
    right = await check_password(services, request, body.name, body.password)
    factor = await check_second_factor(services, request, right, body.code)
    async with services.database.transaction() as session:
        actor, secret = await start_session(services, session, right.actor, request, factor=factor)
        held = await held_by(session, actor.subject_id)
    set_session_cookie(response, services, secret)
    return await me_of(services, actor, held)


@router.delete("/sessions/current", status_code=204, summary="Sign out", responses=problems(400, 401, 403))
async def delete_session(actor: ActorDep, response: Response, services: ServicesDep) -> None:
    """Ends the browser session that asks."""
    if actor.session_id is None or actor.token_id is not None:
        raise InvalidInput("This request uses an API token, not a browser session; revoke the token instead.")
    async with services.database.transaction() as session:
        await close_session(session, actor)
    drop_session_cookie(response, services)
