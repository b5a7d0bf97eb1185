import asyncio
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowHandle

from domain.actors import SYSTEM
from domain.pipelines.messages import PipelineRunInput, PipelineRunResult, RunStepInput, RunStepResult
from domain.pipelines.outline import RunOn
from domain.pipelines.status import RunStatus, StepCause, StepStatus
from temporal.names import EXECUTION_QUEUE
from tests.support.eventually import eventually
from tests.workflows.fakes import CANCELLED, FAILURE, SUCCESS, FakeActivities, served, step

Handle = WorkflowHandle[object, PipelineRunResult]


async def start(client: Client) -> Handle:
    run_id = uuid4()
    return await client.start_workflow(
        "PipelineRunWorkflow",
        PipelineRunInput(run_id=run_id, actor=SYSTEM, project="o/p", git_ref="refs/heads/main"),
        id=f"pipeline-run/{run_id}",
        task_queue=EXECUTION_QUEUE,
        result_type=PipelineRunResult,
    )


async def run(client: Client, fakes: FakeActivities) -> RunStatus:
    async with served(client, fakes):
        return await finish(await start(client))


async def finish(handle: Handle) -> RunStatus:
    return (await asyncio.wait_for(handle.result(), timeout=30)).status


def statuses(fakes: FakeActivities) -> RunStatus | None:
    return None if fakes.finished is None else fakes.finished.status


async def test_steps_run_in_the_order_of_their_dependencies(client: Client) -> None:
    fakes = FakeActivities(step("a"), step("b", "a"), step("c", "b"))

    assert await run(client, fakes) is RunStatus.SUCCESS
    assert fakes.calls == ["prepare_run", "run_step", "run_step", "run_step", "finish_run"]
    assert fakes.together == {frozenset({"a"}), frozenset({"b"}), frozenset({"c"})}


async def test_independent_steps_run_at_the_same_time(client: Client) -> None:
    fakes = FakeActivities(step("a"), step("left", "a"), step("right", "a"), step("end", "left", "right"))
    both = asyncio.Barrier(2)

    async def meet(_: RunStepInput) -> RunStepResult:
        await asyncio.wait_for(both.wait(), timeout=10)
        return SUCCESS

    fakes.answers = {"left": [meet], "right": [meet]}

    assert await run(client, fakes) is RunStatus.SUCCESS
    assert frozenset({"left", "right"}) in fakes.together


async def test_what_depends_on_a_failure_is_skipped_with_its_reason(client: Client) -> None:
    fakes = FakeActivities(step("a"), step("b", "a"), step("c", "b"), step("notify", "c", run_on=(RunOn.FAILURE,)))
    fakes.answers = {"a": [FAILURE]}

    assert await run(client, fakes) is RunStatus.FAILURE
    assert set(fakes.skipped) == {"b", "c"}
    assert "'a'" in fakes.skipped["b"]
    assert fakes.attempts["notify"] == 1


async def test_an_ignored_failure_does_not_fail_the_run(client: Client) -> None:
    fakes = FakeActivities(step("a", failure_ignored=True), step("b", "a"))
    fakes.answers = {"a": [FAILURE]}

    assert await run(client, fakes) is RunStatus.SUCCESS
    assert fakes.attempts["b"] == 1


async def test_a_run_without_steps_that_run_succeeds(client: Client) -> None:
    assert await run(client, FakeActivities()) is RunStatus.SUCCESS


async def test_a_granted_retry_is_another_attempt_and_says_what_it_waits_for(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    lost = RunStepResult(status=StepStatus.LOST, cause=StepCause.LOST, reason="gone", retry_after_seconds=0.05)
    fakes.answers = {"a": [lost, lost, SUCCESS]}

    assert await run(client, fakes) is RunStatus.SUCCESS
    assert fakes.attempts["a"] == 3
    assert fakes.waiting[0] is not None
    assert "gone" in fakes.waiting[0]
    assert fakes.waiting[-1] is None


async def test_a_retry_that_waits_is_found_by_its_health(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    lost = RunStepResult(status=StepStatus.LOST, cause=StepCause.LOST, reason="gone", retry_after_seconds=600)
    fakes.answers = {"a": [lost]}
    async with served(client, fakes):
        handle = await start(client)

        async def found() -> bool:
            query = f"PerdureHealth = 'retrying' AND WorkflowId = '{handle.id}'"
            return (await client.count_workflows(query)).count == 1

        await eventually(found, timeout_seconds=20)
        await handle.cancel()
        assert await finish(handle) is RunStatus.CANCELLED
    assert fakes.attempts["a"] == 1


async def test_cancelling_stops_the_sandboxes_and_closes_the_run(client: Client) -> None:
    fakes = FakeActivities(step("a"), step("b", "a"))
    fakes.answers = {"a": [fakes.until_stopped]}
    async with served(client, fakes):
        handle = await start(client)
        await eventually(lambda: "a" in fakes.running)
        await handle.cancel()
        assert await finish(handle) is RunStatus.CANCELLED
    assert fakes.calls == ["prepare_run", "run_step", "stop_run", "finish_run"]
    assert statuses(fakes) is RunStatus.CANCELLED
    assert fakes.attempts["b"] == 0


async def test_cancelling_during_the_checkout_closes_the_run(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.prepared_status = RunStatus.PENDING
    async with served(client, fakes):
        handle = await start(client)
        await eventually(lambda: "prepare_run" in fakes.calls)
        await handle.cancel()
        assert await finish(handle) is RunStatus.CANCELLED
    assert statuses(fakes) is RunStatus.CANCELLED
    assert fakes.attempts["a"] == 0


async def test_a_cancellation_that_the_checkout_no_longer_heeds_is_not_forgotten(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.outages["prepare_run"] = 1  # an activity of its own, which would hear of it with its next heartbeat
    fakes.may_prepare.clear()
    async with served(client, fakes):
        handle = await start(client)
        await eventually(lambda: fakes.calls.count("prepare_run") == 2)
        await handle.cancel()

        async def told() -> bool:
            events = (await handle.fetch_history()).events
            return any(event.HasField("activity_task_cancel_requested_event_attributes") for event in events)

        await eventually(told)
        fakes.may_prepare.set()
        assert await finish(handle) is RunStatus.CANCELLED
    assert statuses(fakes) is RunStatus.CANCELLED
    assert fakes.attempts["a"] == 0


async def test_a_run_whose_cancel_came_before_its_start_only_closes(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.prepared_status = RunStatus.CANCELLED

    assert await run(client, fakes) is RunStatus.CANCELLED
    assert fakes.calls == ["prepare_run", "finish_run"]


async def test_the_timeout_of_the_run_stops_it_as_a_failure(client: Client) -> None:
    fakes = FakeActivities(step("a"), timeout_seconds=0.5)
    fakes.answers = {"a": [fakes.until_stopped]}

    assert await run(client, fakes) is RunStatus.FAILURE
    assert fakes.finished is not None
    assert "timeout" in (fakes.finished.error or "")
    assert "stop_run" in fakes.calls


@pytest.mark.parametrize("broken", ["prepare_run", "run_step", "skip_steps"])
async def test_an_activity_that_fails_for_good_ends_the_run_as_an_error(client: Client, broken: str) -> None:
    fakes = FakeActivities(step("a"), step("b", "a"), step("c", "b"))
    fakes.answers = {"a": [FAILURE if broken == "skip_steps" else SUCCESS]}
    fakes.broken = {broken}

    assert await run(client, fakes) is RunStatus.ERROR
    assert fakes.finished is not None
    assert f"{broken} cannot go on" in (fakes.finished.error or "")
    assert "stop_run" in fakes.calls
    assert fakes.calls.count(broken) == 1


async def test_a_cancelled_step_makes_a_cancelled_run(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.answers = {"a": [CANCELLED]}

    assert await run(client, fakes) is RunStatus.CANCELLED


@pytest.mark.parametrize("outages", [1, 3])
async def test_an_outage_at_the_beginning_delays_the_run(client: Client, outages: int) -> None:
    fakes = FakeActivities(step("a"))
    fakes.outages["prepare_run"] = outages
    assert await run(client, fakes) is RunStatus.SUCCESS
    assert fakes.calls == ["prepare_run"] * (outages + 1) + ["run_step", "finish_run"]


async def test_an_outage_at_the_end_delays_the_end_and_is_seen_in_the_history(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.outages["finish_run"] = 3
    async with served(client, fakes):
        handle = await start(client)
        assert await finish(handle) is RunStatus.SUCCESS
        scheduled = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    assert fakes.calls.count("finish_run") == 4
    # The first try is local; what takes long belongs where operators see it: among the pending activities.
    assert scheduled == ["run_step", "finish_run"]
    assert statuses(fakes) is RunStatus.SUCCESS


async def test_a_cancellation_that_comes_while_the_run_is_closed_changes_nothing(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.may_finish.clear()
    async with served(client, fakes):
        handle = await start(client)
        await eventually(lambda: "finish_run" in fakes.calls)
        await handle.cancel()
        fakes.may_finish.set()
        assert await finish(handle) is RunStatus.SUCCESS
    assert statuses(fakes) is RunStatus.SUCCESS


async def test_an_end_that_takes_longer_than_a_workflow_task_goes_on_as_an_activity(client: Client) -> None:
    fakes = FakeActivities(step("a"))
    fakes.may_finish.clear()
    async with served(client, fakes):
        handle = await start(client)
        await eventually(lambda: fakes.calls.count("finish_run") == 2, timeout_seconds=30)
        fakes.may_finish.set()
        assert await finish(handle) is RunStatus.SUCCESS
