"""One attempt of a step from its start to its recorded end, also when the worker dies anywhere between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from activities.pipelines.artifacts import ArtifactCollector
from activities.pipelines.logs import LogTaken
from adapters.bus.base import run_channel
from adapters.objects.base import ObjectRef
from adapters.objects.memory import MemoryObjects
from database.engine import Database
from database.store.pipelines.artifacts import artifacts_of_run
from database.store.pipelines.steps import end_step
from domain.errors import NotFound
from domain.pipelines.messages import RunStepInput, RunStepResult, StopRunInput
from domain.pipelines.status import StepCause, StepStatus
from tests.activities.pipelines.scene import Crash, Crashing, CrashingDatabase, Scene, dim, make_scene, step_file
from tests.support.audit import AUDIT_KEYS
from tests.support.eventually import eventually
from tests.support.stack import Stack, TestDatabase

FINAL = {"on": "lost", "limit": 0}


@pytest.fixture(scope="module")
async def database(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    """One for all tests here: each has a project of its own."""
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> Scene:
    return await make_scene(database, tmp_path)


async def test_a_step_that_is_not_there(scene: Scene) -> None:
    order = RunStepInput(run_id=uuid4(), step_id=uuid4(), attempt=1)
    with pytest.raises(NotFound):
        await ActivityEnvironment().run(scene.steps().run_step, order)
    assert scene.sandboxes.specs == []


@pytest.mark.parametrize(
    ("env", "expected", "reason"),
    [
        ({}, (StepStatus.SUCCESS, None, 0), None),
        ({"DUMMY_EXIT_CODE": "3"}, (StepStatus.FAILURE, StepCause.EXIT, 3), "exit code 3"),
        ({"DUMMY_SIGNAL": "11"}, (StepStatus.FAILURE, StepCause.SIGNAL, None), "ended by signal 11"),
        (
            {"DUMMY_OOM": "1"},
            (StepStatus.FAILURE, StepCause.OOM, None),
            "used more memory than its limit and was ended",
        ),
        (
            {"DUMMY_SLEEP": "60"},
            (StepStatus.FAILURE, StepCause.TIMEOUT, None),
            "ran longer than its timeout and was ended",
        ),
        (
            {"DUMMY_START_ERROR": "no room"},
            (StepStatus.ERROR, StepCause.START_FAILED, None),
            "the sandbox did not start: no room",
        ),
        ({"DUMMY_LOST": "1"}, (StepStatus.LOST, StepCause.LOST, None), "its supervisor was killed"),
    ],
    ids=lambda value: next(iter(value), "success") if isinstance(value, dict) else None,
)
async def test_each_end_of_a_sandbox_is_told_as_what_it_is(
    scene: Scene, env: dict[str, str], expected: tuple[object, ...], reason: str | None
) -> None:
    step = step_file(env={"DUMMY_OUTPUT": "out\n", **env}, timeout=1, retry=FINAL)
    run_id = await scene.ready_run(step)
    result = await scene.run_step(run_id)

    assert (result.status, result.cause, result.exit_code) == expected
    assert (result.reason, result.retry_after_seconds) == (reason, None)
    row = await scene.step(run_id)
    assert (row.status, row.cause, row.exit_code, row.reason) == (*expected, reason)
    assert row.finished_at is not None
    assert row.duration_ms is not None
    output = "" if "DUMMY_START_ERROR" in env else "out\n"
    assert await scene.log(run_id) == output + (dim(reason) if reason else "")
    assert row.log_sha256 is not None
    assert await scene.run_step(run_id) == result, "again, the same answer"


async def test_too_much_output_ends_a_step_and_keeps_what_fits(scene: Scene) -> None:
    run_id = await scene.ready_run(step_file(env={"DUMMY_OUTPUT": "x" * 1001}))
    result = await scene.run_step(run_id)
    assert (result.status, result.cause) == (StepStatus.FAILURE, StepCause.LIMIT)
    assert await scene.log(run_id) == "x" * 1000 + "\n" + dim("wrote more output than its limit and was ended")


async def test_stopping_the_run_ends_its_running_step_as_cancelled(scene: Scene) -> None:
    run_id = await scene.ready_run(step_file(env={"DUMMY_SLEEP": "60", "DUMMY_OUTPUT": "half"}, retry=[]))
    running = asyncio.create_task(scene.run_step(run_id))
    await eventually(lambda: scene.sandboxes.ran)
    await ActivityEnvironment().run(scene.runs.stop_run, StopRunInput(run_id=run_id))
    result = await running
    assert (result.status, result.cause) == (StepStatus.CANCELLED, StepCause.CANCELLED)
    assert await scene.log(run_id) == "half\n" + dim("cancelled")


async def test_a_step_of_a_stopped_run_runs_nothing(scene: Scene) -> None:
    run_id = await scene.ready_run(step_file())
    await ActivityEnvironment().run(scene.runs.stop_run, StopRunInput(run_id=run_id))
    result = await scene.run_step(run_id)
    assert result.status is StepStatus.CANCELLED
    assert scene.sandboxes.ran == []


async def test_a_step_that_has_ended_before_its_attempt_is_left_alone(scene: Scene) -> None:
    run_id = await scene.ready_run(step_file())
    row = await scene.step(run_id)
    async with scene.database.transaction() as session:
        await end_step(session, row.id, StepStatus.SKIPPED, reason="not today")
    result = await scene.run_step(run_id)
    assert (result.status, result.reason) == (StepStatus.SKIPPED, "not today")
    assert scene.sandboxes.specs == []


async def test_output_is_readable_while_the_step_runs(scene: Scene) -> None:
    run_id = await scene.ready_run(step_file(env={"DUMMY_SLEEP": "60", "DUMMY_OUTPUT": "so far"}))
    async with scene.bus.subscribe(run_channel(run_id)) as hints:
        running = asyncio.create_task(scene.run_step(run_id))

        async def durable() -> bool:
            return await scene.log(run_id) == "so far"

        await eventually(durable)
        assert await hints.wait(timeout_seconds=5)
    assert (await scene.step(run_id)).status == "running"
    await scene.sandboxes.kill_run(run_id)
    await running


class TestRetry:
    async def test_a_granted_retry_leaves_the_step_running_and_goes_on_in_the_same_log(self, scene: Scene) -> None:
        step = step_file(
            image="python:3.13",
            env={"DUMMY_EXIT_CODE": "75", "DUMMY_OUTPUT": "no newline"},
            retry={"on": "exit:75", "limit": 1, "delay": "7s"},
        )
        run_id = await scene.ready_run(step)
        first = await scene.run_step(run_id)
        assert (first.status, first.cause, first.retry_after_seconds) == (StepStatus.FAILURE, StepCause.EXIT, 7)
        row = await scene.step(run_id)
        assert (row.status, row.attempt, row.cause, row.reason) == ("running", 1, "exit", "exit code 75")
        assert row.log_sha256 is None
        assert await scene.run_step(run_id) == first, "again, the same answer"

        last = await scene.run_step(run_id, attempt=2, previous="exit code 75")
        assert (last.status, last.retry_after_seconds) == (StepStatus.FAILURE, None)
        row = await scene.step(run_id)
        assert (row.status, row.attempt) == ("failure", 2)
        image = dim("no containers here; instead of python:3.13 this host's programs are used")
        second = dim("attempt 2, because the one before ended: exit code 75")
        assert await scene.log(run_id) == f"{image}no newline\n{second}no newline\n{dim('exit code 75')}"
        assert scene.sandboxes.ran == [f"{row.id}-1", f"{row.id}-2"]

    async def test_a_lost_sandbox_is_tried_again_without_being_asked_to(self, scene: Scene) -> None:
        run_id = await scene.ready_run(step_file(env={"DUMMY_LOST": "1"}))
        ends = [await scene.run_step(run_id, attempt=attempt, previous="lost") for attempt in (1, 2, 3)]
        assert [end.status for end in ends] == [StepStatus.LOST] * 3
        assert [end.retry_after_seconds for end in ends] == [1, 1, None]
        assert (await scene.step(run_id)).status == "lost"

    async def test_a_cancelled_attempt_is_never_tried_again(self, scene: Scene) -> None:
        every = {"on": ["exit:1", "signal", "timeout", "oom", "lost"], "limit": 5}
        run_id = await scene.ready_run(step_file(retry=every))
        await scene.sandboxes.kill_run(run_id)
        assert (await scene.run_step(run_id)).retry_after_seconds is None

    async def test_an_attempt_that_is_over_does_not_write_into_the_next_one(self, scene: Scene) -> None:
        again = {"on": "exit:75", "limit": 2}
        run_id = await scene.ready_run(step_file(env={"DUMMY_EXIT_CODE": "75", "DUMMY_OUTPUT": "x\n"}, retry=again))
        await scene.run_step(run_id)
        await scene.run_step(run_id, attempt=2, previous="y")
        before = await scene.log(run_id)
        with pytest.raises(LogTaken):
            await scene.run_step(run_id, attempt=1)
        assert await scene.log(run_id) == before
        assert (await scene.step(run_id)).attempt == 2


class TestArtifacts:
    async def test_what_a_step_leaves_is_kept_and_the_log_says_so(self, scene: Scene) -> None:
        run_id = await scene.ready_run(step_file(env={"DUMMY_WRITE": "a.txt=hello"}, artifacts=["a.txt"]))
        assert (await scene.run_step(run_id)).status is StepStatus.SUCCESS
        async with scene.database.transaction() as session:
            kept = await artifacts_of_run(session, run_id)
        assert [(one.name, one.size_bytes) for one in kept] == [("a.txt", 5)]
        assert await scene.log(run_id) == dim("kept 1 artifact, 5 bytes")

    async def test_a_run_that_is_cancelled_meanwhile_does_not_wait_for_the_store(self, scene: Scene) -> None:
        begun = asyncio.Event()

        class Slow(MemoryObjects):
            async def put_file(self, *_: object, **__: object) -> ObjectRef:
                begun.set()
                await asyncio.Event().wait()
                raise AssertionError("never")

        run_id = await scene.ready_run(step_file(env={"DUMMY_WRITE": "a.txt=hello"}, artifacts=["a.txt"]))
        slow = replace(scene.steps(), artifacts=ArtifactCollector(scene.database, Slow()))
        running = asyncio.create_task(scene.run_step(run_id, with_=slow))
        await begun.wait()
        await scene.sandboxes.kill_run(run_id)
        result = await asyncio.wait_for(running, 10)
        assert (result.status, result.cause) == (StepStatus.CANCELLED, StepCause.CANCELLED)
        assert await scene.log(run_id) == dim("cancelled before its artifacts were stored")

    async def test_a_failed_step_keeps_its_artifacts_too(self, scene: Scene) -> None:
        env = {"DUMMY_WRITE": "a.txt=hello", "DUMMY_EXIT_CODE": "1"}
        run_id = await scene.ready_run(step_file(env=env, artifacts=["a.txt"]))
        assert (await scene.run_step(run_id)).cause is StepCause.EXIT
        assert await scene.log(run_id) == dim("kept 1 artifact, 5 bytes") + dim("exit code 1")

    @pytest.mark.parametrize(("exit_code", "cause"), [("0", StepCause.ARTIFACT), ("4", StepCause.EXIT)])
    async def test_a_refused_artifact_fails_a_step_that_did_not_fail_already(
        self, scene: Scene, exit_code: str, cause: StepCause
    ) -> None:
        run_id = await scene.ready_run(step_file(env={"DUMMY_EXIT_CODE": exit_code}, artifacts=["*.txt"]))
        for name in ("one.txt", "two.txt"):
            (scene.sandboxes.workspace_path(run_id) / name).symlink_to("/etc/passwd")
        result = await scene.run_step(run_id)
        assert (result.status, result.cause) == (StepStatus.FAILURE, cause)
        log = await scene.log(run_id)
        assert "artifact one.txt was refused: it " in log
        assert "artifact two.txt was refused: it " in log
        if cause is StepCause.ARTIFACT:
            assert result.reason is not None
            assert result.reason.startswith("artifact one.txt was refused: it ")
            assert result.reason.endswith("; and 1 more")
            assert result.exit_code == 0

    async def test_nothing_is_collected_from_a_step_that_was_cancelled_or_lost(self, scene: Scene) -> None:
        env = {"DUMMY_WRITE": "a.txt=hello", "DUMMY_LOST": "1"}
        run_id = await scene.ready_run(step_file(env=env, artifacts=["a.txt"], retry=FINAL))
        await scene.run_step(run_id)
        async with scene.database.transaction() as session:
            assert await artifacts_of_run(session, run_id) == []


class TestEnvironment:
    async def test_a_step_finds_the_facts_of_its_run_and_cannot_change_them(self, scene: Scene) -> None:
        run_id = await scene.ready_run(step_file(env={"MODE": "fast"}, timeout=90))
        await scene.run_step(run_id)
        [spec] = scene.sandboxes.specs
        name = scene.project.full_name
        assert spec.env == {
            "CI": "true",
            "MODE": "fast",
            "PERDURE": "true",
            "PERDURE_ATTEMPT": "1",
            "PERDURE_BRANCH": "main",
            "PERDURE_COMMIT_SHA": "1234567890abcdef1234567890abcdef12345678",
            "PERDURE_EVENT": "push",
            "PERDURE_PIPELINE": "platform",
            "PERDURE_PROJECT": name,
            "PERDURE_REF": "refs/heads/main",
            "PERDURE_RUN_ID": str(run_id),
            "PERDURE_RUN_NUMBER": "1",
            "PERDURE_RUN_URL": f"https://p.test/{name}/pipelines/{run_id}",
            "PERDURE_STEP": "build",
            "PERDURE_TAG": "",
        }
        assert spec.limits.wall_seconds == 90
        assert spec.limits.log_size_bytes == 1000
        assert spec.network is False

    async def test_a_tag_is_told_as_a_tag(self, scene: Scene) -> None:
        run_id = await scene.run_of(step_file(), git_ref="refs/tags/v1")
        await scene.run_step(run_id)
        [spec] = scene.sandboxes.specs
        assert (spec.env["PERDURE_TAG"], spec.env["PERDURE_BRANCH"]) == ("v1", "")


WORK = step_file(
    image="python:3.13", env={"DUMMY_OUTPUT": "line\nhalf", "DUMMY_WRITE": "a.txt=hello"}, artifacts=["a.txt"]
)
WORK_LOG = (
    dim("no containers here; instead of python:3.13 this host's programs are used")
    + "line\nhalf\n"
    + dim("kept 1 artifact, 5 bytes")
)
DONE = RunStepResult(status=StepStatus.SUCCESS, exit_code=0)


async def check_once(scene: Scene, run_id: UUID) -> None:
    """After however many deaths: one execution, one log, one artifact."""
    assert await scene.run_step(run_id) == DONE
    assert len(scene.sandboxes.ran) == 1
    assert await scene.log(run_id) == WORK_LOG
    async with scene.database.transaction() as session:
        assert [one.name for one in await artifacts_of_run(session, run_id)] == ["a.txt"]


class TestDeaths:
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize(
        ("adapter", "method"),
        [
            ("sandboxes", "start"),
            ("sandboxes", "wait"),
            ("sandboxes", "read_log"),
            ("bus", "publish"),
            ("objects", "put"),
            ("objects", "put_file"),
            ("objects", "delete"),
        ],
    )
    async def test_a_worker_that_dies_at_a_neighbour(
        self, scene: Scene, adapter: str, method: str, after: bool
    ) -> None:
        run_id = await scene.ready_run(WORK)
        crashing = Crashing(getattr(scene, adapter), method, after=after)
        with pytest.raises(Crash):
            await scene.run_step(run_id, with_=scene.steps(**{adapter: crashing}))
        await check_once(scene, run_id)

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_a_worker_that_dies_at_any_commit(self, scene: Scene, after: bool) -> None:
        deaths = 0
        for number in count(1):
            run_id = await scene.ready_run(WORK)
            database = CrashingDatabase(scene.database, number=number, after=after)
            try:
                await scene.run_step(run_id, with_=scene.steps(database=database))
            except Crash:
                deaths += 1
            await check_once(scene, run_id)
            scene.sandboxes.ran.clear()
            if database.left > 0:
                break
        assert deaths >= 4

    async def test_two_workers_at_once_make_one_log(self, scene: Scene) -> None:
        run_id = await scene.ready_run(WORK)
        ends = await asyncio.gather(*(scene.run_step(run_id) for _ in range(4)), return_exceptions=True)
        assert {type(end) for end in ends} <= {RunStepResult, LogTaken}
        assert DONE in ends
        await check_once(scene, run_id)

    async def test_a_death_at_the_end_of_an_attempt_that_is_tried_again(self, scene: Scene) -> None:
        step = step_file(env={"DUMMY_EXIT_CODE": "75", "DUMMY_OUTPUT": "x\n"}, retry={"on": "exit:75", "limit": 1})
        for number in count(1):
            for after in (False, True):
                run_id = await scene.ready_run(step)
                database = CrashingDatabase(scene.database, number=number, after=after)
                with suppress(Crash):
                    await scene.run_step(run_id, with_=scene.steps(database=database))
                first = await scene.run_step(run_id)
                assert first.retry_after_seconds == 0
                await scene.run_step(run_id, attempt=2, previous="exit code 75")
                header = dim("attempt 2, because the one before ended: exit code 75")
                assert await scene.log(run_id) == "x\n" + header + "x\n" + dim("exit code 75")
            if database.left > 0:
                break
