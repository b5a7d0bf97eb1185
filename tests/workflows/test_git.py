"""What follows a push, on a real Temporal: each run started once, however often the push is settled."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from domain.actors import SYSTEM
from domain.ids import pipeline_run_workflow_id, push_workflow_id
from domain.pipelines.messages import OpenPushes, PipelineRunResult, SettlePushInput, SettlePushResult, StartedRun
from domain.pipelines.status import RunStatus
from temporal.names import ORCHESTRATION_QUEUE, PUSH_WORKFLOW, SWEEP_PUSHES_WORKFLOW
from tests.support.eventually import eventually
from tests.workflows.fakes import FakeActivities, served


def started(status: RunStatus = RunStatus.PENDING) -> StartedRun:
    return StartedRun(
        run_id=uuid4(),
        number=1,
        name="platform",
        config_path=".platform.yaml",
        status=status,
        actor=SYSTEM,
        project="o/p",
        git_ref="refs/heads/main",
    )


class FakePushes:
    """Settles pushes as it is told, after ``failures`` failed attempts."""

    def __init__(self, *runs: StartedRun, failures: int = 0) -> None:
        self.result = SettlePushResult(runs=runs, notes=("a note",))
        self.failures = failures
        self.settled: list[UUID] = []
        self.left_open: tuple[UUID, ...] = ()

    @activity.defn(name="settle_push")
    async def settle_push(self, order: SettlePushInput) -> SettlePushResult:
        if self.failures:
            self.failures -= 1
            raise ApplicationError("git still works on it", type="push_in_progress")
        self.settled.append(order.push_id)
        return self.result

    @activity.defn(name="sweep_pushes")
    async def sweep_pushes(self) -> OpenPushes:
        return OpenPushes(push_ids=self.left_open)

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for a worker."""
        return [self.settle_push, self.sweep_pushes]


async def settle(client: Client, push_id: UUID) -> SettlePushResult:
    handle = await client.start_workflow(
        PUSH_WORKFLOW,
        SettlePushInput(push_id=push_id),
        id=push_workflow_id(push_id),
        task_queue=ORCHESTRATION_QUEUE,
        result_type=SettlePushResult,
    )
    return await asyncio.wait_for(handle.result(), timeout=30)


async def status_of(client: Client, run: StartedRun) -> RunStatus:
    handle = client.get_workflow_handle(pipeline_run_workflow_id(run.run_id), result_type=PipelineRunResult)
    ended: PipelineRunResult = await asyncio.wait_for(handle.result(), timeout=30)
    return ended.status


async def known(client: Client, *runs: StartedRun) -> int:
    """How many executions there are of these runs."""
    ids = " OR ".join(f"WorkflowId = '{pipeline_run_workflow_id(run.run_id)}'" for run in runs)
    return (await client.count_workflows(ids)).count


async def test_a_push_that_cannot_be_settled_yet_is_settled_later(client: Client) -> None:
    pushes = FakePushes(failures=3)
    async with served(client, pushes, FakeActivities()):
        push_id = uuid4()
        assert (await settle(client, push_id)).notes == ("a note",)
    assert pushes.settled == [push_id]


async def test_the_push_of_a_worker_that_died_is_another_ones_after_ten_seconds(client: Client) -> None:
    push_id = uuid4()
    async with served(client, FakePushes(), FakeActivities()):
        await settle(client, push_id)
    history = await client.get_workflow_handle(push_workflow_id(push_id)).fetch_history()
    (scheduled,) = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled.heartbeat_timeout.ToTimedelta() == timedelta(seconds=10)


async def test_valid_files_are_started_and_invalid_ones_are_not(client: Client) -> None:
    good, bad = started(), started(RunStatus.ERROR)
    async with served(client, FakePushes(good, bad), FakeActivities()):
        assert await settle(client, uuid4()) == SettlePushResult(runs=(good, bad), notes=("a note",))
        assert await status_of(client, good) is RunStatus.SUCCESS

    async def listed() -> bool:
        return await known(client, good) == 1

    await eventually(listed)
    assert await known(client, bad) == 0


async def test_a_push_that_is_settled_again_starts_nothing_twice(client: Client) -> None:
    run = started()
    async with served(client, FakePushes(run), FakeActivities()):
        push_id = uuid4()
        first = await settle(client, push_id)
        await status_of(client, run)
        assert await settle(client, push_id) == first

        async def listed() -> bool:
            return await known(client, run) == 1

        await eventually(listed)


async def test_the_sweep_settles_what_was_left_open_once(client: Client) -> None:
    run = started()
    pushes = FakePushes(run)
    pushes.left_open = (uuid4(), uuid4())
    async with served(client, pushes, FakeActivities()):
        for _ in range(2):
            await client.execute_workflow(SWEEP_PUSHES_WORKFLOW, id=f"sweep-{uuid4()}", task_queue=ORCHESTRATION_QUEUE)
        for push_id in pushes.left_open:
            await client.get_workflow_handle(push_workflow_id(push_id)).result()
        assert set(pushes.settled) == set(pushes.left_open)
        assert await status_of(client, run) is RunStatus.SUCCESS
