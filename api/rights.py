"""Answers that stay open for long learn that somebody's rights, or a credential, changed: in any process.

Every request asks for the rights anew, so only what is still being answered needs to be told. The truth is a counter in
PostgreSQL that goes up with every such change; while anything is open it is looked at three times a second, and at once
after a hint of the bus. So a hint that is lost costs 0.3 s.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.bus.audience import Audience, Listener
from adapters.bus.base import Bus
from api.csrf import SAFE_METHODS
from database.engine import Database
from database.store.access.cache import changes_of_rights
from domain.errors import Unavailable

CHANNEL = "rights"
LOOK_SECONDS = 0.3
TURNS = 2

# The packages whose unsafe routes change what somebody may do. One that is missing here is found by looking.
_CHANGERS = ("api.routes.access", "api.pages.access", "api.routes.projects")
_ERRORS_FROM = 400


class RightsWatch:
    """Wakes whoever answers for long after every change of anybody's rights.

    Looks only while somebody listens.

    Attributes:
        turns: Held while asking anew: thousands who are woken at once leave connections of the database to requests.
    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._audience = Audience()
        self._looking: asyncio.Task[None] | None = None
        self.turns = asyncio.Semaphore(TURNS)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[Listener]:
        """A listener that is woken within ``LOOK_SECONDS`` of a change, or without one; whoever joins asks first."""
        listener = self._audience.join(CHANNEL)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_ever(), name="rights watch")
        try:
            yield listener
        finally:
            if self._audience.leave(CHANNEL, listener):
                # Forgotten at once: whoever joins before it has ended needs another one.
                self._looking.cancel()
                self._looking = None

    async def _look_for_ever(self) -> None:
        hinted = Listener()
        changes = seen = None
        # Of its own, because joining a bus that is away takes a while.
        listening = asyncio.create_task(self._listen(hinted), name="rights hints")
        try:
            while True:
                with suppress(Unavailable):  # Nobody can change anything either.
                    changes = await changes_of_rights(self._database)
                if changes != seen:
                    seen = changes
                    self._audience.hint(CHANNEL)
                await hinted.wait(timeout_seconds=LOOK_SECONDS)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, hinted: Listener) -> None:
        async with self._bus.subscribe(CHANNEL) as subscription:
            while True:
                if await subscription.wait(timeout_seconds=60):
                    hinted.hint()


class RightsHints:
    """Tells the other processes after each answer of a route that may have changed rights; plain ASGI, as ``Edge``.

    Args:
        app: What is wrapped.
        bus: Where they listen.
    """

    def __init__(self, app: ASGIApp, *, bus: Bus) -> None:
        self._app = app
        self._bus = bus

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        status = _ERRORS_FROM

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, send_noting)
        if status < _ERRORS_FROM and _may_change_rights(scope):
            await self._bus.publish(CHANNEL)


def _may_change_rights(scope: Scope) -> bool:
    module = str(getattr(scope.get("endpoint"), "__module__", ""))
    return any(module == changer or module.startswith(f"{changer}.") for changer in _CHANGERS)
