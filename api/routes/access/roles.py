"""Roles: what there are, and custom ones."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.denials import audited_denials
from api.dependencies import ActorDep, Caller, ServicesDep, require_platform
from api.errors import problems
from api.idempotency import OnceDep
from api.proof import require_recent_proof
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.roles import RoleView, change_role, create_role, delete_role, own_rights, role_by_name, roles
from domain.access.granting import check_grantable
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction

router = APIRouter(prefix="/api/v1/roles", tags=["access"], route_class=StrictRoute)

DESCRIPTION_LENGTH_MAX = 500

NameOfRole = Annotated[str, Path(description="Name of the role", max_length=64)]
RolesAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_ROLES)))]


class RoleRequest(BaseModel):
    """A role of your own. `*:*` is the admin role's alone; nobody bundles more than they hold themselves."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64)
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    permissions: list[Permission]


class RoleChange(BaseModel):
    """What shall change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    permissions: list[Permission] = Field(default=[], description="All that it bundles then")


class Role(BaseModel):
    """A role."""

    name: str
    description: str | None
    is_system: bool = Field(description="Comes with the platform and cannot be changed")
    permissions: list[str] = Field(description="Sorted; `*:*` is everything")
    created_at: AwareDatetime


def _shown(role: RoleView) -> Role:
    return Role.model_validate(role, from_attributes=True)


@router.get("", summary="List roles", responses=problems(401))
async def get_roles(_: ActorDep, services: ServicesDep) -> list[Role]:
    """Every role with what it bundles, by name; system roles and custom ones."""
    async with services.database.transaction() as session:
        return [_shown(role) for role in await roles(session)]


@router.post(
    "", status_code=201, summary="Make a role", response_model=Role, responses=problems(400, 401, 403, 409, 413, 422)
)
async def post_role(body: RoleRequest, caller: RolesAdmin, services: ServicesDep, once: OnceDep) -> Response:
    """Makes a custom role; nobody holds it until it is bound."""
    permissions = frozenset(permission.value for permission in body.permissions)

    async def change(session: Session) -> Role:
        await _check_mine(session, caller.actor, permissions)
        return _shown(await create_role(session, caller.actor, body.name, body.description, permissions))

    async with audited_denials(services, caller.actor, AuditAction.ROLE_CREATE, "role"):
        return await once.run(caller.actor, change)


async def _check_mine(session: Session, actor: Actor, permissions: frozenset[str]) -> None:
    own = await own_rights(session, actor.subject_id)
    check_grantable(actor, permissions, own, on_project=False)


@router.get("/{name}", summary="Read a role", responses=problems(400, 401, 404))
async def get_role(name: NameOfRole, _: ActorDep, services: ServicesDep) -> Role:
    """One role."""
    async with services.database.transaction() as session:
        return _shown(await role_by_name(session, name))


@router.patch("/{name}", summary="Change a role", responses=problems(400, 401, 403, 404, 409, 413))
async def patch_role(name: NameOfRole, body: RoleChange, caller: RolesAdmin, services: ServicesDep) -> Role:
    """Changes a custom role, for everybody who holds it, at once. Nobody adds what they do not hold themselves."""
    async with (
        audited_denials(services, caller.actor, AuditAction.ROLE_UPDATE, "role"),
        services.database.transaction() as session,
    ):
        role = await role_by_name(session, name)
        permissions = frozenset(role.permissions)
        if "permissions" in body.model_fields_set:
            permissions = frozenset(permission.value for permission in body.permissions)
            await _check_mine(session, caller.actor, permissions - frozenset(role.permissions))
        description = body.description if "description" in body.model_fields_set else role.description
        changed = await change_role(session, caller.actor, role, description=description, permissions=permissions)
    return _shown(changed)


@router.delete("/{name}", status_code=204, summary="Delete a role", responses=problems(400, 401, 403, 404, 409))
async def delete_role_by_name(name: NameOfRole, caller: RolesAdmin, services: ServicesDep) -> None:
    """Deletes a custom role that nobody holds."""
    async with services.database.transaction() as session:
        await delete_role(session, caller.actor, await role_by_name(session, name))
