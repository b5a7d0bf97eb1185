"""Liveness of long activities: a heartbeat at a steady pace beside the work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from temporalio import activity

HEARTBEAT_INTERVAL_SECONDS = 2.0
"""A fifth of the heartbeat timeout at the calls, so that one late beat is not taken for a dead worker."""


async def _beat() -> None:
    while True:
        # First the pause: a short activity tells the server nothing but its result.
        await asyncio.sleep(HEARTBEAT_INTERVAL_SECONDS)
        activity.heartbeat()


@asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Heartbeats for as long as the block runs. A blocked event loop stops it, as it should.

    A local activity has none: the server knows nothing of it but the workflow task that it is part of.
    """
    if activity.info().is_local:
        yield
        return
    beat = asyncio.create_task(_beat())
    try:
        yield
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
