"""Why somebody may do something or not, and who may do something."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from api.dependencies import (
    Caller,
    CallerDep,
    ProjectAccess,
    ReadAccess,
    ServicesDep,
    check_permission,
    require_platform,
    require_project,
)
from api.errors import problems
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.services import Services
from api.strict_route import StrictRoute
from database.store.access.exchange import names_of
from database.store.access.explain import Explanation, GrantingPath, Holder, explain, holders_of
from domain.access.decide import PLATFORM, Resource, Verdict, decide
from domain.access.permissions import PLATFORM_PERMISSIONS, Permission
from domain.actors import Actor
from domain.errors import InvalidInput, NotFound
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

HOLDERS: Listing[Holder, str] = Listing("holders", written=lambda one: (one.name,), read=lambda place: place[0])

ManageAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PROJECT_MANAGE))]
UsersAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_USERS))]
PermissionQuery = Annotated[Permission, Query(description="Asked about")]
UserQuery = Annotated[str | None, Query(max_length=64, description="Login name; yourself if left out")]


class Granting(BaseModel):
    """One way in which somebody comes to hold a permission."""

    path: str
    lenders: list[str] = Field(description="Who lent it, nearest first; empty for what one holds oneself")
    expires_at: AwareDatetime | None = Field(description="When it ends by itself")


class CredentialVerdict(BaseModel):
    """What the credential of this very request makes of it."""

    allowed: bool
    reason: str
    rights_of: str | None = Field(description="Whose rights an exchanged token gives; null: one's own")


class ExplainedVerdict(BaseModel):
    """Whether somebody may, and why."""

    user: str
    permission: Permission
    project: str | None = Field(description="Null: asked about the platform")
    allowed: bool
    reason: str = Field(description="The path that grants it, or what is missing")
    paths: list[Granting] = Field(description="All that grant it")
    missing: list[str] = Field(description="Where it is not allowed: what would have to be, and what is broken")
    with_this_credential: CredentialVerdict | None = Field(
        description="Asking about yourself: what your credential makes of it"
    )


class Who(BaseModel):
    """Somebody who may, with all paths."""

    user: str
    kind: str
    paths: list[Granting]


@router.get(
    "/projects/{owner}/{name}/access/explain",
    summary="Why somebody may do something on a project",
    responses=problems(400, 401, 403, 404),
)
async def get_project_explanation(
    access: ReadAccess, services: ServicesDep, permission: PermissionQuery, user: UserQuery = None
) -> ExplainedVerdict:
    """Why you, or with `project:manage` anybody, may do something here or not, with every path that grants it."""
    return await explained_to(services, Caller(access.actor, access.held), user, permission, access.project)


@router.get(
    "/access/explain", summary="Why somebody may do something everywhere", responses=problems(400, 401, 403, 404)
)
async def get_platform_explanation(
    caller: CallerDep, services: ServicesDep, permission: PermissionQuery, user: UserQuery = None
) -> ExplainedVerdict:
    """Why you, or with `admin:users` anybody, hold something everywhere or not, with every path that grants it."""
    return await explained_to(services, caller, user, permission, None)


@router.get(
    "/projects/{owner}/{name}/access/who",
    summary="Who may do something on a project",
    responses=problems(400, 401, 403, 404),
)
async def get_project_holders(
    request: Request,
    access: ManageAccess,
    services: ServicesDep,
    permission: PermissionQuery,
    *,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Who]:
    """Everybody who may, by name, each with every path; visibility lets others read, and is nobody's own path."""
    items, following = await who_may(services, permission, access.project, cursor, limit)
    return Page(items=items, next=next_url(request, following))


@router.get("/access/who", summary="Who may do something everywhere", responses=problems(400, 401, 403))
async def get_platform_holders(
    request: Request,
    caller: UsersAdmin,  # noqa: ARG001  # the proof that the permission is held
    services: ServicesDep,
    permission: PermissionQuery,
    *,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Who]:
    """Everybody who may everywhere, by name, each with every path; without those who may on some projects only."""
    items, following = await who_may(services, permission, None, cursor, limit)
    return Page(items=items, next=next_url(request, following))


async def who_may(
    services: Services, permission: Permission, project: ProjectView | None, cursor: str | None, limit: int
) -> tuple[list[Who], str | None]:
    """One page of those who may do something, and the cursor of the next; for the API and the pages.

    Args:
        project: Where; ``None`` for everywhere.

    Raises:
        InvalidInput: The permission is not about projects, or the cursor is of another list.
    """
    if project is not None:
        _check_place(permission, "who")
    after = HOLDERS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        found = await holders_of(session, permission, project.id if project else None, after=after, limit=limit + 1)
    page, following = HOLDERS.cut(services.secret_key, found, limit)
    return [Who(user=one.name, kind=one.kind, paths=_shown(one.paths)) for one in page], following


async def explained_to(
    services: Services, caller: Caller, user: str | None, permission: Permission, project: ProjectView | None
) -> ExplainedVerdict:
    """What the caller may know of why somebody may do something or not; for the API and the pages.

    Args:
        caller: With what they hold on ``project``, which they were found to see.
        user: Who is asked about; the caller if ``None``.
        project: ``None`` asks about the platform.

    Raises:
        InvalidInput: The permission is not about projects.
        PermissionMissing: The caller may not ask about others; an audit row tells of the attempt.
        NotFound: Nobody is called so.
    """
    if project is not None:
        _check_place(permission, "explain")
    resource = PLATFORM if project is None else project.resource
    if user not in (None, caller.actor.name):
        needed = Permission.ADMIN_USERS if project is None else Permission.PROJECT_MANAGE
        await check_permission(services, caller, needed, resource)
    answer = await explained(services, user or caller.actor.name, permission, resource)
    said = await _with_credential(services, caller, permission, resource) if answer.user == caller.actor.name else None
    where = None if project is None else project.full_name
    return answer.model_copy(update={"project": where, "with_this_credential": said})


async def _with_credential(
    services: Services, who: Caller, permission: Permission, resource: Resource
) -> CredentialVerdict:
    verdict = decide(who.actor, permission, resource, held=who.held)
    rights_of = None
    if who.actor.rights_of is not None:
        async with services.database.transaction() as session:
            rights_of = (await names_of(session, [who.actor.rights_of]))[who.actor.rights_of]
    return CredentialVerdict(allowed=verdict.allowed, reason=verdict.reason, rights_of=rights_of)


async def explained(services: Services, name: str, permission: Permission, resource: Resource) -> ExplainedVerdict:
    """What the verdict function says of an identity without a narrowing credential; for the API and the pages.

    Raises:
        NotFound: Nobody is called so.
    """
    async with services.database.transaction() as session:
        found = await explain(session, name, permission, resource.project_id)
    if found is None:
        raise NotFound(f"Nobody is called {name!r}.")
    verdict = _verdict(found, permission, resource)
    return ExplainedVerdict(
        user=found.name,
        permission=permission,
        project=None,
        allowed=verdict.allowed,
        reason=verdict.reason,
        paths=_shown(found.paths),
        missing=[] if verdict.allowed else _missing(found, permission, resource),
        with_this_credential=None,
    )


def _verdict(found: Explanation, permission: Permission, resource: Resource) -> Verdict:
    if not found.is_active:
        return Verdict(allowed=False, reason=f"{found.name} is deactivated")
    return decide(Actor(user_id=found.user_id, name=found.name), permission, resource, held=found.held)


def _missing(found: Explanation, permission: Permission, resource: Resource) -> list[str]:
    """What would have to be, the nearest first."""
    if not found.is_active:
        return [f"{found.name} would have to be reactivated"]
    where = "on the platform" if resource.project_id is None else "on the project or everywhere"
    wanted = [f"a role that bundles {permission.value} ({', '.join(found.roles)}), bound {where}"]
    if resource.project_id is not None and permission not in PLATFORM_PERMISSIONS:
        wanted.append("owning the project, by oneself or in the team owners of its organisation")
    wanted.append(f"somebody who holds {permission.value} there and lends it")
    return [*found.broken, *wanted]


def _check_place(permission: Permission, instead: str) -> None:
    if permission in PLATFORM_PERMISSIONS:
        raise InvalidInput(
            f"{permission.value} is about the platform as a whole; ask GET /api/v1/access/{instead} instead.",
            code="not_of_a_project",
        )


def _shown(paths: Iterable[GrantingPath]) -> list[Granting]:
    return [Granting(path=one.text, lenders=list(one.lenders), expires_at=one.expires_at) for one in paths]
