"""A pipeline run from its row to its end, and the schedules that repair what a crash left behind."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from activities.pipelines.runs import RunActivities
from activities.pipelines.steps import StepActivities
from domain.access.decide import RightLost
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.messages import (
    FinishRunInput,
    PipelineRunInput,
    PipelineRunResult,
    PrepareRunInput,
    PrepareRunResult,
    RunStepInput,
    RunStepResult,
    SetWaitingInput,
    SkipStepsInput,
    StopRunInput,
)
from domain.pipelines.outline import StepOutline, next_moves
from domain.pipelines.status import RUN_ENDED, RunStatus, StepStatus, combine
from temporal.names import (
    EXECUTION_QUEUE,
    EXPIRE_WORKFLOW,
    ORCHESTRATION_QUEUE,
    PIPELINE_RUN_WORKFLOW,
    REPAIR_RUNS_WORKFLOW,
    Health,
    health_update,
    pipeline_run_attributes,
)

T = TypeVar("T")
InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

# Until it works: a run that began must end, and only outages of neighbours can delay these.
FOR_EVER = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))
# A local activity is not to be repeated where it is: nobody would see it, and each try adds to the history.
ONCE = RetryPolicy(maximum_attempts=1)
# Well within a workflow task (10 s), which waits meanwhile, and with it whatever cancels the run.
SOON = timedelta(seconds=2)
# What a cancelled checkout still writes must not come after the clean-up (promise D9).
WAIT = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
# The schedule comes again anyway.
A_FEW_TIMES = RetryPolicy(maximum_attempts=3)
# A live worker beats every 2 s; after this a dead one's work is handed to the next (promise D2).
HEARTBEAT_TIMEOUT = timedelta(seconds=10)
# Over the step's own timeout, which the sandbox enforces: for artifacts, compaction and outages.
STEP_GRACE = timedelta(hours=1)


async def start_pipeline_run(order: PipelineRunInput) -> None:
    """Starts the workflow of a committed run from another workflow; one that runs already is left alone."""
    try:
        await workflow.start_child_workflow(
            PipelineRunWorkflow.run,
            order,
            id=pipeline_run_workflow_id(order.run_id),
            task_queue=EXECUTION_QUEUE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=pipeline_run_attributes(order.project, order.git_ref, order.actor.name),
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("run %s has its workflow already", order.run_id)


@workflow.defn(name=PIPELINE_RUN_WORKFLOW)
class PipelineRunWorkflow:
    """Runs the steps of one run in the order that their dependencies allow.

    A cancellation, a right that is gone, or the run's timeout stops the sandboxes; the step activities then see their
    sandboxes end, finish the logs, and the run is closed as usual. So there is one way out, and everything is cleaned
    up on it.

    It lives on the queue of its long activities, so that the server hands them out with its answer to a workflow task
    (eager dispatch) instead of over a poll; what must not wait behind steps goes to the other queue.
    """

    @workflow.init
    def __init__(self, order: PipelineRunInput) -> None:
        """Nothing runs yet."""
        self._run_id = order.run_id
        self._actor = order.actor
        self._statuses: dict[str, StepStatus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._retrying: dict[str, str] = {}

    @workflow.run
    async def run(self, order: PipelineRunInput) -> PipelineRunResult:
        """Returns how the run ended, as it stands in its row."""
        status: RunStatus
        error: str | None = None
        try:
            prepared = await self._prepare(order)
            if prepared.status in RUN_ENDED:
                status = prepared.status
            else:
                status, error = await self._run_steps(prepared)
        except (asyncio.CancelledError, FailureError) as failure:
            if is_cancelled_exception(failure):
                status = RunStatus.CANCELLED
            else:
                status, error = _explain(failure)
            await self._stop()
        return await _uninterrupted(self._finish(status, error))

    async def _prepare(self, order: PipelineRunInput) -> PrepareRunResult:
        return await _soon_or_durably(
            RunActivities.prepare_run,
            PrepareRunInput(run_id=order.run_id, actor=order.actor),
            start_to_close_timeout=timedelta(minutes=30),  # the checkout of a very large repository
        )

    async def _run_steps(self, prepared: PrepareRunResult) -> tuple[RunStatus, str | None]:
        self._statuses.update(prepared.statuses)
        by_name = {step.name: step for step in prepared.steps}
        try:
            async with asyncio.timeout(prepared.timeout_seconds):
                await self._follow_moves(by_name)
        except TimeoutError:
            await self._stop()
            return RunStatus.FAILURE, f"The run took longer than its timeout of {prepared.timeout_seconds:g} s."
        ends = [(self._statuses[step.name], step.failure_ignored) for step in prepared.steps]
        return combine(ends), None

    async def _follow_moves(self, by_name: dict[str, StepOutline]) -> None:
        while True:
            moves = next_moves(tuple(by_name.values()), self._statuses)
            if moves.skip:
                await self._skip(moves.skip, by_name)
                continue
            for name in moves.start:
                self._statuses[name] = StepStatus.RUNNING
                self._tasks[name] = asyncio.create_task(self._run_step(by_name[name]))
            if moves.done:
                return
            await workflow.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, task in self._tasks.items() if task.done()]:
                # Raises what the step's activity could not get over.
                self._tasks.pop(name).result()

    async def _skip(self, skip: Sequence[tuple[str, str]], by_name: dict[str, StepOutline]) -> None:
        reasons = {by_name[name].id: reason for name, reason in skip}
        self._statuses.update({name: StepStatus.SKIPPED for name, _ in skip})
        await workflow.execute_activity_method(
            RunActivities.skip_steps,
            SkipStepsInput(run_id=self._run_id, reasons=reasons),
            task_queue=ORCHESTRATION_QUEUE,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=FOR_EVER,
        )

    async def _run_step(self, step: StepOutline) -> None:
        attempt, previous = 1, None
        while True:
            ended = await self._run_attempt(step, attempt, previous)
            if ended.retry_after_seconds is None or self._stopping:
                self._statuses[step.name] = ended.status
                return
            previous = ended.reason
            await self._note_retry(step.name, f"{previous}; attempt {attempt + 1} comes")
            try:
                # A timer that a stop of the run wakes.
                await workflow.wait_condition(
                    lambda: self._stopping, timeout=timedelta(seconds=ended.retry_after_seconds)
                )
            except TimeoutError:
                pass
            else:
                self._statuses[step.name] = StepStatus.CANCELLED
                return
            attempt += 1
            await self._note_retried(step.name)

    async def _run_attempt(self, step: StepOutline, attempt: int, previous: str | None) -> RunStepResult:
        return await workflow.execute_activity_method(
            StepActivities.run_step,
            RunStepInput(run_id=self._run_id, step_id=step.id, attempt=attempt, previous=previous, actor=self._actor),
            task_queue=EXECUTION_QUEUE,
            start_to_close_timeout=timedelta(seconds=step.timeout_seconds) + STEP_GRACE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=FOR_EVER,
            summary=step.name if attempt == 1 else f"{step.name} (attempt {attempt})",
        )

    async def _note_retry(self, name: str, why: str) -> None:
        self._retrying[name] = why
        workflow.upsert_search_attributes(health_update(Health.RETRYING, f"{name}: {why}"))
        await self._say_what_it_waits_for()

    async def _note_retried(self, name: str) -> None:
        del self._retrying[name]
        if not self._retrying:
            workflow.upsert_search_attributes(health_update(Health.OK))
        await self._say_what_it_waits_for()

    async def _say_what_it_waits_for(self) -> None:
        waiting_for = "; ".join(f"{name}: {why}" for name, why in self._retrying.items()) or None
        await workflow.execute_activity_method(
            RunActivities.set_waiting_for,
            SetWaitingInput(run_id=self._run_id, waiting_for=waiting_for),
            task_queue=ORCHESTRATION_QUEUE,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=FOR_EVER,
        )

    async def _stop(self) -> None:
        """Ends everything that runs; its step activities then see their sandboxes end and finish their logs."""
        self._stopping = True
        await _uninterrupted(self._stop_and_wait())

    async def _stop_and_wait(self) -> None:
        await workflow.execute_activity_method(
            RunActivities.stop_run,
            StopRunInput(run_id=self._run_id),
            # Not behind the steps: when they hold every slot of their queue, this is what frees them (promise D9).
            task_queue=ORCHESTRATION_QUEUE,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=FOR_EVER,
        )
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _finish(self, status: RunStatus, error: str | None) -> PipelineRunResult:
        return await _soon_or_durably(
            RunActivities.finish_run,
            FinishRunInput(run_id=self._run_id, status=status, error=error),
            start_to_close_timeout=timedelta(minutes=30),  # compacting what a broken step left
        )


async def _soon_or_durably(
    method: Callable[[RunActivities, InputT], Awaitable[ResultT]], order: InputT, *, start_to_close_timeout: timedelta
) -> ResultT:
    """Does what is usually a matter of milliseconds: in the worker that holds the workflow, within its workflow task.

    That spares two ways over the server, and a place behind the steps of other runs. What takes longer, or finds a
    neighbour away, is done as an ordinary activity, which operators see among the pending ones, with its retries.
    """
    try:
        return await _heedful(
            workflow.execute_local_activity_method(
                method, order, start_to_close_timeout=SOON, retry_policy=ONCE, cancellation_type=WAIT
            )
        )
    except FailureError as failure:
        final = isinstance(failure, ApplicationError) and failure.non_retryable
        if final or is_cancelled_exception(failure):
            raise
    return await _heedful(
        workflow.execute_activity_method(
            method,
            order,
            task_queue=EXECUTION_QUEUE,
            start_to_close_timeout=start_to_close_timeout,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=FOR_EVER,
            cancellation_type=WAIT,
        )
    )


async def _heedful(work: Coroutine[Any, Any, T]) -> T:
    """Awaits an activity; a cancellation is passed on to it, awaited, and raised even if all was done meanwhile.

    ``WAIT_CANCELLATION_COMPLETED`` alone forgets a cancellation that comes too late for the activity, and Temporal
    tells of a cancellation only once: the run would go on to its end (promise D9).
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work`` to its end, whatever cancellations arrive meanwhile (promise D9)."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            workflow.logger.info("already cleaning up")
    return task.result()


def _explain(failure: BaseException) -> tuple[RunStatus, str]:
    """How a run ends by what an activity raised for good, and the sentence for a person in it."""
    cause = failure.cause if isinstance(failure, ActivityError) else failure
    if not isinstance(cause, ApplicationError):
        return RunStatus.ERROR, f"The platform could not go on: {failure}"
    if cause.type == RightLost.code:
        return RunStatus.CANCELLED, cause.message
    return RunStatus.ERROR, f"The platform could not go on: {cause.message}"


@workflow.defn(name=REPAIR_RUNS_WORKFLOW)
class RepairRunsWorkflow:
    """Starts what never started, cancels what was never told, removes what was left behind. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One round."""
        found = await workflow.execute_activity_method(
            RunActivities.runs_to_repair,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=A_FEW_TIMES,
        )
        for order in found.start:
            await start_pipeline_run(order)
        for run_id in found.cancel:
            await workflow.get_external_workflow_handle(pipeline_run_workflow_id(run_id)).cancel()
        await workflow.execute_activity_method(
            RunActivities.remove_leftovers,
            task_queue=EXECUTION_QUEUE,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=A_FEW_TIMES,
        )


@workflow.defn(name=EXPIRE_WORKFLOW)
class ExpireWorkflow:
    """Removes artifacts past their date, and what no row refers to any more. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One round."""
        await workflow.execute_activity_method(
            RunActivities.expire,
            start_to_close_timeout=timedelta(minutes=30),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=A_FEW_TIMES,
        )
