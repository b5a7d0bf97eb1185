"""Whether this process is alive, what it can reach, and what it counts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from api.dependencies import ServicesDep
from api.metrics import CONTENT_TYPE
from api.services import Services
from domain.errors import PerdureError, Unavailable
from temporal.client import translated_errors

router = APIRouter(tags=["health"])

CHECK_TIMEOUT_SECONDS = 2.0


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Dependency(BaseModel):
    """A neighbour."""

    state: Literal["ready", "away"]
    detail: str | None = Field(default=None, description="What is wrong")
    duration_ms: float = Field(description="How long it took to find out")


class Readiness(BaseModel):
    """All neighbours."""

    status: Literal["ready", "not_ready"]
    dependencies: dict[str, Dependency]


@router.get("/healthz", summary="Alive")
async def get_healthz() -> Alive:
    """Answers 200 as long as the process serves, whatever its neighbours do."""
    return Alive()


@router.get(
    "/readyz",
    summary="Ready",
    responses={503: {"model": Readiness, "description": "At least one dependency is away; each is named"}},
)
async def get_readyz(services: ServicesDep, request: Request, response: Response) -> Readiness:
    """Asks every neighbour and names each with its state; 503 if one is away.

    The API serves what it can meanwhile: only the database stops it altogether.
    """
    checks: dict[str, Callable[[], Awaitable[object]]] = {
        "database": services.database.ping,
        "objects": services.objects.ping,
        "bus": services.bus.ping,
        "temporal": lambda: _ping_temporal(services),
        "administrator": lambda: _prepared(request),
    }
    found = await asyncio.gather(*(_checked(check) for check in checks.values()))
    dependencies = dict(zip(checks, found, strict=True))
    ready = all(dependency.state == "ready" for dependency in found)
    if not ready:
        response.status_code = 503
        response.headers["retry-after"] = "1"
    return Readiness(status="ready" if ready else "not_ready", dependencies=dependencies)


async def _prepared(request: Request) -> None:
    if not request.app.state.is_prepared:
        raise Unavailable("Roles and the first administrator are being made.", neighbour="administrator")


async def _ping_temporal(services: Services) -> None:
    with translated_errors():
        serving = await services.temporal.service_client.check_health(timeout=timedelta(seconds=CHECK_TIMEOUT_SECONDS))
    if not serving:
        raise Unavailable("Temporal runs but does not serve.", neighbour="temporal")


async def _checked(check: Callable[[], Awaitable[object]]) -> Dependency:
    started_at = time.perf_counter()
    detail = None
    try:
        await asyncio.wait_for(check(), CHECK_TIMEOUT_SECONDS)
    except PerdureError as error:
        detail = error.message
    except TimeoutError:
        detail = f"No answer within {CHECK_TIMEOUT_SECONDS:g} s."
    duration_ms = round((time.perf_counter() - started_at) * 1000, 1)
    return Dependency(state="away" if detail else "ready", detail=detail, duration_ms=duration_ms)


@router.get("/metrics", summary="Metrics", response_class=PlainTextResponse)
async def get_metrics(services: ServicesDep) -> PlainTextResponse:
    """Counters in the Prometheus text format."""
    return PlainTextResponse(services.metrics.render(), media_type=CONTENT_TYPE)
