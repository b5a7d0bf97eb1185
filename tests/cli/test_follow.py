import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cli.follow import FollowingFailed, follow_run
from deploy.local.ports import free_ports
from tests.support.eventually import eventually


def sse(event: str, data: object, place: str | None = None) -> bytes:
    line = f"id: {place}\n" if place is not None else ""
    return f"event: {event}\n{line}data: {json.dumps(data)}\n\n".encode()


def step(name: str, status: str, seq: int) -> bytes:
    return sse("status", {"tag": "pipeline:step:status", "step": name, "status": status, "seq": seq}, str(seq))


class ScriptedApi:
    """A web server that speaks as the API does, and breaks connections where the script says so."""

    def __init__(self) -> None:
        self.events: list[Callable[[str], list[bytes]]] = []
        self.asked_after: list[str] = []
        self.log: list[bytes] = []
        self.port = free_ports()["api"]
        routes = [Route("/run/events", self.on_events), Route("/run/steps/{name}/log/stream", self.on_log)]
        self.app = Starlette(routes=routes)

    async def on_events(self, request: Request) -> Response:
        place = request.headers.get("last-event-id", "")
        self.asked_after.append(place)
        if not self.events:
            return JSONResponse({"detail": "no such run"}, status_code=404)
        return StreamingResponse(iter(self.events.pop(0)(place)), media_type="text/event-stream")

    async def on_log(self, _: Request) -> Response:
        return StreamingResponse(iter(self.log), media_type="text/event-stream")


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    scripted = ScriptedApi()
    server = uvicorn.Server(uvicorn.Config(scripted.app, port=scripted.port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield scripted
    server.should_exit = True
    await serving


async def follow(api: ScriptedApi) -> tuple[str, list[str]]:
    seen: list[str] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as client:
        status = await follow_run(
            client,
            run_path="/run",
            print_line=lambda step, line: seen.append(f"{step}|{line}"),
            print_status=lambda step, status: seen.append(f"{step} {status}"),
        )
    return status, seen


async def test_a_refusal_is_shown(api: ScriptedApi) -> None:
    with pytest.raises(FollowingFailed, match="no such run"):
        await follow(api)


async def test_a_reader_who_may_no_longer_see_it_is_told(api: ScriptedApi) -> None:
    api.events = [lambda _: [sse("denied", {"code": "no_longer_granted", "detail": "your token has ended"})]]
    with pytest.raises(FollowingFailed, match="your token has ended"):
        await follow(api)


async def test_lines_come_whole_and_before_the_status_of_their_step(api: ScriptedApi) -> None:
    api.events = [lambda _: [step("test", "running", 1), step("test", "success", 2), sse("end", {"status": "success"})]]
    api.log = [
        sse("log", {"offset": 0, "text": "one\ntw"}, "6"),
        b": keep-alive\n\n",
        sse("log", {"offset": 6, "text": "o\r\nlast"}, "13"),
        sse("end", {"offset": 13}, "13"),
    ]
    status, seen = await follow(api)
    assert status == "success"
    assert seen == ["test running", "test|one", "test|two", "test|last", "test success"]


async def test_a_broken_connection_goes_on_behind_the_last_event(api: ScriptedApi) -> None:
    api.events = [
        lambda _: [step("test", "running", 1), step("test", "failure", 2)[:20]],
        lambda place: [step("test", "failure", 2), sse("end", {"status": "failure"})] if place == "1" else [],
    ]
    api.log = [sse("end", {"offset": 0}, "0")]
    status, seen = await follow(api)
    assert status == "failure"
    assert seen == ["test running", "test failure"]
    assert api.asked_after == ["", "1"]
