"""Reading and following the log of a step over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from adapters.bus.base import run_channel
from adapters.bus.memory import MemoryBus
from domain.pipelines.status import StepStatus
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.eventually import eventually
from tests.support.pipelines import finish_step, make_run, start_run, start_step, write_log
from tests.support.sse import Stream, streaming


@dataclass(frozen=True)
class Running:
    """A run whose step ``build`` runs."""

    server: ApiServer
    person: Person
    project: ProjectView
    run_id: UUID
    step_id: UUID

    @property
    def path(self) -> str:
        return f"/api/v1/projects/{self.project.full_name}/pipelines/{self.run_id}/steps/build/log"

    async def write(self, data: bytes, *, hint: bool = True) -> None:
        await write_log(self.server.services.database, self.step_id, data)
        if hint:
            await self.server.services.bus.publish(run_channel(self.run_id))

    async def finish(self) -> None:
        await finish_step(self.server.services.database, self.step_id, StepStatus.SUCCESS)
        await self.server.services.bus.publish(run_channel(self.run_id))

    async def get(self, query: str = "", **headers: str) -> httpx.Response:
        return await self.server.client.get(self.path + query, headers={**self.person.headers, **headers})

    @asynccontextmanager
    async def stream(self, query: str = "", **headers: str) -> AsyncIterator[Stream]:
        sent = {**self.person.headers, **headers}
        async with streaming(self.server.client, f"{self.path}/stream{query}", sent) as stream:
            yield stream


@pytest.fixture
async def running(api_server: ApiServer) -> Running:
    person = await api_server.user()
    project = await api_server.project(person)
    database = api_server.services.database
    run = await make_run(database, project, person.user)
    await start_run(database, run.run_id)
    return Running(api_server, person, project, run.run_id, await start_step(database, run.run_id, "build"))


def text_of(events: list[Any]) -> str:
    return "".join(event.json["text"] for event in events if event.name == "log")


class TestRead:
    async def test_an_unknown_step_is_not_found(self, running: Running) -> None:
        path = running.path.replace("/build/", "/no-such-step/")
        assert (await running.server.client.get(path, headers=running.person.headers)).status_code == 404

    async def test_an_offset_beyond_the_end_is_416(self, running: Running) -> None:
        await running.write(b"0123456789")
        for answer in (await running.get("?offset=11"), await running.get(range="bytes=10-")):
            assert answer.status_code == 416
            assert answer.json()["details"]["size_bytes"] == 10
        assert (await running.get("?offset=10")).content == b""

    @pytest.mark.parametrize("query", ["?offset=-1", "?limit=0", "?offset=x", "?offset=99999999999999999999999"])
    async def test_refuses_numbers_that_are_none(self, running: Running, query: str) -> None:
        assert (await running.get(query)).status_code == 400

    async def test_gives_bytes_as_text_that_no_browser_takes_for_html(self, running: Running) -> None:
        await running.write(b"<script>alert(1)</script>\xff\n")
        answer = await running.get()
        assert answer.content == b"<script>alert(1)</script>\xff\n"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["perdure-log-complete"] == "false"
        assert answer.headers["perdure-log-size-bytes"] == "27"

    async def test_gives_ranges(self, running: Running) -> None:
        await running.write(b"01234")
        await running.write(b"56789")
        for header, expected, content_range in (
            ("bytes=0-0", b"0", "bytes 0-0/10"),
            ("bytes=3-6", b"3456", "bytes 3-6/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=8-99", b"89", "bytes 8-9/10"),
        ):
            answer = await running.get(range=header)
            assert (answer.status_code, answer.content) == (206, expected), header
            assert answer.headers["content-range"] == content_range
        for ignored in ("bytes=5-3", "lines=1-2", "bytes=0-1,4-5", "bytes=-"):
            assert (await running.get(range=ignored)).status_code == 200, ignored
        assert (await running.get("?offset=4&limit=3")).content == b"456"

    async def test_of_a_step_that_never_ran_is_empty(self, running: Running) -> None:
        path = running.path.replace("/build/", "/test/")
        answer = await running.server.client.get(path, headers=running.person.headers)
        assert (answer.status_code, answer.content) == (200, b"")


class TestFollow:
    @pytest.mark.parametrize("place", ["x", "-1", "1e3", "९"])
    async def test_refuses_a_place_that_it_never_gave(self, running: Running, place: str) -> None:
        headers = httpx.Headers({**running.person.headers, "Last-Event-ID": place}, encoding="utf-8")
        answer = await running.server.client.get(f"{running.path}/stream", headers=headers)
        assert answer.status_code == 400

    async def test_a_place_beyond_the_end_is_416(self, running: Running) -> None:
        headers = {**running.person.headers, "Last-Event-ID": "1"}
        assert (await running.server.client.get(f"{running.path}/stream", headers=headers)).status_code == 416

    async def test_sends_what_is_there_then_what_comes_then_the_end(self, running: Running) -> None:
        await running.write(b"one\n")
        async with running.stream() as stream:
            assert (await stream.next()).json == {"offset": 0, "text": "one\n"}
            await running.write(b"two\n")
            second = await stream.next()
            assert (second.json, second.id) == ({"offset": 4, "text": "two\n"}, "8")
            await running.finish()
            end = await stream.next()
            assert (end.name, end.json["offset"], end.json["status"]) == ("end", 8, "success")
            assert await stream.rest() == []

    async def test_needs_no_hint(self, running: Running) -> None:
        async with running.stream() as stream:
            await running.write(b"quiet\n", hint=False)
            assert (await stream.next()).json["text"] == "quiet\n"

    async def test_never_breaks_a_character_and_resumes_without_gap_or_double(self, running: Running) -> None:
        text = "grün 🌿 日本\n"
        data = text.encode()
        got, place = "", ""
        for position in range(len(data)):
            await running.write(data[position : position + 1])
            if position % 5 == 4:
                headers = {"Last-Event-ID": place} if place else {}
                async with running.stream(**headers) as stream:
                    event = await stream.next()
                    got += event.json["text"]
                    place = event.id
        await running.finish()
        async with running.stream(**{"Last-Event-ID": place}) as stream:
            got += text_of(await stream.rest())
        assert got == text
        assert "\ufffd" not in got

    async def test_shows_bytes_that_are_no_text_as_replacements_at_the_right_offsets(self, running: Running) -> None:
        await running.write(b"a\xff\xfeb\xe2\x82")
        await running.finish()
        async with running.stream() as stream:
            events = await stream.rest()
        assert text_of(events) == "a\ufffd\ufffdb\ufffd"
        assert events[-1].json["offset"] == 6

    async def test_frees_the_subscription_when_the_reader_leaves(self, running: Running) -> None:
        bus = running.server.services.bus
        assert isinstance(bus, MemoryBus)
        channel = run_channel(running.run_id)
        async with running.stream() as stream:
            await running.write(b"x")
            await stream.next()
            assert channel in bus._audience.channels
        await eventually(lambda: channel not in bus._audience.channels)

    async def test_goes_on_after_an_outage_of_the_bus(self, running: Running) -> None:
        bus = running.server.services.bus
        assert isinstance(bus, MemoryBus)
        async with running.stream() as stream:
            bus.is_away = True
            try:
                await running.write(b"without a hint\n")
                assert (await stream.next()).json["text"] == "without a hint\n"
            finally:
                bus.is_away = False

    async def test_many_readers_get_the_same(self, running: Running) -> None:
        async def read() -> str:
            async with running.stream() as stream:
                return text_of(await stream.rest())

        readers = [asyncio.create_task(read()) for _ in range(20)]
        for number in range(30):
            await running.write(f"line {number}\n".encode())
        await running.finish()
        expected = "".join(f"line {number}\n" for number in range(30))
        assert set(await asyncio.gather(*readers)) == {expected}


async def test_the_events_of_a_run_resume_after_any_number(running: Running) -> None:
    path = f"/api/v1/projects/{running.project.full_name}/pipelines/{running.run_id}/events"
    await running.write(b"hello\n")
    async with streaming(running.server.client, path, running.person.headers) as stream:
        seen = [await stream.next() for _ in range(4)]
    assert [(event.name, event.id) for event in seen] == [
        ("status", "1"),
        ("status", "2"),
        ("status", "3"),
        ("log", ""),
    ]
    assert seen[2].json["step"] == "build"
    assert seen[2].json["status"] == "running"
    assert seen[3].json == {"step": "build", "log_size_bytes": 6}
    resumed = {**running.person.headers, "Last-Event-ID": "2"}
    async with streaming(running.server.client, path, resumed) as stream:
        assert json.loads((await stream.next()).data)["seq"] == 3
