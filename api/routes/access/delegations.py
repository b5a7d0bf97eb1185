"""Delegations: lent, seen, taken back."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.denials import audited_denials
from api.dependencies import Caller, CallerDep, ServicesDep, check_permission
from api.errors import problems
from api.pagination import CursorQuery, LimitQuery, Listing, Page, newest_first, next_url
from api.proof import check_session_proof
from api.services import Services
from api.strict_route import StrictRoute
from database.store.access.delegations import lend, take_back
from database.store.access.identities import user_by_name
from database.store.access.lent import LentGrant, lent_by_or_to, lent_grant
from database.store.access.rights import held_by
from database.store.audit import record
from database.store.projects import project_by_name
from domain.access.decide import PLATFORM
from domain.access.delegations import REASON_LENGTH_MAX, REDELEGATIONS_MAX, Offer
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import NotFound
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1/delegations", tags=["access"], route_class=StrictRoute)

GRANTS: Listing[LentGrant, tuple[datetime, UUID]] = newest_first("delegations")

NO_SUCH_GRANT = "There is no such delegation, it was taken back before, or it is not yours to take back."


class DelegationRequest(BaseModel):
    """What shall be lent to whom. Nobody lends more than they hold at this moment, as their credential narrows it."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(min_length=1, max_length=64, description="Login name of the person, agent or service")
    permissions: list[Permission] = Field(min_length=1, max_length=len(Permission))
    project: str | None = Field(
        default=None, max_length=130, description="`owner/name`, if it shall be good there only; else everywhere"
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="When it ends by itself; null: when it is taken back, or what it comes from ends"
    )
    redelegations: int = Field(
        default=0, ge=0, le=REDELEGATIONS_MAX, description="How often in a row it may be lent on"
    )
    reason: str | None = Field(default=None, max_length=REASON_LENGTH_MAX, description="For people")


class DelegatedPermission(BaseModel):
    """One permission of a delegation."""

    permission: str
    expires_at: AwareDatetime | None
    is_live: bool = Field(description="Whether it gives anything at this moment")
    problem: str | None = Field(description="Why it does not, for people")
    lent_on_from: UUID | None = Field(description="The delegation that the lender passes on; null: its own right")


class Delegation(BaseModel):
    """What was lent in one act."""

    id: UUID
    lender: str
    borrower: str
    project: str | None = Field(description="Null: everywhere")
    permissions: list[DelegatedPermission]
    redelegations: int = Field(description="How often in a row it may be lent on")
    reason: str | None
    created_at: AwareDatetime
    seconds_left: float | None = Field(description="Null where nothing ends by itself, or nothing is live")


def shown(grant: LentGrant) -> Delegation:
    """A grant as the API shows it."""
    return Delegation(
        id=grant.id,
        lender=grant.lender,
        borrower=grant.borrower,
        project=grant.project,
        permissions=[
            DelegatedPermission(
                permission=one.permission,
                expires_at=one.expires_at,
                is_live=one.problem is None,
                problem=one.problem,
                lent_on_from=one.parent_grant_id,
            )
            for one in grant.permissions
        ],
        redelegations=grant.redelegations_left,
        reason=grant.reason,
        created_at=grant.created_at,
        seconds_left=None if grant.time_left is None else grant.time_left.total_seconds(),
    )


async def lend_for(services: Services, actor: Actor, to: str, offer: Offer) -> LentGrant:
    """Lends, with an audit row also for what was refused; for the API and the pages.

    Raises:
        NotFound: No such project, or the actor may not see it; nobody is called so.
        InvalidInput, PermissionMissing, Conflict: See ``database.store.access.delegations.lend``.
    """
    denied = audited_denials(services, actor, AuditAction.DELEGATION_CREATE, "delegation", project_id=offer.project_id)
    async with denied, services.database.transaction() as session:
        grant_id = await lend(session, actor, to, offer)
        grant = await lent_grant(session, actor, grant_id, as_admin=True)
    assert grant is not None  # noqa: S101  # inserted above in this transaction
    return grant


async def readable_project(services: Services, actor: Actor, full_name: str) -> ProjectView:
    """The project, if the actor may read it.

    Raises:
        NotFound: It may not, and an audit row tells of the attempt; or there is none.
    """
    owner, _, name = full_name.partition("/")
    async with services.database.transaction() as session:
        project = await project_by_name(session, owner, name)
        held = None if project is None else await held_by(session, actor.subject_id, project.id)
    if project is None or held is None:
        raise NotFound(f"There is no project {full_name!r}, or you may not see it. Write it as owner/name.")
    await check_permission(services, Caller(actor, held), Permission.PROJECT_READ, project.resource)
    return project


@router.post("", status_code=201, summary="Lend permissions", responses=problems(400, 401, 403, 404, 409, 413, 422))
async def post_delegation(
    body: DelegationRequest, request: Request, caller: CallerDep, services: ServicesDep
) -> Delegation:
    """Lends what you hold at this moment; it is looked up again at every use and ends with your own right.

    In a browser session it needs a recent proof.
    """
    actor = caller.actor
    await check_session_proof(services, request, actor)
    project = None if body.project is None else await readable_project(services, actor, body.project)
    offer = Offer(
        permissions=frozenset(body.permissions),
        project_id=None if project is None else project.id,
        expires_at=body.expires_at,
        redelegations=body.redelegations,
        reason=body.reason,
    )
    return shown(await lend_for(services, actor, body.to, offer))


@router.get("", summary="List what is lent", responses=problems(400, 401, 403, 404))
async def get_delegations(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    *,
    direction: Annotated[Literal["given", "received"], Query(description="Lent by you, or to you")] = "given",
    with_ended: Annotated[bool, Query(description="Also what was taken back or has expired")] = False,
    user: Annotated[str | None, Query(max_length=64, description="Of another; needs admin:users")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Delegation]:
    """What you lend or were lent, newest first, each with the time left, and whether it is live or why not."""
    actor = caller.actor
    before = GRANTS.place(services.secret_key, cursor)
    user_id = actor.user_id
    if user not in (None, actor.name):
        await check_permission(services, caller, Permission.ADMIN_USERS, PLATFORM)
        user_id = await user_id_of(services, str(user))
    async with services.database.transaction() as session:
        rows = await lent_by_or_to(
            session, actor, user_id, direction, with_ended=with_ended, before=before, limit=limit + 1
        )
    page, following = GRANTS.cut(services.secret_key, rows, limit)
    return Page(items=[shown(grant) for grant in page], next=next_url(request, following))


async def user_id_of(services: Services, name: str) -> UUID:
    """Whose login name it is.

    Raises:
        NotFound: Nobody's.
    """
    async with services.database.transaction() as session:
        user = await user_by_name(session, name)
    if user is None:
        raise NotFound(f"Nobody is called {name!r}.")
    return user.id


@router.get("/{delegation_id}", summary="See a delegation", responses=problems(400, 401, 404))
async def get_delegation(delegation_id: UUID, caller: CallerDep, services: ServicesDep) -> Delegation:
    """A delegation of which you are a party, or a lender before it."""
    async with services.database.transaction() as session:
        as_admin = caller.may(Permission.ADMIN_USERS)
        grant = await lent_grant(session, caller.actor, delegation_id, as_admin=as_admin)
    if grant is None:
        raise NotFound("There is no such delegation, or it is not yours to see.")
    return shown(grant)


@router.delete(
    "/{delegation_id}", status_code=204, summary="Take a delegation back", responses=problems(400, 401, 403, 404)
)
async def delete_delegation(delegation_id: UUID, caller: CallerDep, services: ServicesDep) -> None:
    """Ends it at once, with all that was lent on from it. For the lender, the lenders before, and `admin:users`."""
    await take_back_for(services, caller.actor, delegation_id, as_admin=caller.may(Permission.ADMIN_USERS))


async def take_back_for(services: Services, actor: Actor, grant_id: UUID, *, as_admin: bool) -> None:
    """Takes back, with an audit row also for what was refused; for the API and the pages.

    Raises:
        NotFound: There is nothing of that id that the actor may take back.
    """
    async with services.database.transaction() as session:
        taken = await take_back(session, actor, grant_id, as_admin=as_admin)
        if taken is None:
            await record(session, actor, AuditAction.DELEGATION_REVOKE, "delegation", grant_id, outcome="denied")
    if taken is None:
        raise NotFound(NO_SUCH_GRANT)
