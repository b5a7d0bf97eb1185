"""Small workflows that exercise what stands around a workflow; they exist for the tests only."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from domain.actors import Actor
from domain.errors import Conflict, NotFound, PerdureError, TooManyRequests, Unavailable
from temporal.acting import current_actor
from temporal.names import Health, health_update

SECRET = "hunter2-in-a-statement"


class Order(BaseModel):
    """What an exercise is asked to do."""

    what: str
    actor: Actor | None = None


class Bare(BaseModel):
    """An input without an actor."""

    what: str


class Attempts:
    """Activities that fail in a chosen way, and count how often they were tried."""

    def __init__(self) -> None:
        self.tried: dict[str, int] = {}

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for a worker."""
        return [self.fail, self.who, self.size]

    @activity.defn
    async def fail(self, how: str) -> str:
        self.tried[how] = self.tried.get(how, 0) + 1
        errors: dict[str, Exception] = {
            "not_found": NotFound("There is no run 7.", details={"run": 7}),
            "precise": Conflict("It ended.", code="run_ended"),
            "unavailable": Unavailable("The database does not answer.", neighbour="database"),
            "busy": TooManyRequests("Wait.", retry_after_seconds=1),
            "internal": PerdureError("Something odd."),
            "bug": ValueError("x" * 1000 + f"\n[parameters: {SECRET}]"),
        }
        if how.endswith("-once") and self.tried[how] > 1:
            return "recovered"
        try:
            raise RuntimeError(f"the cause with {SECRET}")
        except RuntimeError as cause:
            raise errors[how.removesuffix("-once")] from cause

    @activity.defn
    async def who(self) -> str:
        actor = current_actor()
        return f"{actor.name} {actor.origin.request_id}"

    @activity.defn
    async def size(self, data: bytes) -> int:
        return len(data)


@workflow.defn
class FailingExercise:
    """Calls ``fail`` with a retry policy that gives up soon."""

    @workflow.run
    async def run(self, how: str) -> str:
        return await workflow.execute_activity_method(
            Attempts.fail,
            how,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3),
        )


@workflow.defn
class RefusingExercise:
    """Raises one of our errors itself."""

    @workflow.run
    async def run(self, order: Order) -> None:
        raise NotFound(f"There is no {order.what}.")


@workflow.defn
class ActingExercise:
    """Asks an activity, and one of a child without an actor of its own, who acts."""

    @workflow.run
    async def run(self, order: Order) -> list[str]:
        mine = await workflow.execute_activity_method(Attempts.who, start_to_close_timeout=timedelta(seconds=10))
        child = await workflow.execute_child_workflow(BareExercise.run, Bare(what=order.what))
        return [mine, child]


@workflow.defn
class BareExercise:
    """Has no actor of its own."""

    @workflow.run
    async def run(self, order: Bare) -> str:
        assert order.what
        return await workflow.execute_activity_method(Attempts.who, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class LargeExercise:
    """Hands a large payload on and returns it."""

    @workflow.run
    async def run(self, data: bytes) -> bytes:
        size = await workflow.execute_activity_method(Attempts.size, data, start_to_close_timeout=timedelta(seconds=10))
        assert size == len(data)
        return data


@workflow.defn
class AilingExercise:
    """Reports its health, and waits to be told that it is well."""

    def __init__(self) -> None:
        self._well = False

    @workflow.run
    async def run(self, order: Order) -> None:
        workflow.upsert_search_attributes(health_update(Health.RETRYING, order.what))
        await workflow.wait_condition(lambda: self._well)
        workflow.upsert_search_attributes(health_update(Health.OK))
        await asyncio.sleep(0)

    @workflow.signal
    def recover(self) -> None:
        self._well = True


EXERCISES: tuple[type, ...] = (
    ActingExercise,
    AilingExercise,
    BareExercise,
    FailingExercise,
    LargeExercise,
    RefusingExercise,
)

SOMEBODY = UUID(int=7)
