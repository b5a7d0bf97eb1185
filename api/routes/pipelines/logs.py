"""The log of a step: any bytes of it at any time, and live."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from adapters.bus.base import run_channel
from api.dependencies import ProjectAccess, ReadAccess, ServicesDep
from api.errors import problems
from api.logs import read_log
from api.routes.pipelines.downloads import download
from api.routes.pipelines.log_feed import LogFeed
from api.routes.pipelines.ranges import ByteRange, beyond_end, chosen_range, requested_range
from api.routes.pipelines.runs import PREFIX, SSE_ANSWER
from api.services import Services
from api.sse import EventStream, last_event_id, recheck_of
from api.strict_route import StrictRoute
from database.models.pipelines import PipelineStep
from database.store.pipelines.runs import run_of
from database.store.pipelines.steps import steps_of
from domain.errors import NotFound
from domain.pipelines.status import STEP_ENDED

router = APIRouter(prefix=PREFIX + "/{run_id}/steps/{step}/log", tags=["pipelines"], route_class=StrictRoute)

StepPath = Annotated[str, Path(description="The step's name", max_length=63)]
TEXT_ANSWER = {"content": {"text/plain": {"schema": {"type": "string"}}}}


async def found_step(services: Services, access: ProjectAccess, run_id: UUID, name: str) -> PipelineStep:
    """The step of a run of this project.

    Raises:
        NotFound: There is no such run here, or it has no step of this name.
    """
    async with services.database.transaction() as session:
        run = await run_of(session, access.project.id, run_id)
        steps = [] if run is None else await steps_of(session, run.id)
    step = next((step for step in steps if step.name == name), None)
    if step is None:
        raise NotFound(f"There is no step {name[:63]!r} in run {run_id} of {access.project.full_name}.")
    return step


@router.get(
    "",
    summary="Read the log of a step",
    response_class=Response,
    responses={200: TEXT_ANSWER, 206: TEXT_ANSWER, **problems(400, 401, 404, 416)},
)
async def read_step_log(
    *,
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    step: StepPath,
    offset: Annotated[int, Query(ge=0, le=2**62, description="The first byte")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=2**62, description="How many bytes at most")] = None,
) -> Response:
    """The raw bytes that are durable now, ANSI sequences and all; also by a `Range` header (206).

    `Perdure-Log-Size-Bytes` says how long the log is now and `Perdure-Log-Complete` whether it can still grow.
    """
    row = await found_step(services, access, run_id, step)
    wanted = requested_range(request.headers.get("range"), row.log_size_bytes)
    if not wanted.partial:
        wanted = chosen_range(offset, limit, row.log_size_bytes)
    headers = {
        **wanted.headers(),
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-cache",
        "perdure-log-size-bytes": str(row.log_size_bytes),
        "perdure-log-complete": "true" if row.status in STEP_ENDED else "false",
    }
    return await download(_bytes(services, row.id, wanted), wanted, headers)


async def _bytes(services: Services, step_id: UUID, wanted: ByteRange) -> AsyncGenerator[bytes, None]:
    if wanted.size_bytes:
        async for data in read_log(services.database, services.objects, step_id, wanted.offset, wanted.size_bytes):
            yield data


@router.get(
    "/stream",
    summary="Follow the log of a step (server-sent events)",
    response_class=EventStream,
    responses={200: SSE_ANSWER, **problems(400, 401, 404, 416)},
)
async def follow_step_log(
    *,
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    step: StepPath,
    offset: Annotated[int, Query(ge=0, le=2**62, description="The first byte")] = 0,
) -> EventStream:
    """`log` events with `{"offset", "text"}` (id: the offset of what follows), and a last `end`.

    The text is UTF-8 with U+FFFD for what is none; a character is never cut. `Last-Event-ID` resumes at that byte.
    """
    row = await found_step(services, access, run_id, step)
    place = last_event_id(request)
    start = offset if place is None else place
    if start > row.log_size_bytes:
        raise beyond_end(start, row.log_size_bytes)
    feed = LogFeed(services.database, services.objects, row.id, offset=start)
    return EventStream(
        services.bus, run_channel(run_id), feed, recheck=recheck_of(services, access), watch=services.rights_watch
    )
