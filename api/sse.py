"""Server-sent events from a durable source (WHATWG HTML, 9.2).

A *feed* reads what is new from PostgreSQL or the object store and remembers its place; the response asks it after
every hint of the bus and also every two seconds without one, so a lost hint costs time and never an event. A reader
that comes back with ``Last-Event-ID`` gets exactly what it has not seen, because the ids are places in the source.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapters.bus.base import Bus
from api.dependencies import ProjectAccess, still_granted
from api.rights import RightsWatch
from api.services import Services
from domain.errors import InvalidInput, PerdureError, Unauthenticated, Unavailable

REREAD_SECONDS = 2.0
# A chatty source wakes every reader for every piece; reading 20 times a second is as live as an eye can tell.
PAUSE_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 15.0
# Who may read is asked again after every change of anybody's rights (``api/rights.py``), when something that the reader
# holds ends by itself, and in any case this often.
RECHECK_SECONDS = 30.0
RETRY_SECONDS = 0.3
RECONNECT_MS = 2000

Recheck = Callable[[], Awaitable[timedelta | None]]
"""Raises a ``PerdureError`` if the reader may read no more; else returns for how long that surely holds by itself."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event.

    Attributes:
        event: Its type.
        data: A JSON value.
        id: Where the reader stands after it; ``None`` leaves the reader's place as it is.
    """

    event: str
    data: Any
    id: str | None = None

    def encode(self) -> bytes:
        """The event as it goes over the wire; JSON has no raw line breaks, so one ``data`` line is enough."""
        place = "" if self.id is None else f"id: {self.id}\n"
        data = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {self.event}\n{place}data: {data}\n\n".encode()


class Feed(Protocol):
    """A place in a durable source."""

    def news(self) -> AsyncGenerator[ServerSentEvent, None]:
        """What came since the last call, in order, in pieces of bounded size.

        Raises:
            domain.errors.Unavailable: The source is away; the next call goes on where this one stopped.
        """
        ...

    @property
    def end(self) -> ServerSentEvent | None:
        """The last event, once ``news`` has given everything and nothing can follow."""
        ...


def last_event_id(request: Request, *, maximum: int = 2**63 - 1) -> int | None:
    """The place that a returning reader has reached: ``Last-Event-ID``, or ``None`` at its first visit.

    Raises:
        InvalidInput: It is not a number that this server ever sent.
    """
    value = request.headers.get("last-event-id", "")
    if not value:
        return None
    if not (value.isascii() and value.isdigit()) or int(value[:20]) > maximum:
        raise InvalidInput("Last-Event-ID must be an id that this stream has sent: a whole number.")
    return int(value[:20])


def recheck_of(services: Services, access: ProjectAccess) -> Recheck:
    """Asks anew whether the reader may still see the project."""

    async def recheck() -> timedelta | None:
        grant = await still_granted(services, access)
        if grant is None:
            raise Unauthenticated(
                "Your session or token has ended, or you may no longer see this project. Sign in and open it again.",
                code="no_longer_granted",
            )
        return grant.lasts

    return recheck


class EventStream(Response):
    """Sends a feed until it ends, the reader leaves, or the reader may no longer see it.

    Args:
        bus: Who hints.
        channel: Where the hints come.
        feed: What is sent.
        recheck: Raises a ``PerdureError`` when the reader's session or permission is gone. The stream then ends with an
            event ``denied``.
        watch: Tells when to ask that again.
    """

    media_type = "text/event-stream"

    def __init__(
        self, bus: Bus, channel: str, feed: Feed, *, recheck: Recheck, watch: RightsWatch, status_code: int = 200
    ) -> None:
        super().__init__(status_code=status_code, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._bus = bus
        self._channel = channel
        self._feed = feed
        self._recheck = recheck
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Serves; whichever comes first, the end or the reader's leaving, stops the other."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        serving = asyncio.ensure_future(self._serve(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
        finally:
            await _cancelled(serving, leaving)

    async def _serve(self, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        denial = asyncio.ensure_future(self._denial())
        try:
            await asyncio.wait({sending, denial}, return_when=asyncio.FIRST_COMPLETED)
            last = b"" if sending.done() else (await denial).encode()
            if sending.done():
                await sending
        finally:
            # A chunk is sent whole or not at all, so the stream can be ended at any moment.
            await _cancelled(sending, denial)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        yield f"retry: {RECONNECT_MS}\n\n".encode()
        spoke = time.monotonic()
        async with self._bus.subscribe(self._channel) as subscription:
            while True:
                looked = time.monotonic()
                async for chunk in self._news():
                    spoke = time.monotonic()
                    yield chunk
                if self._feed.end is not None:
                    yield self._feed.end.encode()
                    return
                if await subscription.wait(timeout_seconds=REREAD_SECONDS):
                    await asyncio.sleep(max(0.0, looked + PAUSE_SECONDS - time.monotonic()))
                now = time.monotonic()
                if now - spoke >= KEEP_ALIVE_SECONDS:
                    spoke = now
                    yield b": keep-alive\n\n"

    async def _news(self) -> AsyncGenerator[bytes, None]:
        try:
            async for event in self._feed.news():
                yield event.encode()
        except Unavailable as error:
            # Nothing is lost: the feed keeps its place, and the next turn reads on.
            yield f": waiting for {error.neighbour}\n\n".encode()

    async def _denial(self) -> ServerSentEvent:
        """Returns once the reader may read no more."""
        async with self._watch.changes() as changes:
            while True:
                try:
                    async with self._watch.turns:
                        lasts = await self._recheck()
                except Unavailable:
                    wait_seconds = RETRY_SECONDS
                except PerdureError as error:
                    return ServerSentEvent("denied", {"code": error.specific_code, "detail": error.message})
                else:
                    wait_seconds = RECHECK_SECONDS if lasts is None else lasts.total_seconds()
                await changes.wait(timeout_seconds=min(wait_seconds, RECHECK_SECONDS))


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
