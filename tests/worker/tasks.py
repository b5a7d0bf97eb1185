"""An activity that watches something long, as run_step does, for the test of handing over."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy


class Watching:
    """Watches for ever, until told that its work is done.

    Attributes:
        by_attempt: What is known of each attempt: ``watching``, ``let go`` or ``done``.
    """

    def __init__(self) -> None:
        self.by_attempt: dict[int, str] = {}
        self.done = asyncio.Event()

    @activity.defn
    async def watch(self) -> int:
        attempt = activity.info().attempt
        self.by_attempt[attempt] = "watching"
        try:
            while not self.done.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.by_attempt[attempt] = "let go"
            raise
        self.by_attempt[attempt] = "done"
        return attempt


@workflow.defn
class WatchingWorkflow:
    """Returns in which attempt the watching ended."""

    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity_method(
            Watching.watch,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )
