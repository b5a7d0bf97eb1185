"""Roles with what they bundle; custom ones made, changed and deleted."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.idempotency import just_once
from api.pages.access.people import FormName
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.proof import SessionDep
from api.rendering import render
from api.routes.access.roles import (
    DESCRIPTION_LENGTH_MAX,
    NameOfRole,
    RoleChange,
    RoleRequest,
    RolesAdmin,
    delete_role_by_name,
    patch_role,
    post_role,
)
from api.services import Services
from database.store.access.roles import RoleView, roles
from domain.access.permissions import DESCRIPTIONS, Permission

router = APIRouter(include_in_schema=False)

HERE = "/roles"

FormDescription = Annotated[str, Form(max_length=DESCRIPTION_LENGTH_MAX)]
FormPermissions = Annotated[list[Permission] | None, Form()]


@dataclass(frozen=True, slots=True)
class RolesPage:
    """What ``access/roles.html`` shows.

    Attributes:
        may_change: Whether the forms are shown.
        error: Why the last attempt was refused.
    """

    frame: Frame
    roles: tuple[RoleView, ...]
    may_change: bool
    permissions: tuple[tuple[Permission, str], ...] = tuple(DESCRIPTIONS.items())
    error: str | None = None


@router.get(HERE, summary="Roles")
async def get_roles_page(caller: SessionDep, services: ServicesDep) -> Response:
    """Every role with what it bundles."""
    return await _page(services, caller)


async def _page(services: Services, caller: Caller, refused: Refusal | None = None) -> Response:
    async with services.database.transaction() as session:
        known = await roles(session)
    page = RolesPage(
        frame=frame_for(services, caller, section="people"),
        roles=tuple(known),
        may_change=caller.may(Permission.ADMIN_ROLES),
        error=refused.message if refused else None,
    )
    return render("access/roles.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


async def _done(services: Services, caller: Caller, refused: Refusal | None) -> Response:
    return RedirectResponse(HERE, status_code=303) if refused is None else await _page(services, caller, refused)


@router.post(HERE, summary="Make a role")
async def post_role_page(
    *,
    caller: RolesAdmin,
    services: ServicesDep,
    name: FormName,
    description: FormDescription = "",
    permissions: FormPermissions = None,
) -> Response:
    """Makes a custom role; nobody holds it until it is given."""
    body = RoleRequest(name=name.strip(), description=description.strip() or None, permissions=permissions or [])
    return await _done(services, caller, await refusal_of(post_role(body, caller, services, just_once(services))))


@router.post(f"{HERE}/{{name}}/change", summary="Change a role")
async def post_role_change(
    *,
    name: NameOfRole,
    caller: RolesAdmin,
    services: ServicesDep,
    description: FormDescription = "",
    permissions: FormPermissions = None,
) -> Response:
    """Changes a custom role for everybody who holds it, at once; what is not chosen is taken out of it."""
    body = RoleChange(description=description.strip() or None, permissions=permissions or [])
    return await _done(services, caller, await refusal_of(patch_role(name, body, caller, services)))


@router.post(f"{HERE}/{{name}}/delete", summary="Delete a role")
async def post_role_deletion(name: NameOfRole, caller: RolesAdmin, services: ServicesDep) -> Response:
    """Deletes a custom role that nobody holds."""
    return await _done(services, caller, await refusal_of(delete_role_by_name(name, caller, services)))
