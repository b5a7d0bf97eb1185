"""Organisations: the list, and a page of each with its teams."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.idempotency import just_once
from api.organizations import member_of
from api.pages.access.people import FormName, FormTitle
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.pages.more import more_url
from api.pagination import CursorQuery
from api.proof import SessionDep
from api.rendering import render
from api.routes.access.organizations import (
    NameOfOrganization,
    Organization,
    OrganizationChange,
    OrganizationMaker,
    OrganizationRequest,
    UsersAdmin,
    get_organizations,
    patch_organization,
    post_organization,
    post_organization_deactivation,
    post_organization_reactivation,
)
from api.routes.access.teams import DESCRIPTION_LENGTH_MAX, TEAMS, TeamRequest, post_team
from api.services import Services
from database.store.access.organizations import MemberView, TeamView, first_members, teams
from domain.access.identities import Identity
from domain.access.permissions import Permission
from domain.errors import NotFound

router = APIRouter(include_in_schema=False)

HERE = "/organizations"
SHOWN_MAX = 50
TEAMS_SHOWN_MAX = 50
MEMBERS_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class OrganizationsPage:
    """What ``access/organizations.html`` shows.

    Attributes:
        next_url: Where the next page is.
        sees_all: Whether these are all that there are, or those that the reader is in.
        may_create: Whether the form to make one is shown; ``typed_name`` is shown again with ``error``.
    """

    frame: Frame
    organizations: tuple[Organization, ...]
    next_url: str | None
    sees_all: bool
    may_create: bool
    typed_name: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TeamWithMembers:
    """A team and the first of those who are in it; ``team.members`` says how many there are."""

    team: TeamView
    members: tuple[MemberView, ...]


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """What ``access/organization.html`` shows.

    Attributes:
        as_what: By being what the reader sees it.
        may_change: Whether the forms are shown.
        administers: Whether the reader may take it out of use and back.
        next_url: Where the next page of the teams is.
        error: Why the last attempt was refused.
    """

    frame: Frame
    organization: Identity
    as_what: Literal["owner", "member", "administrator"]
    teams: tuple[TeamWithMembers, ...]
    may_change: bool
    administers: bool
    next_url: str | None
    error: str | None = None


@router.get(HERE, summary="Organisations")
async def get_organizations_page(
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    cursor: Annotated[str | None, Query(max_length=1024)] = None,
) -> Response:
    """The organisations that the reader is in; all of them for administrators of users."""
    return await _list(request, services, caller, cursor=cursor)


async def _list(
    request: Request,
    services: Services,
    caller: Caller,
    *,
    cursor: str | None = None,
    typed_name: str = "",
    refused: Refusal | None = None,
) -> Response:
    found = await get_organizations(request, caller, services, cursor=cursor, limit=SHOWN_MAX)
    page = OrganizationsPage(
        frame=frame_for(services, caller, section="people"),
        organizations=tuple(found.items),
        next_url=found.next,
        sees_all=caller.may(Permission.ADMIN_USERS),
        may_create=caller.may(Permission.ORGANIZATION_CREATE) and caller.actor.session_id is not None,
        typed_name=typed_name,
        error=refused.message if refused else None,
    )
    status_code = refused.status if refused else 200
    return render("access/organizations.html", status_code=status_code, page=page, frame=page.frame)


@router.post(HERE, summary="Make an organisation")
async def post_organization_page(
    *,
    request: Request,
    caller: OrganizationMaker,
    services: ServicesDep,
    name: FormName,
    display_name: FormTitle = "",
) -> Response:
    """Makes one that the reader owns, and leads to its page."""
    body = OrganizationRequest(name=name.strip(), display_name=display_name.strip() or None)
    refused = await refusal_of(post_organization(body, caller, services, just_once(services)))
    if refused is not None:
        return await _list(request, services, caller, typed_name=name, refused=refused)
    return _to(body.name)


def _to(organization: str) -> Response:
    return RedirectResponse(f"{HERE}/{organization}", status_code=303)


@router.get(f"{HERE}/{{organization}}", summary="An organisation")
async def get_organization_page(
    organization: NameOfOrganization, caller: SessionDep, services: ServicesDep, cursor: CursorQuery = None
) -> Response:
    """Its teams, for whoever is in it."""
    return await _page(services, caller, organization, cursor=cursor)


async def _page(
    services: Services, caller: Caller, name: str, *, cursor: str | None = None, refused: Refusal | None = None
) -> Response:
    """The page, with what was refused on it; who may not see it is told that refusal alone."""
    try:
        found = await member_of(services, caller, name)
    except NotFound:
        if refused is None:
            raise
        raise refused from None
    after = TEAMS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        rows = await teams(session, found.organization.id, after=after, limit=TEAMS_SHOWN_MAX + 1)
        shown, following = TEAMS.cut(services.secret_key, rows, TEAMS_SHOWN_MAX)
        within = await first_members(session, shown, limit=MEMBERS_SHOWN_MAX)
    page = OrganizationPage(
        frame=frame_for(services, caller, section="people"),
        organization=found.organization,
        as_what=found.as_what,
        teams=tuple(TeamWithMembers(team, within[team.id]) for team in shown),
        may_change=found.as_what != "member",
        administers=caller.may(Permission.ADMIN_USERS),
        next_url=more_url(f"{HERE}/{name}", following),
        error=refused.message if refused else None,
    )
    status_code = refused.status if refused else 200
    return render("access/organization.html", status_code=status_code, page=page, frame=page.frame)


async def _done(services: Services, caller: Caller, name: str, refused: Refusal | None) -> Response:
    return _to(name) if refused is None else await _page(services, caller, name, refused=refused)


@router.post(f"{HERE}/{{organization}}/change", summary="Call an organisation something else")
async def post_organization_change(
    organization: NameOfOrganization, caller: SessionDep, services: ServicesDep, display_name: FormTitle = ""
) -> Response:
    """Changes what people read; its name in addresses stays."""
    body = OrganizationChange(display_name=display_name.strip() or None)
    refused = await refusal_of(patch_organization(organization, body, caller, services))
    return await _done(services, caller, organization, refused)


@router.post(f"{HERE}/{{organization}}/teams", summary="Make a team")
async def post_team_page(
    *,
    organization: NameOfOrganization,
    caller: SessionDep,
    services: ServicesDep,
    name: FormName,
    description: Annotated[str, Form(max_length=DESCRIPTION_LENGTH_MAX)] = "",
) -> Response:
    """Makes a team without members."""
    body = TeamRequest(name=name.strip(), description=description.strip() or None)
    refused = await refusal_of(post_team(organization, body, caller, services, just_once(services)))
    return await _done(services, caller, organization, refused)


@router.post(f"{HERE}/{{organization}}/deactivate", summary="Deactivate an organisation")
async def post_deactivate(organization: NameOfOrganization, caller: UsersAdmin, services: ServicesDep) -> Response:
    """Takes it out of use at once: nobody holds anything through it."""
    refused = await refusal_of(post_organization_deactivation(organization, caller, services))
    return await _done(services, caller, organization, refused)


@router.post(f"{HERE}/{{organization}}/reactivate", summary="Reactivate an organisation")
async def post_reactivate(organization: NameOfOrganization, caller: UsersAdmin, services: ServicesDep) -> Response:
    """Takes it into use again, with its teams and what they hold."""
    refused = await refusal_of(post_organization_reactivation(organization, caller, services))
    return await _done(services, caller, organization, refused)
