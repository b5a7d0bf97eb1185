"""Bindings: who holds which role, everywhere or on one project."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.denials import audited_denials
from api.dependencies import Caller, ProjectAccess, ServicesDep, require_platform, require_project
from api.errors import problems
from api.idempotency import Once, OnceDep
from api.pagination import CursorQuery, LimitQuery, Listing, Page, newest_first, next_url
from api.proof import require_recent_proof
from api.services import Services
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.bindings import (
    BindingFilter,
    BindingView,
    bind,
    binding_by_id,
    bindings,
    holder_by_name,
    unbind,
)
from database.store.access.roles import own_rights, role_by_name
from domain.access.granting import check_grantable
from domain.access.identities import ADMINISTRATION
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

BINDINGS: Listing[BindingView, tuple[datetime, UUID]] = newest_first("bindings")

RolesAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_ROLES))]
ManageAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PROJECT_MANAGE))]
ProvenRolesAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_ROLES)))]
ProvenManageAccess = Annotated[ProjectAccess, Depends(require_recent_proof(require_project(Permission.PROJECT_MANAGE)))]

RoleQuery = Annotated[str | None, Query(max_length=64, description="Only of this role")]
HolderQuery = Annotated[str | None, Query(max_length=130, description="Only of `ann`, `acme` or `acme/backend`")]


class BindingRequest(BaseModel):
    """Who shall hold what. Nobody gives more than they hold there themselves, or for longer."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(max_length=64)
    holder: str = Field(
        max_length=130,
        description="Login name, an organisation (all its members then), or a team as `organisation/team`",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="When it ends by itself")


class Binding(BaseModel):
    """A role that somebody holds."""

    id: UUID
    role: str
    holder: str
    holder_kind: str = Field(description="`user`, `agent`, `service`, `organization` or `team`")
    project: str | None = Field(description="`owner/name`; null if it is good everywhere")
    by_group: bool = Field(description="Whether a group of an identity provider led to it")
    granted_by: str | None
    expires_at: AwareDatetime | None
    created_at: AwareDatetime


def _shown(view: BindingView) -> Binding:
    return Binding.model_validate(view, from_attributes=True)


@router.get("/roles/bindings", summary="List who holds which role", responses=problems(400, 401, 403))
async def get_bindings(
    *,
    request: Request,
    caller: RolesAdmin,  # noqa: ARG001  # the proof that the permission is held
    services: ServicesDep,
    role: RoleQuery = None,
    holder: HolderQuery = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Binding]:
    """All bindings that are good now, those on projects too, newest first."""
    return await _listed(services, request, BindingFilter(role=role, holder=holder), cursor, limit)


@router.get(
    "/projects/{owner}/{name}/access/bindings",
    summary="List who holds which role on a project",
    responses=problems(400, 401, 403, 404),
)
async def get_project_bindings(
    *,
    request: Request,
    access: ManageAccess,
    services: ServicesDep,
    role: RoleQuery = None,
    holder: HolderQuery = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Binding]:
    """The bindings on this project that are good now, newest first; without those that are good everywhere."""
    which = BindingFilter(project_id=access.project.id, role=role, holder=holder)
    return await _listed(services, request, which, cursor, limit)


async def _listed(
    services: Services, request: Request, which: BindingFilter, cursor: str | None, limit: int
) -> Page[Binding]:
    before = BINDINGS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        rows = await bindings(session, which, before=before, limit=limit + 1)
    page, following = BINDINGS.cut(services.secret_key, rows, limit)
    return Page(items=[_shown(row) for row in page], next=next_url(request, following))


@router.post(
    "/roles/bindings",
    status_code=201,
    summary="Give a role",
    response_model=Binding,
    responses=problems(400, 401, 403, 404, 409, 413, 422),
)
async def post_binding(
    body: BindingRequest, caller: ProvenRolesAdmin, services: ServicesDep, once: OnceDep
) -> Response:
    """Gives a role that is good everywhere."""
    return await _bound(services, once, caller.actor, body, None)


@router.post(
    "/projects/{owner}/{name}/access/bindings",
    status_code=201,
    summary="Give a role on a project",
    response_model=Binding,
    responses=problems(400, 401, 403, 404, 409, 413, 422),
)
async def post_project_binding(
    body: BindingRequest, access: ProvenManageAccess, services: ServicesDep, once: OnceDep
) -> Response:
    """Gives a role that is good on this project; what it holds about the platform gives nothing here."""
    return await _bound(services, once, access.actor, body, access.project.id)


async def _bound(
    services: Services, once: Once, actor: Actor, body: BindingRequest, project_id: UUID | None
) -> Response:
    async def change(session: Session) -> Binding:
        role = await role_by_name(session, body.role)
        own = await own_rights(session, actor.subject_id, project_id)
        check_grantable(
            actor, frozenset(role.permissions), own, on_project=project_id is not None, until=body.expires_at
        )
        holder = await holder_by_name(session, body.holder)
        made = await bind(session, actor, role, holder, project_id=project_id, expires_at=body.expires_at)
        return _shown(made)

    async with audited_denials(services, actor, AuditAction.BINDING_CREATE, "binding", project_id=project_id):
        return await once.run(actor, change)


@router.delete(
    "/roles/bindings/{binding_id}",
    status_code=204,
    summary="Take a role",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_binding(binding_id: UUID, caller: ProvenRolesAdmin, services: ServicesDep) -> None:
    """Takes a role that is good everywhere, at once; that of an administrator only for another administrator."""
    actor = caller.actor
    async with (
        audited_denials(services, actor, AuditAction.BINDING_DELETE, "binding", binding_id),
        services.database.transaction() as session,
    ):
        binding = await binding_by_id(session, binding_id, None)
        role = await role_by_name(session, binding.role)
        # Taking needs the same right as giving, however long one has it oneself.
        own = dict.fromkeys(await own_rights(session, actor.subject_id))
        check_grantable(actor, frozenset(role.permissions) & ADMINISTRATION, own, on_project=False)
        await _taken(session, actor, binding)


@router.delete(
    "/projects/{owner}/{name}/access/bindings/{binding_id}",
    status_code=204,
    summary="Take a role on a project",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_project_binding(binding_id: UUID, access: ProvenManageAccess, services: ServicesDep) -> None:
    """Takes a role on this project, at once."""
    async with services.database.transaction() as session:
        binding = await binding_by_id(session, binding_id, access.project.id)
        await _taken(session, access.actor, binding)


async def _taken(session: Session, actor: Actor, binding: BindingView) -> None:
    if not await unbind(session, actor, binding):
        raise NotFound("There is no such binding here, or it ended.", code="no_such_binding")
