"""Why somebody may do something or not, and who may do something on a project, with the roles that are bound there."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ProjectAccess, ServicesDep
from api.idempotency import just_once
from api.pages.access.people import DAYS_MAX, FormDays, FormName, until
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.pages.more import more_url
from api.pagination import CursorQuery
from api.proof import SessionDep
from api.rendering import render
from api.routes.access.bindings import (
    BINDINGS,
    BindingRequest,
    ManageAccess,
    ProvenManageAccess,
    delete_project_binding,
    post_project_binding,
)
from api.routes.access.delegations import readable_project
from api.routes.access.explain import ExplainedVerdict, UsersAdmin, Who, explained_to, who_may
from api.services import Services
from database.store.access.bindings import BindingFilter, BindingView, bindings
from database.store.access.rights import held_by
from database.store.access.roles import RoleView, roles
from domain.access.permissions import DESCRIPTIONS, PLATFORM_PERMISSIONS, Permission
from domain.errors import InvalidInput, NotFound, PermissionMissing
from domain.projects import ProjectView

router = APIRouter(include_in_schema=False)

HOLDERS_SHOWN_MAX = 50
BINDINGS_SHOWN_MAX = 100
PROJECT_LENGTH_MAX = 130

OF_PROJECTS = tuple(permission for permission in Permission if permission not in PLATFORM_PERMISSIONS)


@dataclass(frozen=True, slots=True)
class WhyPage:
    """What ``access/why.html`` shows.

    Attributes:
        asked: The present question: ``user``, ``permission`` and ``project``.
        answer: ``None`` before something was asked, and where it was refused.
        administers: Whether the reader may ask who may do something everywhere.
    """

    frame: Frame
    asked: dict[str, str]
    administers: bool
    answer: ExplainedVerdict | None = None
    error: str | None = None
    permissions: tuple[tuple[Permission, str], ...] = tuple(DESCRIPTIONS.items())


@dataclass(frozen=True, slots=True)
class WhoPage:
    """What ``access/who.html`` shows: who may do something everywhere.

    Attributes:
        next_url: Where the next page is.
    """

    frame: Frame
    permission: Permission
    holders: tuple[Who, ...]
    next_url: str | None
    permissions: tuple[Permission, ...] = tuple(Permission)


@dataclass(frozen=True, slots=True)
class ProjectAccessPage:
    """What ``access/project.html`` shows.

    Attributes:
        permission: Who holds it is shown.
        next_url: Where the next page of them is.
        bindings: Roles that are bound on the project.
        more_bindings: Where the next page of those is.
        all_bound: Whether these are all of them.
        may_bind: Whether there is a browser session to give and take roles with.
        error: Why the last attempt was refused.
    """

    frame: Frame
    project: ProjectView
    permission: Permission
    permissions: tuple[Permission, ...]
    holders: tuple[Who, ...]
    next_url: str | None
    bindings: tuple[BindingView, ...]
    more_bindings: str | None
    all_bound: bool
    roles: tuple[RoleView, ...]
    may_bind: bool
    days_max: int = DAYS_MAX
    error: str | None = None


@router.get("/access/why", summary="Why somebody may do something")
async def get_why(
    *,
    caller: SessionDep,
    services: ServicesDep,
    user: Annotated[str, Query(max_length=64)] = "",
    permission: Annotated[Permission | Literal[""], Query()] = "",
    project: Annotated[str, Query(max_length=PROJECT_LENGTH_MAX)] = "",
) -> Response:
    """Every path that gives somebody a permission, or what is missing."""
    user, project = user.strip(), project.strip()
    frame = frame_for(services, caller, section="people")
    asked = {"user": user, "permission": permission, "project": project}
    administers = caller.may(Permission.ADMIN_USERS)
    page, status_code = WhyPage(frame, asked, administers), 200
    if permission:
        try:
            page = WhyPage(frame, asked, administers, await _answer(services, caller, user, permission, project))
        except (InvalidInput, NotFound, PermissionMissing) as refused:
            page, status_code = WhyPage(frame, asked, administers, error=refused.message), refused.status
    return render("access/why.html", status_code=status_code, page=page, frame=frame)


async def _answer(
    services: Services, caller: Caller, user: str, permission: Permission, project: str
) -> ExplainedVerdict:
    if not project:
        return await explained_to(services, caller, user or None, permission, None)
    found = await readable_project(services, caller.actor, project)
    async with services.database.transaction() as session:
        held = await held_by(session, caller.actor.subject_id, found.id)
    return await explained_to(services, Caller(caller.actor, held), user or None, permission, found)


@router.get("/access/who", summary="Who may do what everywhere")
async def get_who(
    caller: UsersAdmin,
    services: ServicesDep,
    permission: Annotated[Permission, Query()] = Permission.ADMIN_USERS,
    cursor: CursorQuery = None,
) -> Response:
    """Everybody who may do something everywhere, with every path."""
    holders, following = await who_may(services, permission, None, cursor, HOLDERS_SHOWN_MAX)
    page = WhoPage(
        frame=frame_for(services, caller, section="people"),
        permission=permission,
        holders=tuple(holders),
        next_url=more_url("/access/who", following, permission=permission),
    )
    return render("access/who.html", page=page, frame=page.frame)


@router.get("/{owner}/{name}/access", summary="Who may do what on a project")
async def get_project_access(
    *,
    access: ManageAccess,
    services: ServicesDep,
    permission: Annotated[Permission, Query()] = Permission.PROJECT_READ,
    cursor: CursorQuery = None,
    bound: CursorQuery = None,
) -> Response:
    """Everybody who may do something here, with every path, and the roles that are bound on the project."""
    return await _project(services, access, permission=permission, cursor=cursor, bound=bound)


async def _project(
    services: Services,
    access: ProjectAccess,
    *,
    permission: Permission = Permission.PROJECT_READ,
    cursor: str | None = None,
    bound: str | None = None,
    refused: Refusal | None = None,
) -> Response:
    """The page; ``cursor`` and ``bound`` are the cursors of its two lists."""
    here, key, project = f"/{access.project.full_name}/access", services.secret_key, access.project
    holders, following = await who_may(services, permission, project, cursor, HOLDERS_SHOWN_MAX)
    before = BINDINGS.place(key, bound)
    async with services.database.transaction() as session:
        which = BindingFilter(project_id=project.id)
        rows = await bindings(session, which, before=before, limit=BINDINGS_SHOWN_MAX + 1)
        known = await roles(session)
    held, after_held = BINDINGS.cut(key, rows, BINDINGS_SHOWN_MAX)
    page = ProjectAccessPage(
        frame=frame_for(services, access),
        project=project,
        permission=permission,
        permissions=OF_PROJECTS,
        holders=tuple(holders),
        next_url=more_url(here, following, permission=permission, bound=bound),
        bindings=tuple(held),
        more_bindings=more_url(here, after_held, parameter="bound", permission=permission, cursor=cursor),
        all_bound=bound is None and after_held is None,
        roles=tuple(known),
        may_bind=access.actor.session_id is not None,
        error=refused.message if refused else None,
    )
    return render("access/project.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


async def _done(services: Services, access: ProjectAccess, refused: Refusal | None) -> Response:
    if refused is not None:
        return await _project(services, access, refused=refused)
    return RedirectResponse(f"/{access.project.full_name}/access", status_code=303)


@router.post("/{owner}/{name}/access/roles", summary="Give a role on a project")
async def post_project_role(
    *,
    access: ProvenManageAccess,
    services: ServicesDep,
    role: FormName,
    holder: Annotated[str, Form(max_length=PROJECT_LENGTH_MAX)],
    days: FormDays = None,
) -> Response:
    """Gives a role that is good on this project, for some days or without an end."""
    body = BindingRequest(role=role, holder=holder.strip(), expires_at=until(days))
    attempt = post_project_binding(body, access, services, just_once(services))
    return await _done(services, access, await refusal_of(attempt))


@router.post("/{owner}/{name}/access/roles/{binding_id}/take", summary="Take a role on a project")
async def post_project_role_taken(binding_id: UUID, access: ProvenManageAccess, services: ServicesDep) -> Response:
    """Takes a role on this project, at once."""
    attempt = delete_project_binding(binding_id, access, services)
    return await _done(services, access, await refusal_of(attempt))
