"""The page of a run: its state, its steps as a graph, the log of one of them, artifacts, and what can be done."""

import asyncio
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from markupsafe import Markup
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.dependencies import ProjectAccess, ReadAccess, RunAccess, ServicesDep
from api.pages.ansi import Style, draw_rows, render_lines
from api.pages.frame import Frame, frame_for
from api.pages.graph import Graph, draw
from api.pages.log_window import LineIndex, Window, tail, window_before, window_from
from api.rendering import render
from api.routes.pipelines.logs import StepPath, found_step
from api.routes.pipelines.orders import cancel_run, make_runs, repeat_of, start_runs
from api.routes.pipelines.runs import found_run
from api.routes.pipelines.triggering import Wish, prepare
from api.routes.pipelines.views import ArtifactView, RunView, StepView, api_run_url, view_artifact, view_run
from api.services import Services
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.artifacts import artifacts_of_run
from database.store.pipelines.steps import steps_of
from domain.access.permissions import Permission
from domain.errors import InvalidInput, NotFound
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.status import RUN_ENDED, STEP_ENDED, StepStatus
from domain.projects import ProjectView

router = APIRouter(include_in_schema=False)

PAGE = "/{owner}/{name}/pipelines/{run_id}"
VARIABLES_LINES_MAX = 100


@dataclass(frozen=True, slots=True)
class LogView:
    """The log of the chosen step, as far as the page itself has it.

    Attributes:
        parts: Rendered rows; their numbers begin with ``first_line``.
        next_line: The number of the first line that the page does not have.
        next_offset: Where that begins.
        style: SGR parameters in force there.
        is_live: Whether more may come.
        raw_url: All of it as text.
    """

    parts: tuple[Markup, ...]
    first_line: int
    next_line: int
    next_offset: int
    style: str
    is_live: bool
    raw_url: str
    stream_url: str
    lines_url: str


@dataclass(frozen=True, slots=True)
class RunPage:
    """What ``pipelines/show.html`` and its live part ``pipelines/state.html`` show.

    Attributes:
        event_seq: The number of the newest event that the page has seen; it follows from there.
        step: The chosen one, whose log is shown; ``None`` for a run without steps.
        log: ``None`` in the live part, which leaves the log alone.
        may_run: Whether the reader may cancel and repeat.
        ended: Whether the run has.
    """

    frame: Frame
    project: ProjectView
    run: RunView
    event_seq: int
    graph: Graph
    steps: dict[str, StepView]
    step: StepView | None
    artifacts: tuple[ArtifactView, ...]
    log: LogView | None
    may_run: bool
    ended: bool
    path: str
    events_url: str


def line_index_of(request: Request, services: Services) -> LineIndex:
    """The application's memory of line numbers."""
    state = request.app.state
    if not hasattr(state, "line_index"):
        state.line_index = LineIndex(services)
    index: LineIndex = state.line_index
    return index


@router.get(PAGE, summary="A run")
async def show(
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    step: Annotated[str | None, Query(max_length=63)] = None,
) -> Response:
    """The whole page."""
    page = await _page(request, services, access, run_id, step, with_log=True)
    return render("pipelines/show.html", frame=page.frame, page=page)


@router.get(PAGE + "/state", summary="The live part of a run's page")
async def state(
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    step: Annotated[str | None, Query(max_length=63)] = None,
) -> Response:
    """Fetched by the page whenever something happened to the run."""
    page = await _page(request, services, access, run_id, step, with_log=False)
    return render("pipelines/state.html", frame=page.frame, page=page)


async def _page(
    request: Request, services: Services, access: ProjectAccess, run_id: UUID, wanted: str | None, *, with_log: bool
) -> RunPage:
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
        rows = await steps_of(session, run.id)
        kept = await artifacts_of_run(session, run.id)
    view = view_run(services, access.project.full_name, run, rows)
    chosen = _chosen(rows, wanted)
    api_url = api_run_url(access.project.full_name, run.id)
    path = f"/{access.project.full_name}/pipelines/{run.id}"
    log = await _log(line_index_of(request, services), services, chosen, api_url, path) if with_log and chosen else None
    names = {row.id: row.name for row in rows}
    return RunPage(
        frame=frame_for(services, access),
        project=access.project,
        run=view,
        event_seq=run.event_seq,
        graph=draw(view.steps),
        steps={step.name: step for step in view.steps},
        step=next((step for step in view.steps if chosen is not None and step.name == chosen.name), None),
        artifacts=tuple(view_artifact(api_url, names[artifact.step_id], artifact) for artifact in kept),
        log=log,
        may_run=access.may(Permission.PIPELINE_RUN) and access.actor.session_id is not None,
        ended=view.status in RUN_ENDED,
        path=path,
        events_url=f"{api_url}/events",
    )


def _chosen(steps: list[PipelineStep], wanted: str | None) -> PipelineStep | None:
    """The step asked for; else the one that a reader came for: it failed, or runs, or ran last."""
    if wanted is not None:
        for step in steps:
            if step.name == wanted:
                return step
        raise NotFound(f"There is no step {wanted!r} in this run.")
    bad = (StepStatus.FAILURE, StepStatus.ERROR, StepStatus.LOST)
    for interesting in (bad, (StepStatus.RUNNING,)):
        for step in steps:
            if step.status in interesting:
                return step
    ran = [step for step in steps if step.started_at is not None]
    return ran[-1] if ran else (steps[0] if steps else None)


async def _log(index: LineIndex, services: Services, step: PipelineStep, api_url: str, path: str) -> LogView:
    ended = step.status in STEP_ENDED
    window = await tail(index, services, step.id, step.log_size_bytes, ended=ended)
    # A thread, because a megabyte of colours takes longer than another request should wait.
    parts, style = await asyncio.to_thread(_draw, window, step.name)
    name = quote(step.name, safe="")
    return LogView(
        parts=parts,
        first_line=window.first_line,
        next_line=window.next_line,
        next_offset=window.end_offset,
        style=style.sequence(),
        is_live=not ended,
        raw_url=f"{api_url}/steps/{name}/log",
        stream_url=f"{api_url}/steps/{name}/log/stream",
        lines_url=f"{path}/steps/{name}/lines",
    )


def _draw(window: Window, step: str) -> tuple[tuple[Markup, ...], Style]:
    lines, style = render_lines(window.text)
    return draw_rows(lines, step, window.first_line), style


@router.get(PAGE + "/steps/{step}/lines", summary="Lines of a log for the page of its run")
async def lines(
    *,
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    step: StepPath,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    start: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> JSONResponse:
    """The lines before ``before``, or those from ``start`` on."""
    row = await found_step(services, access, run_id, step)
    index = line_index_of(request, services)
    if before is not None:
        window = await window_before(index, services, row.id, before, row.log_size_bytes)
    else:
        window = await window_from(index, services, row.id, start or 1, row.log_size_bytes)
    return JSONResponse(_json(window, row))


def _json(window: Window, step: PipelineStep) -> dict[str, object]:
    return {
        "first_line": window.first_line,
        "next_line": window.next_line,
        "end_offset": window.end_offset,
        "at_end": window.end_offset >= step.log_size_bytes,
        "text": window.text,
    }


@router.post("/{owner}/{name}/pipelines", summary="Run a branch")
async def trigger(
    services: ServicesDep,
    access: RunAccess,
    ref: Annotated[str, Form(min_length=1, max_length=1024)],
    variables: Annotated[str, Form(max_length=32768)] = "",
) -> Response:
    """Starts the pipelines of a ref; leads to the run, or to the list if there are several."""
    wish = Wish(ref.strip(), TriggerEvent.MANUAL, _variables(variables))
    prepared = await prepare(services, access, wish)
    async with services.database.transaction() as session:
        made = await make_runs(session, access.project.full_name, prepared.new)
    await start_runs(services, made)
    where = f"/{access.project.full_name}"
    if len(made) == 1:
        where += f"/pipelines/{made[0].created.run_id}"
    return RedirectResponse(where, status_code=303)


def _variables(text: str) -> dict[str, str]:
    """``NAME=value`` lines."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise InvalidInput(f"Line {number} of the variables is not NAME=value: {line[:80]!r}. Nothing was started.")
        found[name.strip()] = value.strip()
    return found


@router.post(PAGE + "/cancel", summary="Cancel a run")
async def cancel(
    services: ServicesDep, access: RunAccess, run_id: UUID, reason: Annotated[str, Form(max_length=500)] = ""
) -> Response:
    """Leads back to the page, also if the run has ended meanwhile."""
    run = await _found(services, access, run_id)
    if run.status not in RUN_ENDED:
        await cancel_run(services, access.actor, run, reason.strip() or None)
    return RedirectResponse(f"/{access.project.full_name}/pipelines/{run_id}", status_code=303)


@router.post(PAGE + "/rerun", summary="Run it again")
async def rerun(services: ServicesDep, access: RunAccess, run_id: UUID) -> Response:
    """Leads to the new run."""
    new = repeat_of(access.actor, await _found(services, access, run_id))
    async with services.database.transaction() as session:
        made = await make_runs(session, access.project.full_name, (new,))
    await start_runs(services, made)
    return RedirectResponse(f"/{access.project.full_name}/pipelines/{made[0].created.run_id}", status_code=303)


async def _found(services: Services, access: ProjectAccess, run_id: UUID) -> Pipeline:
    async with services.database.transaction() as session:
        return await found_run(session, access, run_id)
