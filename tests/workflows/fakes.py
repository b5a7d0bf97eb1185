"""Activities that answer as a test wants, registered under the real names."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from domain.pipelines.messages import (
    FinishRunInput,
    PipelineRunResult,
    PrepareRunInput,
    PrepareRunResult,
    RunStepInput,
    RunStepResult,
    SetWaitingInput,
    SkipStepsInput,
    StopRunInput,
)
from domain.pipelines.outline import StepOutline
from domain.pipelines.status import RunStatus, StepCause, StepStatus
from temporal.names import EXECUTION_QUEUE, ORCHESTRATION_QUEUE
from tests.support.temporal import working
from worker.registry import WORKFLOWS

SUCCESS = RunStepResult(status=StepStatus.SUCCESS)
FAILURE = RunStepResult(status=StepStatus.FAILURE, cause=StepCause.EXIT, exit_code=1, reason="exit code 1")
CANCELLED = RunStepResult(status=StepStatus.CANCELLED, cause=StepCause.CANCELLED, reason="cancelled")

Answer = RunStepResult | Callable[[RunStepInput], Awaitable[RunStepResult]]


def step(name: str, *after: str, **more: Any) -> StepOutline:  # noqa: ANN401  # passes fields on
    return StepOutline(id=uuid4(), name=name, depends_on=after, **more)


class Fakes(Protocol):
    """Activities under the real names."""

    def all(self) -> list[Callable[..., Any]]:
        """Each of them."""
        ...


@asynccontextmanager
async def served(client: Client, *fakes: Fakes) -> AsyncIterator[None]:
    """Workers of both real queues, with the real workflows."""
    activities = [one for holder in fakes for one in holder.all()]
    queues = [ORCHESTRATION_QUEUE, EXECUTION_QUEUE]
    async with working(client, workflows=WORKFLOWS, activities=activities, queues=queues):
        yield


class FakeActivities:
    """A platform whose steps end as they are told.

    Attributes:
        answers: For a step's name what its attempts answer, in turn; the last one again and again. Default: success.
        broken: Names of activities that fail for good.
        outages: For an activity's name how many of its next calls find a neighbour away.
        may_prepare: Cleared by a test that wants a slow checkout without heartbeats.
        may_finish: Cleared by a test that wants a slow end.
    """

    def __init__(self, *steps: StepOutline, timeout_seconds: float = 60) -> None:
        self.steps = steps
        self.timeout_seconds = timeout_seconds
        self.answers: dict[str, list[Answer]] = {}
        self.broken: set[str] = set()
        self.outages: Counter[str] = Counter()
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.prepared_status = RunStatus.RUNNING
        self.calls: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.waiting: list[str | None] = []
        self.finished: FinishRunInput | None = None
        self.stopped = asyncio.Event()
        self.running: set[str] = set()
        self.together: set[frozenset[str]] = set()

    def name_of(self, step_id: UUID) -> str:
        return next(step.name for step in self.steps if step.id == step_id)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise ApplicationError(f"{name} cannot go on", type="not_found", non_retryable=True)
        if self.outages[name] > 0:
            self.outages[name] -= 1
            raise ApplicationError(f"a neighbour of {name} is away", type="unavailable")

    @activity.defn(name="prepare_run")
    async def prepare_run(self, _: PrepareRunInput) -> PrepareRunResult:
        self._call("prepare_run")
        while self.prepared_status is RunStatus.PENDING:  # a test that wants a slow checkout
            activity.heartbeat()
            await asyncio.sleep(0.05)
        await self.may_prepare.wait()
        return PrepareRunResult(
            status=self.prepared_status,
            steps=self.steps,
            statuses={step.name: StepStatus.PENDING for step in self.steps},
            timeout_seconds=self.timeout_seconds,
        )

    @activity.defn(name="run_step")
    async def run_step(self, order: RunStepInput) -> RunStepResult:
        name = self.name_of(order.step_id)
        self._call("run_step")
        self.attempts[name] += 1
        assert order.attempt == self.attempts[name]
        self.running.add(name)
        self.together.add(frozenset(self.running))
        try:
            answers = self.answers.get(name, [SUCCESS])
            answer = answers[min(order.attempt, len(answers)) - 1]
            return answer if isinstance(answer, RunStepResult) else await answer(order)
        finally:
            self.running.discard(name)

    async def until_stopped(self, _: RunStepInput) -> RunStepResult:
        """An answer: runs until ``stop_run`` kills it."""
        while not self.stopped.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return CANCELLED

    @activity.defn(name="skip_steps")
    async def skip_steps(self, order: SkipStepsInput) -> None:
        self._call("skip_steps")
        self.skipped.update({self.name_of(step_id): reason for step_id, reason in order.reasons.items()})

    @activity.defn(name="set_waiting_for")
    async def set_waiting_for(self, order: SetWaitingInput) -> None:
        self._call("set_waiting_for")
        self.waiting.append(order.waiting_for)

    @activity.defn(name="stop_run")
    async def stop_run(self, _: StopRunInput) -> None:
        self._call("stop_run")
        self.stopped.set()

    @activity.defn(name="finish_run")
    async def finish_run(self, order: FinishRunInput) -> PipelineRunResult:
        self._call("finish_run")
        await self.may_finish.wait()
        self.finished = self.finished or order  # as the row does: the first end stands
        return PipelineRunResult(status=self.finished.status)

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for a worker."""
        return [
            self.prepare_run,
            self.run_step,
            self.skip_steps,
            self.set_waiting_for,
            self.stop_run,
            self.finish_run,
        ]
