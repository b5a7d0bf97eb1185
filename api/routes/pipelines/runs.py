"""Runs: start, list, read, cancel, repeat, follow."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status

from adapters.bus.base import run_channel
from api.dependencies import ProjectAccess, ReadAccess, RunAccess, ServicesDep
from api.errors import problems
from api.idempotency import Once, OnceDep
from api.pagination import PAGE_SIZE_DEFAULT, CursorQuery, LimitQuery, Listing, newest_first, next_url
from api.routes.pipelines.orders import WAITING_NOTE, MadeRun, cancel_run, make_runs, repeat_of, start_runs
from api.routes.pipelines.run_feed import RunFeed
from api.routes.pipelines.triggering import Wish, prepare
from api.routes.pipelines.views import (
    CancelRequest,
    RunPage,
    RunView,
    StartedRuns,
    TriggerRequest,
    summarise,
    view_run,
)
from api.services import Services
from api.sse import EventStream, last_event_id, recheck_of
from api.strict_route import StrictRoute
from database.engine import Session
from database.models.pipelines import Pipeline
from database.store.pipelines.listing import ListedRun, listed_runs
from database.store.pipelines.runs import NewRun, run_of
from database.store.pipelines.steps import steps_of
from domain.errors import NotFound
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.status import RunStatus

PREFIX = "/api/v1/projects/{owner}/{name}/pipelines"
SSE_ANSWER = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

router = APIRouter(prefix=PREFIX, tags=["pipelines"], route_class=StrictRoute)

RUNS: Listing[ListedRun, tuple[datetime, UUID]] = newest_first("pipelines")


async def found_run(session: Session, access: ProjectAccess, run_id: UUID) -> Pipeline:
    """The run of this project.

    Raises:
        NotFound: There is none of this id here.
    """
    run = await run_of(session, access.project.id, run_id)
    if run is None:
        raise NotFound(f"There is no run {run_id} in {access.project.full_name}.")
    return run


async def whole_run(services: Services, session: Session, access: ProjectAccess, run_id: UUID) -> RunView:
    """The run of this project with its steps.

    Raises:
        NotFound: There is none of this id here.
    """
    run = await found_run(session, access, run_id)
    return view_run(services, access.project.full_name, run, await steps_of(session, run.id))


async def order_runs(
    services: Services, access: ProjectAccess, once: Once, new: Sequence[NewRun], notes: tuple[str, ...] = ()
) -> Response:
    """Makes runs, answers with them, and starts them after the commit."""
    made: list[MadeRun] = []

    async def change(session: Session) -> StartedRuns:
        made.extend(await make_runs(session, access.project.full_name, new))
        items = [await whole_run(services, session, access, run.created.run_id) for run in made]
        return StartedRuns(items=tuple(items), notes=notes)

    answer = await once.run(access.actor, change)
    if await start_runs(services, made):
        return answer
    told = StartedRuns.model_validate_json(bytes(answer.body))
    told = told.model_copy(update={"notes": (*told.notes, WAITING_NOTE)})
    return Response(told.model_dump_json(), status_code=answer.status_code, media_type="application/json")


@router.post(
    "",
    summary="Run the pipelines of a branch, tag or commit",
    status_code=status.HTTP_201_CREATED,
    response_model=StartedRuns,
    responses=problems(400, 401, 403, 404, 409, 413, 422),
)
async def trigger_runs(services: ServicesDep, access: RunAccess, once: OnceDep, wish: TriggerRequest) -> Response:
    """Makes one run for each pipeline file of the commit that has work for this trigger, and starts them.

    A file that is not valid makes a run in state `error` with every problem in it. With Temporal away the runs are kept
    as `pending`, start when it is back, and `notes` says so.
    """
    asked = Wish(wish.ref, TriggerEvent.API, wish.variables, config_path=wish.config_path)
    prepared = await prepare(services, access, asked)
    return await order_runs(services, access, once, prepared.new, prepared.notes)


@router.get("", summary="List runs", responses=problems(400, 401, 404))
async def list_runs(
    *,
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_status: Annotated[RunStatus | None, Query(alias="status")] = None,
    ref: Annotated[str | None, Query(description="Full ref name, e.g. refs/heads/main", max_length=1024)] = None,
    trigger: Annotated[Literal["push", "api", "schedule", "mr"] | None, Query()] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = PAGE_SIZE_DEFAULT,
) -> RunPage:
    """Newest first; the filters are combined."""
    before = RUNS.place(services.secret_key, cursor)
    runs = await listed_runs(
        services.database,
        access.project.id,
        status=run_status,
        git_ref=ref,
        trigger=trigger,
        before=before,
        limit=limit + 1,
    )
    page, following = RUNS.cut(services.secret_key, runs, limit)
    return RunPage(
        items=tuple(summarise(services, access.project.full_name, run) for run in page),
        next=next_url(request, following),
    )


@router.get("/{run_id}", summary="Read a run with its steps", responses=problems(400, 401, 404))
async def read_run(services: ServicesDep, access: ReadAccess, run_id: UUID) -> RunView:
    """The present state; follow `…/events` for what comes."""
    async with services.database.transaction() as session:
        return await whole_run(services, session, access, run_id)


@router.post("/{run_id}/cancel", summary="Cancel a run", responses=problems(400, 401, 403, 404, 409))
async def cancel(services: ServicesDep, access: RunAccess, run_id: UUID, order: CancelRequest | None = None) -> RunView:
    """Stops every step within seconds; logs and artifacts are kept. 409 if the run has ended already."""
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
    await cancel_run(services, access.actor, run, None if order is None else order.reason)
    async with services.database.transaction() as session:
        return await whole_run(services, session, access, run_id)


@router.post(
    "/{run_id}/rerun",
    summary="Run the same plan again",
    status_code=status.HTTP_201_CREATED,
    response_model=StartedRuns,
    responses=problems(400, 401, 403, 404, 409, 422),
)
async def rerun(services: ServicesDep, access: RunAccess, once: OnceDep, run_id: UUID) -> Response:
    """A new run with the commit, plan and variables of this one; `rerun_of` names it."""
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
    return await order_runs(services, access, once, (repeat_of(access.actor, run),))


@router.get(
    "/{run_id}/events",
    summary="Follow a run (server-sent events)",
    response_class=EventStream,
    responses={200: SSE_ANSWER, **problems(400, 401, 404)},
)
async def follow_run(
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    after: Annotated[int, Query(ge=0, le=2**62, description="The number of the last event that you know")] = 0,
) -> EventStream:
    """`status` events (id: their number), `log` hints `{"step", "log_size_bytes"}` without an id, and a last `end`.

    `Last-Event-ID` resumes behind the event of that number.
    """
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
    place = last_event_id(request)
    feed = RunFeed(services.database, run.id, after=after if place is None else place)
    return EventStream(
        services.bus, run_channel(run.id), feed, recheck=recheck_of(services, access), watch=services.rights_watch
    )
