"""Two states of one workflow, for the test of the fingerprints. Neither ever runs."""

import asyncio
from datetime import timedelta

from temporalio import workflow

from temporal.names import Health, health_update
from tests.temporal.exercises import Attempts

LIMIT = timedelta(seconds=1)


@workflow.defn
class Before:
    """As it was."""

    @workflow.run
    async def run(self) -> None:
        await self._first()
        await workflow.wait_condition(lambda: True, timeout=LIMIT)
        async with asyncio.timeout(5):
            await workflow.execute_activity_method(Attempts.size, b"", start_to_close_timeout=LIMIT)
        if workflow.patched("what-changed"):
            await asyncio.gather()

    @workflow.signal
    def hurry(self) -> None:
        workflow.upsert_search_attributes(health_update(Health.OK))

    async def _first(self) -> None:
        await workflow.execute_activity_method(Attempts.who, start_to_close_timeout=LIMIT)


@workflow.defn
class After:
    """The same calls in another order."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: True, timeout=LIMIT)
        await self._first()

    async def _first(self) -> None:
        await workflow.execute_activity_method(Attempts.who, start_to_close_timeout=LIMIT)
