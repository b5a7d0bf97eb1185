"""Organisations: made, listed, changed, taken out of use and back."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.denials import audited_denials
from api.dependencies import Caller, CallerDep, ServicesDep, require_platform
from api.errors import problems
from api.idempotency import OnceDep
from api.organizations import NO_SUCH_ORGANIZATION, member_of, owner_of
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.identities import change_identity, deactivate, identity_by_name, reactivate
from database.store.access.organizations import OrganizationView, create_organization, organizations
from domain.access.granting import check_in_own_name
from domain.access.identities import NAME_LENGTH_MAX, Identity
from domain.access.permissions import Permission
from domain.audit.actions import AuditAction
from domain.errors import NotFound
from domain.projects import DISPLAY_NAME_LENGTH_MAX

router = APIRouter(prefix="/api/v1/organizations", tags=["access"], route_class=StrictRoute)

ORGANIZATIONS: Listing[OrganizationView, str] = Listing(
    "organizations", written=lambda one: (one.name,), read=lambda place: place[0]
)

NameOfOrganization = Annotated[str, Path(description="Name of the organisation", max_length=64)]
OrganizationMaker = Annotated[Caller, Depends(require_platform(Permission.ORGANIZATION_CREATE))]
UsersAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_USERS))]


class OrganizationRequest(BaseModel):
    """A new organisation; you own it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64, description=f"1 to {NAME_LENGTH_MAX} of a-z, 0-9 and inner `-`; not a login name")
    display_name: str | None = Field(default=None, max_length=DISPLAY_NAME_LENGTH_MAX)


class OrganizationChange(BaseModel):
    """What shall change."""

    model_config = ConfigDict(extra="forbid")

    display_name: str | None = Field(max_length=DISPLAY_NAME_LENGTH_MAX)


class Organization(BaseModel):
    """An organisation."""

    id: UUID
    name: str
    display_name: str | None
    is_active: bool
    created_at: AwareDatetime


class ReadOrganization(Organization):
    """An organisation with what the reader is in it."""

    you_are: Literal["owner", "member", "administrator"]


def _shown(view: OrganizationView | Identity) -> Organization:
    return Organization.model_validate(view, from_attributes=True)


@router.post(
    "",
    status_code=201,
    summary="Make an organisation",
    response_model=Organization,
    responses=problems(400, 401, 403, 409, 413, 422),
)
async def post_organization(
    body: OrganizationRequest, caller: OrganizationMaker, services: ServicesDep, once: OnceDep
) -> Response:
    """Makes an organisation with a team `owners` that you are in. It shares its name with nobody."""
    async with audited_denials(services, caller.actor, AuditAction.ORGANIZATION_CREATE, "user"):
        check_in_own_name(caller.actor)

    async def change(session: Session) -> Organization:
        return _shown(await create_organization(session, caller.actor, body.name, body.display_name))

    return await once.run(caller.actor, change)


@router.get("", summary="List organisations", responses=problems(400, 401))
async def get_organizations(
    request: Request, caller: CallerDep, services: ServicesDep, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> Page[Organization]:
    """The organisations that you are in, by name; all of them for administrators of users."""
    after = ORGANIZATIONS.place(services.secret_key, cursor)
    member_id = None if caller.may(Permission.ADMIN_USERS) else caller.actor.user_id
    async with services.database.transaction() as session:
        rows = await organizations(session, member_id=member_id, after=after, limit=limit + 1)
    page, following = ORGANIZATIONS.cut(services.secret_key, rows, limit)
    return Page(items=[_shown(row) for row in page], next=next_url(request, following))


@router.get("/{organization}", summary="Read an organisation", responses=problems(400, 401, 404))
async def get_organization(
    organization: NameOfOrganization, caller: CallerDep, services: ServicesDep
) -> ReadOrganization:
    """An organisation that you are in."""
    found = await member_of(services, caller, organization)
    return ReadOrganization(**_shown(found.organization).model_dump(), you_are=found.as_what)


@router.patch("/{organization}", summary="Change an organisation", responses=problems(400, 401, 403, 404, 413))
async def patch_organization(
    organization: NameOfOrganization, body: OrganizationChange, caller: CallerDep, services: ServicesDep
) -> Organization:
    """Calls it something else for people, if you own it; its name in addresses stays."""
    found = await owner_of(services, caller, organization, AuditAction.ORGANIZATION_UPDATE)
    async with services.database.transaction() as session:
        changes = {"display_name": body.display_name}
        return _shown(await change_identity(session, found.actor, found.organization, changes))


@router.post(
    "/{organization}/deactivation",
    summary="Deactivate an organisation",
    responses=problems(400, 401, 403, 404, 409),
)
async def post_organization_deactivation(
    organization: NameOfOrganization, caller: UsersAdmin, services: ServicesDep
) -> Organization:
    """Takes an organisation out of use: its members hold nothing through it until it is reactivated."""
    async with services.database.transaction() as session:
        await deactivate(session, caller.actor, await _organization(session, organization))
        return _shown(await _organization(session, organization))


@router.post(
    "/{organization}/reactivation",
    summary="Reactivate an organisation",
    responses=problems(400, 401, 403, 404),
)
async def post_organization_reactivation(
    organization: NameOfOrganization, caller: UsersAdmin, services: ServicesDep
) -> Organization:
    """Takes an organisation into use again, with its teams and what they hold."""
    async with services.database.transaction() as session:
        await reactivate(session, caller.actor, await _organization(session, organization))
        return _shown(await _organization(session, organization))


async def _organization(session: Session, name: str) -> Identity:
    found = await identity_by_name(session, name)
    if found is None or found.kind != "organization":
        raise NotFound(NO_SUCH_ORGANIZATION, code="no_such_organization")
    return found
