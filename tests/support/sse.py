"""Reading server-sent events in tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

NEXT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """One event."""

    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever JSON came
        """The data, decoded."""
        return json.loads(self.data)


class Stream:
    """The events of an open answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._events = self._read()

    async def next(self) -> Received:
        """The next event; fails if none comes in time."""
        async with asyncio.timeout(NEXT_TIMEOUT_SECONDS):
            return await anext(self._events)

    async def rest(self) -> list[Received]:
        """All events until the server ends the stream."""
        async with asyncio.timeout(NEXT_TIMEOUT_SECONDS):
            return [event async for event in self._events]

    async def _read(self) -> AsyncIterator[Received]:
        fields: dict[str, str] = {}
        async for line in self.answer.aiter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                yield Received(fields.get("event", "message"), fields["data"], fields.get("id", ""))
                fields = {}
            else:
                fields = {}


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, path: str, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
    """Opens a stream; leaving the block closes the connection."""
    async with client.stream("GET", path, headers=dict(headers), timeout=30) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)
