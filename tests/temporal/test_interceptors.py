import os
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from domain.actors import Actor, Origin
from temporal.codec import REFERENCE
from temporal.interceptors import UNEXPECTED, UNEXPECTED_TEXT_LENGTH_MAX
from tests.support.temporal import decode_in_place, payloads_in, working
from tests.temporal.exercises import (
    EXERCISES,
    SECRET,
    SOMEBODY,
    ActingExercise,
    Attempts,
    Bare,
    BareExercise,
    FailingExercise,
    LargeExercise,
    Order,
    RefusingExercise,
)

Run = Callable[..., Awaitable[object]]


@pytest.fixture(scope="module")
def attempts() -> Attempts:
    return Attempts()


@pytest.fixture(scope="module")
async def queue(temporal_client: Client, attempts: Attempts) -> AsyncIterator[str]:
    async with working(temporal_client, workflows=EXERCISES, activities=attempts.all()) as [worker]:
        yield worker.task_queue


@pytest.fixture(scope="module")
def run(temporal_client: Client, queue: str) -> Run:
    async def execute(workflow: type, argument: object, *, workflow_id: str | None = None) -> object:
        return await temporal_client.execute_workflow(
            workflow.__name__, argument, id=workflow_id or str(uuid4()), task_queue=queue, result_type=object
        )

    return execute


async def failure_of(run: Run, how: str, *, workflow_id: str | None = None) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failed:
        await run(FailingExercise, how, workflow_id=workflow_id)
    cause = failed.value.cause.__cause__
    assert isinstance(cause, ApplicationError)
    return cause


async def test_an_error_that_cannot_be_got_over_is_tried_once_and_keeps_code_and_details(
    run: Run, attempts: Attempts
) -> None:
    error = await failure_of(run, "not_found")
    assert (error.type, error.message, error.non_retryable) == ("not_found", "There is no run 7.", True)
    assert error.details == ({"run": 7},)
    assert attempts.tried["not_found"] == 1


async def test_the_precise_code_is_the_type(run: Run) -> None:
    assert (await failure_of(run, "precise")).type == "run_ended"


@pytest.mark.parametrize("how", ["unavailable", "internal", "bug"])
async def test_other_errors_are_tried_again(run: Run, attempts: Attempts, how: str) -> None:
    await failure_of(run, how)
    assert attempts.tried[how] == 3
    assert await run(FailingExercise, f"{how}-once") == "recovered"


async def test_a_limit_says_when_to_come_back(run: Run) -> None:
    assert await run(FailingExercise, "busy-once") == "recovered"


async def test_an_unexpected_error_shows_one_short_line_and_no_cause(run: Run, temporal_client: Client) -> None:
    workflow_id = str(uuid4())
    error = await failure_of(run, "bug", workflow_id=workflow_id)
    assert error.type == UNEXPECTED
    assert error.message.startswith("ValueError: xxx")
    assert len(error.message) <= UNEXPECTED_TEXT_LENGTH_MAX
    assert "exercises.py" in (error.failure.stack_trace if error.failure else "")
    history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
    for event in history.events:
        await decode_in_place(event, temporal_client.data_converter)
    readable = b"".join(event.SerializeToString() for event in history.events)
    assert b"ValueError" in readable
    assert SECRET.encode() not in readable


async def test_one_of_our_errors_in_a_workflow_fails_it(run: Run) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await run(RefusingExercise, Order(what="unicorn"))
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "not_found"
    assert failed.value.cause.message == "There is no unicorn."


async def test_the_actor_reaches_activities_and_children(run: Run) -> None:
    actor = Actor(user_id=SOMEBODY, name="ada", origin=Origin(request_id="req-12345678"))
    assert await run(ActingExercise, Order(what="x", actor=actor)) == ["ada req-12345678"] * 2


async def test_without_an_actor_the_system_acts(run: Run) -> None:
    assert await run(BareExercise, Bare(what="x")) == "system None"
    assert await run(ActingExercise, Order(what="x")) == ["system None"] * 2


async def test_nothing_of_an_input_is_readable_in_the_history(run: Run, temporal_client: Client) -> None:
    workflow_id = str(uuid4())
    actor = Actor(user_id=SOMEBODY, name="grace-the-visible", origin=Origin(ip="192.0.2.77"))
    await run(ActingExercise, Order(what="an-unseen-thing", actor=actor), workflow_id=workflow_id)
    history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
    raw = b"".join(event.SerializeToString() for event in history.events)
    for word in (b"grace-the-visible", b"192.0.2.77", b"an-unseen-thing"):
        assert word not in raw


async def test_large_payloads_leave_the_history_small(temporal_client: Client, queue: str) -> None:
    data = os.urandom(3 * 1024**2)
    handle = await temporal_client.start_workflow(LargeExercise.run, data, id=str(uuid4()), task_queue=queue)
    assert await handle.result() == data
    history = await handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 20_000
    encodings = {payload.metadata["encoding"] for event in history.events for payload in payloads_in(event)}
    assert REFERENCE in encodings
