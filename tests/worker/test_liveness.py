import asyncio
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from deploy.local.temporal import Temporal
from temporal.client import connect
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.temporal import converter_for_tests, unique_queue, working
from tests.temporal.exercises import Attempts, Bare, BareExercise
from worker.liveness import DRAIN_SECONDS, FAILURE, LATENCY, SLOTS, Poll, PollWatch, drain_forever, watched_runtime

SILENCE = 90.0


@dataclass
class Named:
    name: str


@dataclass
class Change:
    metric: Named
    attributes: dict[str, object]
    value: float = 1


@dataclass
class Clock:
    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Watched:
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.watch = PollWatch([Poll("q", "activities")], silence_seconds=SILENCE, now=self.clock)

    def later(self, seconds: float, changes: Iterable[Change] = ()) -> dict[str, float]:
        self.clock.seconds += seconds
        self.watch.take(changes)
        return self.watch.silent()


def change(name: str, *, queue: str = "q", operation: str = "PollActivityTaskQueue") -> Change:
    return Change(Named(name), {"task_queue": queue, "operation": operation})


def slots(available: float) -> Change:
    return Change(Named(SLOTS), {"task_queue": "q", "worker_type": "ActivityWorker"}, available)


def test_silence_is_told_with_its_length() -> None:
    watched = Watched()
    assert watched.later(SILENCE) == {}
    assert watched.later(1) == {"q/activities": 91.0}


def test_an_answered_poll_counts_when_no_failure_follows() -> None:
    watched = Watched()
    watched.later(80, [change(LATENCY)])
    assert watched.later(80) == {}
    assert watched.later(89) == {}
    assert watched.later(2) != {}


@pytest.mark.parametrize("together", [True, False])
def test_failed_polls_are_no_sign_of_life(together: bool) -> None:
    watched = Watched()
    for _ in range(10):
        if together:
            silent = watched.later(10, [change(LATENCY), change(FAILURE), change(LATENCY), change(FAILURE)])
        else:
            watched.later(5, [change(LATENCY), change(LATENCY)])
            silent = watched.later(5, [change(FAILURE), change(FAILURE)])
    assert silent == {"q/activities": 100.0}


def test_one_answer_among_failures_counts() -> None:
    watched = Watched()
    watched.later(95, [change(LATENCY), change(LATENCY), change(FAILURE)])
    assert watched.later(1) == {}


@pytest.mark.parametrize(
    "other",
    [
        change(LATENCY, queue="other"),
        change(LATENCY, operation="PollWorkflowTaskQueue"),
        change(LATENCY, operation="GetWorkflowExecutionHistory"),
        change("temporal_request_latency"),
    ],
)
def test_other_requests_say_nothing_about_a_poll(other: Change) -> None:
    watched = Watched()
    watched.later(50, [other])
    assert watched.later(50) != {}


def test_a_queue_without_a_free_slot_is_at_work() -> None:
    watched = Watched()
    watched.later(10, [slots(0)])
    assert watched.later(500) == {}
    watched.later(10, [slots(1)])
    assert watched.later(SILENCE + 1) != {}


async def test_a_real_worker_is_alive_until_its_server_hangs_and_again_afterwards(
    idle_stack: Stack, temporal_server: Temporal
) -> None:
    runtime, buffer = watched_runtime()
    client = await connect(
        temporal_server.address,
        temporal_server.namespace,
        converter_for_tests(),
        program="test",
        runtime=runtime,
    )
    attempts = Attempts()
    queue = unique_queue()
    # Activities are handed out eagerly, with the answer to a workflow task; their polls are answered once a minute.
    watch = PollWatch([Poll(queue, "workflows")], silence_seconds=4 * DRAIN_SECONDS)
    draining = asyncio.create_task(drain_forever(buffer, watch))

    async def at_work() -> bool:
        await client.execute_workflow(BareExercise.run, Bare(what="x"), id=str(uuid4()), task_queue=queue)
        return not watch.silent()

    async with working(client, workflows=[BareExercise], activities=[attempts.who], queues=[queue]):
        assert await eventually(at_work, timeout_seconds=30)
        os.kill(idle_stack.pid("temporal"), signal.SIGSTOP)
        try:
            await eventually(lambda: list(watch.silent()) == [f"{queue}/workflows"])
        finally:
            os.kill(idle_stack.pid("temporal"), signal.SIGCONT)
        assert await eventually(at_work, timeout_seconds=60)
    draining.cancel()
