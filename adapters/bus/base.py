"""The bus protocol: hints that something changed, never the change itself.

Whoever waits reads the durable source (PostgreSQL, the object store) after each hint and also every few seconds
without one, so a lost hint costs time, never work (promise D4).
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Subscription(Protocol):
    """A place in the audience of one channel."""

    async def wait(self, *, timeout_seconds: float) -> bool:
        """Waits for a hint since the last call; ``False`` if none came in time. Hints in between collapse to one."""
        ...


class Bus(Protocol):
    """Publish and subscribe."""

    async def publish(self, channel: str) -> None:
        """Tells the subscribers of ``channel`` to look again. Never raises for a bus that is away."""
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Subscription]:
        """Joins the audience of ``channel``; survives an outage of the bus by itself."""
        ...

    async def ping(self) -> None:
        """Asks the bus for an answer.

        Raises:
            domain.errors.Unavailable: There was none.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


def run_channel(run_id: object) -> str:
    """The channel of one pipeline run: its state or a log of it grew."""
    return f"run/{run_id}"
