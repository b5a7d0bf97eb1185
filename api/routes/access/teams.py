"""Teams of an organisation and who is in them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.denials import audited_denials
from api.dependencies import CallerDep, ServicesDep
from api.errors import problems
from api.idempotency import OnceDep
from api.managing import NO_SUCH_USER
from api.organizations import member_of, owner_of
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.proof import check_session_proof
from api.routes.access.organizations import NameOfOrganization
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.identities import identity_by_name
from database.store.access.organizations import (
    MemberView,
    TeamView,
    add_member,
    change_team,
    create_team,
    delete_team,
    members,
    remove_member,
    team_by_name,
    teams,
)
from domain.access.granting import check_in_own_name
from domain.access.identities import Identity
from domain.audit.actions import AuditAction
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1/organizations/{organization}/teams", tags=["access"], route_class=StrictRoute)

DESCRIPTION_LENGTH_MAX = 500

TEAMS: Listing[TeamView, str] = Listing("teams", written=lambda one: (one.name,), read=lambda place: place[0])
MEMBERS: Listing[MemberView, str] = Listing("members", written=lambda one: (one.name,), read=lambda place: place[0])

NameOfTeam = Annotated[str, Path(description="Name of the team", max_length=64)]
NameOfMember = Annotated[str, Path(description="Login name", max_length=64)]


class TeamRequest(BaseModel):
    """A new team."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64)
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)


class TeamChange(BaseModel):
    """What shall change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=64, description="In `organization/team` too, from then on")
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)


class Team(BaseModel):
    """A team."""

    id: UUID
    organization: str
    name: str
    description: str | None
    members: int = Field(description="How many")
    created_at: AwareDatetime


class Member(BaseModel):
    """Somebody in a team."""

    id: UUID
    name: str
    kind: str
    display_name: str | None
    is_active: bool
    added_by: str | None
    created_at: AwareDatetime = Field(description="Since when")


def _shown(view: TeamView) -> Team:
    return Team.model_validate(view, from_attributes=True)


@router.get("", summary="List teams", responses=problems(400, 401, 404))
async def get_teams(
    *,
    organization: NameOfOrganization,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Team]:
    """The teams of an organisation that you are in, by name."""
    after = TEAMS.place(services.secret_key, cursor)
    found = await member_of(services, caller, organization)
    async with services.database.transaction() as session:
        rows = await teams(session, found.organization.id, after=after, limit=limit + 1)
    page, following = TEAMS.cut(services.secret_key, rows, limit)
    return Page(items=[_shown(row) for row in page], next=next_url(request, following))


@router.post(
    "",
    status_code=201,
    summary="Make a team",
    response_model=Team,
    responses=problems(400, 401, 403, 404, 409, 413, 422),
)
async def post_team(
    organization: NameOfOrganization, body: TeamRequest, caller: CallerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Makes a team without members in an organisation that you own."""
    found = await owner_of(services, caller, organization, AuditAction.TEAM_CREATE)

    async def change(session: Session) -> Team:
        return _shown(await create_team(session, found.actor, found.organization, body.name, body.description))

    return await once.run(found.actor, change)


@router.patch("/{team}", summary="Change a team", responses=problems(400, 401, 403, 404, 409, 413))
async def patch_team(
    organization: NameOfOrganization, team: NameOfTeam, body: TeamChange, caller: CallerDep, services: ServicesDep
) -> Team:
    """Calls or describes a team differently, in an organisation that you own; who is in it and what it holds stay."""
    found = await owner_of(services, caller, organization, AuditAction.TEAM_UPDATE)
    async with services.database.transaction() as session:
        view = await team_by_name(session, found.organization.id, team)
        name = body.name if "name" in body.model_fields_set else view.name
        description = body.description if "description" in body.model_fields_set else view.description
        return _shown(await change_team(session, found.actor, view, name=name, description=description))


@router.delete("/{team}", status_code=204, summary="Delete a team", responses=problems(400, 401, 403, 404, 409))
async def delete_team_by_name(
    organization: NameOfOrganization, team: NameOfTeam, caller: CallerDep, services: ServicesDep
) -> None:
    """Deletes a team, and with it the roles that its members held through it; `owners` stays."""
    found = await owner_of(services, caller, organization, AuditAction.TEAM_DELETE)
    async with services.database.transaction() as session:
        await delete_team(session, found.actor, await team_by_name(session, found.organization.id, team))


@router.get("/{team}/members", summary="List who is in a team", responses=problems(400, 401, 404))
async def get_members(
    *,
    organization: NameOfOrganization,
    team: NameOfTeam,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Member]:
    """Who is in a team of an organisation that you are in, by name."""
    after = MEMBERS.place(services.secret_key, cursor)
    found = await member_of(services, caller, organization)
    async with services.database.transaction() as session:
        view = await team_by_name(session, found.organization.id, team)
        rows = await members(session, view, after=after, limit=limit + 1)
    page, following = MEMBERS.cut(services.secret_key, rows, limit)
    items = [Member.model_validate(row, from_attributes=True) for row in page]
    return Page(items=items, next=next_url(request, following))


@router.put(
    "/{team}/members/{member}",
    status_code=204,
    summary="Take somebody into a team",
    responses=problems(400, 401, 403, 404),
)
async def put_member(
    *,
    organization: NameOfOrganization,
    team: NameOfTeam,
    member: NameOfMember,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> None:
    """Takes somebody into a team of an organisation that you own; they hold at once what its members hold.

    In a browser session it needs a recent proof.
    """
    found = await owner_of(services, caller, organization, AuditAction.TEAM_ADD_MEMBER)
    async with audited_denials(services, found.actor, AuditAction.TEAM_ADD_MEMBER, "user", found.organization.id):
        check_in_own_name(found.actor)
    await check_session_proof(services, request, found.actor)
    async with services.database.transaction() as session:
        view = await team_by_name(session, found.organization.id, team)
        await add_member(session, found.actor, view, await _somebody(session, member))


@router.delete(
    "/{team}/members/{member}",
    status_code=204,
    summary="Take somebody out of a team",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_member(
    organization: NameOfOrganization,
    team: NameOfTeam,
    member: NameOfMember,
    caller: CallerDep,
    services: ServicesDep,
) -> None:
    """Takes somebody out of a team; they lose at once what they held through it. The last owner stays."""
    found = await owner_of(services, caller, organization, AuditAction.TEAM_REMOVE_MEMBER)
    async with services.database.transaction() as session:
        view = await team_by_name(session, found.organization.id, team)
        if not await remove_member(session, found.actor, view, await _somebody(session, member)):
            raise NotFound(f"{member} is not in {organization}/{team}.", code="no_such_member")


async def _somebody(session: Session, name: str) -> Identity:
    found = await identity_by_name(session, name)
    if found is None:
        raise NotFound(NO_SUCH_USER, code="no_such_user")
    return found
