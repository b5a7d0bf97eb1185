"""The list of projects, and the page of one: branches, last commits, runs, how to push."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from starlette.responses import RedirectResponse, Response

from adapters.repositories.base import Branch, Commit
from api.dependencies import Caller, CallerDep, ReadAccess, ServicesDep, check_permission
from api.pages.frame import Frame, frame_for
from api.rendering import render
from api.routes.pipelines.runs import RUNS
from api.routes.pipelines.views import RunSummary, summarise
from api.routes.projects import PROJECTS
from api.services import Services
from database.models.pipelines import Pipeline
from database.store.access.visible import visible_projects
from database.store.pipelines.listing import listed_runs
from database.store.pipelines.overview import newest_run_of_commits, newest_runs
from database.store.projects import NewProject, create_project
from domain.access.decide import PLATFORM
from domain.access.permissions import Permission
from domain.errors import Conflict, InvalidInput, NotFound
from domain.pipelines.status import RunStatus
from domain.projects import ProjectView, Visibility, check_project_name, permissions_to_create

router = APIRouter(include_in_schema=False)

PROJECTS_SHOWN = 50
RUNS_SHOWN = 25
COMMITS_SHOWN = 8
BRANCHES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project in the list, with its newest run."""

    project: ProjectView
    newest: Pipeline | None


@dataclass(frozen=True, slots=True)
class ProjectsPage:
    """What ``projects/index.html`` shows.

    Attributes:
        may_create: Whether the form to make a project is shown.
        next_cursor: Where the next page begins.
        error: Why the form was refused; ``typed_name`` is shown again.
        push_url: Where a first push of the reader's own makes a project; ``NAME`` stands for its name.
    """

    frame: Frame
    rows: tuple[ProjectRow, ...]
    may_create: bool
    push_url: str
    next_cursor: str | None = None
    error: str | None = None
    typed_name: str = ""


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """What ``projects/show.html`` shows.

    Attributes:
        branch: Whose commits are shown; ``None`` for an empty repository.
        commit_runs: The newest run of each commit shown, by commit id.
        filters: The present choice of the runs: ``status``, ``ref`` and ``trigger``.
        next_cursor: Where the next page of runs begins.
        clone_url: For ``git clone`` and ``git push``.
        may_run: Whether the reader may trigger a run.
        may_manage: Whether the reader may see who may do what here.
    """

    frame: Frame
    project: ProjectView
    clone_url: str
    branches: tuple[Branch, ...]
    branch: Branch | None
    commits: tuple[Commit, ...]
    commit_runs: dict[str, Pipeline]
    runs: tuple[RunSummary, ...]
    filters: dict[str, str]
    statuses: tuple[str, ...]
    next_cursor: str | None
    may_run: bool
    may_manage: bool


@router.get("/", summary="Projects")
async def index(caller: CallerDep, services: ServicesDep, cursor: str | None = None) -> Response:
    """The projects that the reader may see."""
    return await _index(services, caller, cursor=cursor)


async def _index(
    services: Services,
    caller: Caller,
    *,
    cursor: str | None = None,
    error: str | None = None,
    typed_name: str = "",
) -> Response:
    after = PROJECTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        views = await visible_projects(session, caller.actor, after=after, limit=PROJECTS_SHOWN + 1)
        shown, following = PROJECTS.cut(services.secret_key, views, PROJECTS_SHOWN)
        newest = await newest_runs(session, [view.id for view in shown])
    page = ProjectsPage(
        frame=frame_for(services, caller),
        rows=tuple(ProjectRow(view, newest.get(view.id)) for view in shown),
        may_create=caller.may(Permission.PROJECT_CREATE) and caller.actor.session_id is not None,
        push_url=f"{services.public_url}/{caller.actor.name}/NAME.git",
        next_cursor=following,
        error=error,
        typed_name=typed_name,
    )
    return render("projects/index.html", status_code=400 if error else 200, frame=page.frame, page=page)


@router.post("/projects", summary="Make a project")
async def create(
    *,
    caller: CallerDep,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=200)],
    visibility: Annotated[Visibility, Form()] = "private",
) -> Response:
    """Makes an empty project of the reader's own and leads to its page; a refused name shows the form again."""
    owner = caller.actor.name
    for permission in permissions_to_create(is_own=True):
        await check_permission(services, caller, permission, PLATFORM)
    try:
        check_project_name(name)
        async with services.database.transaction() as session:
            new = NewProject(name=name, visibility=visibility)
            view = await create_project(session, caller.actor, owner, new)
    except (InvalidInput, Conflict) as refused:
        return await _index(services, caller, error=refused.message, typed_name=name)
    return RedirectResponse(f"/{view.full_name}", status_code=303)


@router.get("/{owner}/{name}", summary="A project")
async def show(
    *,
    services: ServicesDep,
    access: ReadAccess,
    branch: Annotated[str | None, Query(max_length=300)] = None,
    status: Annotated[RunStatus | Literal[""], Query()] = "",
    ref: Annotated[str, Query(max_length=1024)] = "",
    cursor: Annotated[str | None, Query(max_length=1024)] = None,
) -> Response:
    """Branches, commits of one of them, and runs."""
    before = RUNS.place(services.secret_key, cursor)
    branches = await _branches(services, access.project.id)
    chosen = _chosen(branches, branch, access.project.default_branch)
    commits: Sequence[Commit] = ()
    if chosen is not None:
        commits = await services.repositories.commits(access.project.id, chosen.commit.sha, limit=COMMITS_SHOWN)
    async with services.database.transaction() as session:
        commit_runs = await newest_run_of_commits(session, access.project.id, [commit.sha for commit in commits])
    runs = await listed_runs(
        services.database,
        access.project.id,
        status=status or None,
        git_ref=ref or None,
        before=before,
        limit=RUNS_SHOWN + 1,
    )
    shown, following = RUNS.cut(services.secret_key, runs, RUNS_SHOWN)
    page = ProjectPage(
        frame=frame_for(services, access),
        project=access.project,
        clone_url=f"{services.public_url}/{access.project.full_name}.git",
        branches=tuple(branches[:BRANCHES_SHOWN]),
        branch=chosen,
        commits=tuple(commits),
        commit_runs=commit_runs,
        runs=tuple(summarise(services, access.project.full_name, run) for run in shown),
        filters={"status": status, "ref": ref},
        statuses=tuple(RunStatus),
        next_cursor=following,
        may_run=access.may(Permission.PIPELINE_RUN) and access.actor.session_id is not None,
        may_manage=access.may(Permission.PROJECT_MANAGE),
    )
    return render("projects/show.html", frame=page.frame, page=page)


async def _branches(services: Services, project_id: UUID) -> list[Branch]:
    if not services.repositories.exists(project_id):
        return []
    return await services.repositories.branches(project_id)


def _chosen(branches: Sequence[Branch], wanted: str | None, default: str) -> Branch | None:
    by_name = {branch.name: branch for branch in branches}
    if wanted is not None:
        if wanted not in by_name:
            raise NotFound(f"There is no branch {wanted[:100]!r} here.")
        return by_name[wanted]
    return by_name.get(default) or (branches[0] if branches else None)
