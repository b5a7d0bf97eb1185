"""A team of an organisation: who is in it, what it is called, and its end."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.organizations import member_of
from api.pages.access.organizations import HERE
from api.pages.access.people import FormName
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.pages.more import more_url
from api.pagination import CursorQuery
from api.proof import SessionDep
from api.rendering import render
from api.routes.access.organizations import NameOfOrganization
from api.routes.access.teams import (
    DESCRIPTION_LENGTH_MAX,
    MEMBERS,
    NameOfMember,
    NameOfTeam,
    TeamChange,
    delete_member,
    delete_team_by_name,
    patch_team,
    put_member,
)
from api.services import Services
from database.store.access.organizations import OWNERS, MemberView, TeamView, members, team_by_name
from domain.errors import NotFound

router = APIRouter(include_in_schema=False)

TEAM = f"{HERE}/{{organization}}/teams/{{team}}"
MEMBERS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class TeamPage:
    """What ``access/team.html`` shows.

    Attributes:
        may_change: Whether the forms are shown.
        is_owners: Whether it is the team whose members own the organisation; it keeps its name and stays.
        next_url: Where the next page of its members is.
        error: Why the last attempt was refused.
    """

    frame: Frame
    team: TeamView
    members: tuple[MemberView, ...]
    may_change: bool
    is_owners: bool
    next_url: str | None
    error: str | None = None


@router.get(TEAM, summary="A team")
async def get_team_page(
    organization: NameOfOrganization,
    team: NameOfTeam,
    caller: SessionDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
) -> Response:
    """Who is in it, for whoever is in its organisation."""
    return await _page(services, caller, organization, team, cursor=cursor)


async def _page(
    services: Services,
    caller: Caller,
    organization: str,
    name: str,
    *,
    cursor: str | None = None,
    refused: Refusal | None = None,
) -> Response:
    """The page, with what was refused on it; where there is none to show, that refusal alone is told."""
    after = MEMBERS.place(services.secret_key, cursor)
    try:
        found = await member_of(services, caller, organization)
        async with services.database.transaction() as session:
            team = await team_by_name(session, found.organization.id, name)
            rows = await members(session, team, after=after, limit=MEMBERS_SHOWN_MAX + 1)
    except NotFound:
        if refused is None:
            raise
        raise refused from None
    shown, following = MEMBERS.cut(services.secret_key, rows, MEMBERS_SHOWN_MAX)
    page = TeamPage(
        frame=frame_for(services, caller, section="people"),
        team=team,
        members=tuple(shown),
        may_change=found.as_what != "member",
        is_owners=team.name == OWNERS,
        next_url=more_url(_address(organization, name), following),
        error=refused.message if refused else None,
    )
    return render("access/team.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


def _address(organization: str, team: str) -> str:
    return TEAM.format(organization=organization, team=team)


async def _done(
    services: Services, caller: Caller, organization: str, team: str, refused: Refusal | None, *, to: str | None = None
) -> Response:
    if refused is not None:
        return await _page(services, caller, organization, team, refused=refused)
    return RedirectResponse(to or _address(organization, team), status_code=303)


@router.post(f"{TEAM}/change", summary="Call or describe a team differently")
async def post_team_change(
    *,
    organization: NameOfOrganization,
    team: NameOfTeam,
    caller: SessionDep,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=64)] = "",
    description: Annotated[str, Form(max_length=DESCRIPTION_LENGTH_MAX)] = "",
) -> Response:
    """Changes what it is called and what it is for; a name that is left empty stays."""
    called = name.strip() or team
    body = TeamChange(name=called, description=description.strip() or None)
    refused = await refusal_of(patch_team(organization, team, body, caller, services))
    return await _done(services, caller, organization, team, refused, to=_address(organization, called))


@router.post(f"{TEAM}/delete", summary="Delete a team")
async def post_team_deletion(
    organization: NameOfOrganization, team: NameOfTeam, caller: SessionDep, services: ServicesDep
) -> Response:
    """Deletes a team with what its members hold through it."""
    refused = await refusal_of(delete_team_by_name(organization, team, caller, services))
    return await _done(services, caller, organization, team, refused, to=f"{HERE}/{organization}")


@router.post(f"{TEAM}/members", summary="Take somebody into a team")
async def post_member(
    *,
    organization: NameOfOrganization,
    team: NameOfTeam,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    member: FormName,
) -> Response:
    """Takes somebody in; they hold at once what the team holds."""
    attempt = put_member(
        organization=organization, team=team, member=member.strip(), request=request, caller=caller, services=services
    )
    return await _done(services, caller, organization, team, await refusal_of(attempt))


@router.post(f"{TEAM}/members/{{member}}/remove", summary="Take somebody out of a team")
async def post_member_removal(
    organization: NameOfOrganization, team: NameOfTeam, member: NameOfMember, caller: SessionDep, services: ServicesDep
) -> Response:
    """Takes somebody out; they lose at once what they held through it."""
    refused = await refusal_of(delete_member(organization, team, member, caller, services))
    return await _done(services, caller, organization, team, refused)
