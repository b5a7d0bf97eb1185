"""Projects: make, list, read, change, delete."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.dependencies import (
    ActorDep,
    CallerDep,
    DeleteAccess,
    ReadAccess,
    ServicesDep,
    WriteAccess,
)
from api.errors import problems
from api.idempotency import OnceDep
from api.organizations import check_may_create
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.services import Services
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.visible import visible_projects
from database.store.projects import NewProject, change_project, create_project, delete_project
from domain.errors import InvalidInput
from domain.git.refs import ref_name_problem
from domain.projects import (
    DESCRIPTION_LENGTH_MAX,
    DISPLAY_NAME_LENGTH_MAX,
    NAME_LENGTH_MAX,
    ProjectView,
    Visibility,
    check_project_name,
)

router = APIRouter(prefix="/api/v1/projects", tags=["projects"], route_class=StrictRoute)

PROJECTS: Listing[ProjectView, tuple[str, str]] = Listing(
    "projects", written=lambda view: (view.owner_name, view.name), read=lambda place: (place[0], place[1])
)
"""Sorted by owner and name."""

DisplayName = Annotated[str | None, Field(max_length=DISPLAY_NAME_LENGTH_MAX)]
Description = Annotated[str | None, Field(max_length=DESCRIPTION_LENGTH_MAX)]
Branch = Annotated[str, Field(min_length=1, max_length=200)]


class ProjectRequest(BaseModel):
    """A project to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200, description=f"Lower-case, at most {NAME_LENGTH_MAX} characters; in addresses")
    owner: str | None = Field(
        default=None, max_length=64, description="Login name; yourself if left out. Another needs admin:users"
    )
    visibility: Visibility = "private"
    display_name: DisplayName = None
    description: Description = None
    default_branch: Branch = "main"


class ProjectChange(BaseModel):
    """What shall change; a field that is left out stays (RFC 7396)."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility = "private"
    display_name: DisplayName = None
    description: Description = None
    default_branch: Branch = "main"


class Project(BaseModel):
    """A project."""

    id: UUID
    owner: str
    name: str
    full_name: str
    display_name: str | None
    description: str | None
    visibility: Visibility
    default_branch: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    url: str = Field(description="Its page")
    clone_url: str = Field(description="For `git clone` and `git push`; the password is an API token")


def shown(services: Services, view: ProjectView) -> Project:
    """A project as the API shows it."""
    page = f"{services.public_url}/{view.full_name}"
    return Project(
        id=view.id,
        owner=view.owner_name,
        name=view.name,
        full_name=view.full_name,
        display_name=view.display_name,
        description=view.description,
        visibility=view.visibility,
        default_branch=view.default_branch,
        created_at=view.created_at,
        updated_at=view.updated_at,
        url=page,
        clone_url=f"{page}.git",
    )


@router.post(
    "",
    status_code=201,
    summary="Make a project",
    response_model=Project,
    responses=problems(400, 401, 403, 404, 409, 413, 422),
)
async def post_project(body: ProjectRequest, caller: CallerDep, services: ServicesDep, once: OnceDep) -> Response:
    """Makes an empty project; its repository takes a push at once. A push to a name of your own makes one too."""
    owner = body.owner or caller.actor.name
    await check_may_create(services, caller, owner)
    check_project_name(body.name)
    _check_branch(body.default_branch)

    async def change(session: Session) -> Project:
        new = NewProject(
            name=body.name,
            visibility=body.visibility,
            display_name=body.display_name,
            description=body.description,
            default_branch=body.default_branch,
        )
        return shown(services, await create_project(session, caller.actor, owner, new))

    return await once.run(caller.actor, change)


@router.get("", summary="List projects", responses=problems(400, 401))
async def get_projects(
    *,
    request: Request,
    actor: ActorDep,
    services: ServicesDep,
    owner: Annotated[str | None, Query(max_length=64, description="Only projects of this owner")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Project]:
    """The projects that you may read, sorted by owner and name."""
    after = PROJECTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        views = await visible_projects(session, actor, after=after, limit=limit + 1, owner=owner)
    page, following = PROJECTS.cut(services.secret_key, views, limit)
    return Page(items=[shown(services, view) for view in page], next=next_url(request, following))


@router.get("/{owner}/{name}", summary="Read a project", responses=problems(400, 401, 404))
async def get_project(access: ReadAccess, services: ServicesDep) -> Project:
    """One project."""
    return shown(services, access.project)


@router.patch("/{owner}/{name}", summary="Change a project", responses=problems(400, 401, 403, 404, 413))
async def patch_project(body: ProjectChange, access: WriteAccess, services: ServicesDep) -> Project:
    """Changes the fields that are sent and leaves the others."""
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set)
    if "default_branch" in changes:
        _check_branch(changes["default_branch"])
    async with services.database.transaction() as session:
        view = await change_project(session, access.actor, access.project, changes)
    if "default_branch" in changes and services.repositories.exists(view.id):
        await services.repositories.ensure(view.id, default_branch=view.default_branch)
    return shown(services, view)


@router.delete("/{owner}/{name}", status_code=204, summary="Delete a project", responses=problems(400, 401, 403, 404))
async def delete_project_route(access: DeleteAccess, services: ServicesDep) -> None:
    """Takes the project out of use: nobody reaches it any more, and its name stays reserved.

    Rows, history and repository stay on the server, so that an operator can undo it; the name stays reserved so that
    an old address never leads to somebody else's code.
    """
    async with services.database.transaction() as session:
        await delete_project(session, access.actor, access.project)


def _check_branch(name: str) -> None:
    problem = ref_name_problem(f"refs/heads/{name}")
    if problem is not None:
        raise InvalidInput(f"A branch cannot be called {name[:80]!r}: it {problem}.", code="invalid_branch")
