"""Browser sessions: one's own, and those of whom one manages; listed and ended."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, Field

from api.dependencies import Caller, CallerDep, ServicesDep
from api.errors import problems
from api.managing import managed
from api.pagination import CursorQuery, LimitQuery, Listing, Page, newest_first, next_url
from api.routes.access.users import NameOfUser
from api.services import Services
from api.strict_route import StrictRoute
from database.store.access.identities import identity_by_id
from database.store.access.sessions import SessionView, end_session, end_sessions_of, session_owner, sessions_of
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

SESSIONS: Listing[SessionView, tuple[datetime, UUID]] = newest_first("sessions")


class OpenSession(BaseModel):
    """A browser that is signed in."""

    id: UUID
    is_current: bool = Field(description="Whether it is the one that asks")
    address: str | None = Field(description="From where it was opened")
    user_agent: str | None
    factor: str = Field(description="What its user last proved themselves by")
    proved_at: AwareDatetime
    created_at: AwareDatetime
    last_seen_at: AwareDatetime = Field(description="To the minute")
    expires_at: AwareDatetime = Field(description="When it ends if it is not used from now on")


class EndedSessions(BaseModel):
    """How many ended."""

    ended: int


def _shown(view: SessionView, actor: Actor) -> OpenSession:
    return OpenSession(
        id=view.id,
        is_current=actor.token_id is None and view.id == actor.session_id,
        address=view.ip_addr,
        user_agent=view.user_agent,
        factor=view.factor,
        proved_at=view.proved_at,
        created_at=view.created_at,
        last_seen_at=view.last_seen_at,
        expires_at=view.expires_at,
    )


@router.get("/sessions", summary="List your sessions", responses=problems(400, 401, 403))
async def get_sessions(
    request: Request, caller: CallerDep, services: ServicesDep, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> Page[OpenSession]:
    """Your browser sessions that are open, newest first; asked in one of them."""
    return await _sessions(services, request, caller, caller.actor.name, cursor, limit)


@router.get("/users/{name}/sessions", summary="List a user's sessions", responses=problems(400, 401, 403, 404))
async def get_sessions_of_user(
    *,
    name: NameOfUser,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[OpenSession]:
    """The open browser sessions of somebody whom you manage, newest first."""
    return await _sessions(services, request, caller, name, cursor, limit)


async def _sessions(  # noqa: PLR0917  # two routes hand their parameters on
    services: Services, request: Request, caller: Caller, name: str, cursor: str | None, limit: int
) -> Page[OpenSession]:
    before = SESSIONS.place(services.secret_key, cursor)
    actor, identity = await managed(services, caller, name, Permission.ADMIN_USERS, by_itself=True)
    async with services.database.transaction() as session:
        rows = await sessions_of(session, identity.id, before=before, limit=limit + 1)
    page, following = SESSIONS.cut(services.secret_key, rows, limit)
    return Page(items=[_shown(row, actor) for row in page], next=next_url(request, following))


@router.delete("/sessions", summary="End your other sessions", responses=problems(400, 401, 403))
async def delete_other_sessions(caller: CallerDep, services: ServicesDep) -> EndedSessions:
    """Ends all your browser sessions but the one that asks, with what was exchanged from them."""
    actor, identity = await managed(services, caller, caller.actor.name, AuditAction.SESSION_DELETE, by_itself=True)
    async with services.database.transaction() as session:
        ended = await end_sessions_of(session, actor, identity.id, but=actor.session_id, reason="all others were ended")
    return EndedSessions(ended=ended)


@router.delete("/users/{name}/sessions", summary="End a user's sessions", responses=problems(400, 401, 403, 404))
async def delete_sessions_of_user(name: NameOfUser, caller: CallerDep, services: ServicesDep) -> EndedSessions:
    """Ends all browser sessions of somebody whom you manage, with what was exchanged from them."""
    actor, identity = await managed(services, caller, name, AuditAction.SESSION_DELETE)
    async with services.database.transaction() as session:
        ended = await end_sessions_of(session, actor, identity.id, reason="all were ended")
    return EndedSessions(ended=ended)


@router.delete(
    "/sessions/{session_id}", status_code=204, summary="End a session", responses=problems(400, 401, 403, 404)
)
async def delete_session_by_id(session_id: UUID, caller: CallerDep, services: ServicesDep) -> None:
    """Ends a browser session at once: one of yours, or of somebody whom you manage."""
    async with services.database.transaction() as session:
        owner_id = await session_owner(session, session_id)
        owner = None if owner_id is None else await identity_by_id(session, owner_id)
    # Who may not know of a session is told the same as if there were none; its id is nobody else's to know.
    actor = (
        None
        if owner is None
        else (await managed(services, caller, owner.name, AuditAction.SESSION_DELETE, by_itself=True))[0]
    )
    ended = False
    if actor is not None:
        async with services.database.transaction() as session:
            ended = await end_session(session, actor, session_id)
    if not ended:
        raise NotFound("There is no such session, or it ended before.")
