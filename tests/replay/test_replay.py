import difflib
import json
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.workflow import NondeterminismError

from tests.replay import changed
from tests.replay.fingerprints import fingerprint, present, recorded
from tests.replay.record import keep, readable_events
from tests.replay.replaying import KNOWN_BAD, Recorded, recorded_histories, replay_failure
from tests.support.temporal import working
from tests.temporal.exercises import ActingExercise, Attempts, BareExercise, LargeExercise, Order
from worker.registry import WORKFLOWS

HISTORIES = list(recorded_histories())

HOW_TO_CHANGE = """
{workflow} issues its commands in another order than before, so executions that are under way would fail to replay.

 1. Put the new way behind a patch:      if workflow.patched("what-changed"): <new> else: <old>
    Executions that began before go the old way, later ones the new way.
 2. If no execution of it can be under way (it is new, or never was released), leave the patch out and say so in the
    commit.
 3. Take the new order on:               python -m tests.replay.fingerprints
 4. Keep a history of the new path:      python -m tests.replay.record <workflow id> <name>
    The old histories stay: they prove that the old path still replays.

See docs/howto/change-a-workflow.md. The difference:

{difference}"""


@pytest.mark.parametrize("workflow", [one.__name__ for one in WORKFLOWS])
def test_the_order_of_commands_is_the_one_that_was_reviewed(workflow: str) -> None:
    before, now = recorded().get(workflow, []), present()[workflow]
    difference = "\n".join(difflib.unified_diff(before, now, "reviewed", "present", lineterm="", n=3))
    assert before == now, HOW_TO_CHANGE.format(workflow=workflow, difference=difference)


def test_no_fingerprint_is_left_of_a_workflow_that_is_gone() -> None:
    assert sorted(recorded()) == sorted(present()), "python -m tests.replay.fingerprints"


@pytest.mark.parametrize("history", [one for one in HISTORIES if not one.is_bad], ids=lambda one: one.id)
async def test_recorded_histories_replay(history: Recorded) -> None:
    failure = await replay_failure(history.path.read_text(encoding="utf-8"))
    assert failure is None, HOW_TO_CHANGE.format(workflow=history.workflow_type, difference=failure)


@pytest.mark.parametrize("history", [one for one in HISTORIES if one.is_bad], ids=lambda one: one.id)
async def test_known_bad_histories_fail(history: Recorded) -> None:
    assert isinstance(await replay_failure(history.path.read_text(encoding="utf-8")), NondeterminismError)


@pytest.mark.parametrize("workflow", [one.__name__ for one in WORKFLOWS])
def test_every_workflow_has_a_good_and_a_known_bad_history(workflow: str) -> None:
    kinds = {one.is_bad for one in HISTORIES if one.workflow_type == workflow}
    assert kinds == {True, False}, "run it, then: python -m tests.replay.record <workflow id> <name>"


def test_every_history_is_of_a_workflow_that_exists() -> None:
    assert {one.workflow_type for one in HISTORIES} <= {one.__name__ for one in WORKFLOWS}


def test_no_history_names_a_host_or_is_encrypted() -> None:
    for one in HISTORIES:
        text = one.path.read_text(encoding="utf-8")
        assert "perdure-encrypted" not in text
        identities = {line.strip() for line in text.splitlines() if '"identity"' in line}
        assert identities <= {'"identity": "recorder"', '"identity": "recorder",'}, one.id


async def test_a_recorded_history_replays_and_its_known_bad_twin_does_not(
    temporal_client: Client, tmp_path: Path
) -> None:
    workflow_id = str(uuid4())
    types = (ActingExercise, BareExercise)
    async with working(temporal_client, workflows=types, activities=Attempts().all()) as [worker]:
        await temporal_client.execute_workflow(
            ActingExercise.run, Order(what="an-order"), id=workflow_id, task_queue=worker.task_queue
        )
    events = await readable_events(temporal_client, workflow_id, temporal_client.data_converter)
    good, bad = keep(events, "acting", tmp_path)
    assert bad.stem.startswith(KNOWN_BAD)
    assert keep(events, "again", tmp_path) == [good.with_name("again.json")]
    assert "test:" not in good.read_text()
    assert await replay_failure(good.read_text(), types) is None
    assert isinstance(await replay_failure(bad.read_text(), types), NondeterminismError)
    cut = json.loads(good.read_text())
    cut["events"] = cut["events"][:-3]
    assert await replay_failure(json.dumps(cut), types) is None


def test_a_fingerprint_follows_helpers_and_notices_their_order() -> None:
    assert fingerprint(changed.Before) == [
        "run:",
        "  _first:",
        "    execute_activity_method(Attempts.who)",
        "  wait_condition()",
        "  timeout()",
        "  execute_activity_method(Attempts.size)",
        "  patched('what-changed')",
        "hurry:",
        "  upsert_search_attributes()",
    ]
    assert fingerprint(changed.Before) != fingerprint(changed.After)
    assert fingerprint(LargeExercise) == ["run:", "  execute_activity_method(Attempts.size)"]
