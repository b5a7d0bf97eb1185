"""Reading server-sent events in tests, each in time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from cli.follow import Event, read_events

NEXT_TIMEOUT_SECONDS = 10.0


class Stream:
    """The events of an open answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._events = read_events(answer)

    async def next(self) -> Event:
        """The next event; fails if none comes in time."""
        async with asyncio.timeout(NEXT_TIMEOUT_SECONDS):
            return await anext(self._events)

    async def rest(self) -> list[Event]:
        """All events until the server ends the stream."""
        async with asyncio.timeout(NEXT_TIMEOUT_SECONDS):
            return [event async for event in self._events]


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, path: str, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
    """Opens a stream; leaving the block closes the connection."""
    async with client.stream("GET", path, headers=dict(headers), timeout=30) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)
