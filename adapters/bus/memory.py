"""A bus inside one process: the stand-in of tests, which passes the same contract tests as ``ValkeyBus``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.bus.audience import Audience, Listener
from domain.errors import Unavailable


class MemoryBus:
    """Hints between the tasks of one event loop.

    Attributes:
        is_away: Set it to play an outage: hints are lost and ``ping`` raises.
    """

    def __init__(self) -> None:
        self.is_away = False
        self._audience = Audience()

    async def publish(self, channel: str) -> None:
        """See ``Bus.publish``."""
        if not self.is_away:
            self._audience.hint(channel)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Listener]:
        """See ``Bus.subscribe``."""
        listener = self._audience.join(channel)
        try:
            yield listener
        finally:
            self._audience.leave(channel, listener)

    async def ping(self) -> None:
        """See ``Bus.ping``."""
        if self.is_away:
            raise Unavailable("The bus plays dead.", neighbour="bus")

    async def close(self) -> None:
        """See ``Bus.close``."""
