"""Runs as a whole: prepared, finished, stopped, repaired and swept, each also twice."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.pipelines.runs import RunActivities, TakesLonger
from adapters.repositories.git_process import GitFailed
from database.engine import Database
from database.store.pipelines.artifacts import artifacts_of_run
from database.store.pipelines.runs import request_cancel
from database.store.pipelines.steps import end_step
from domain.errors import NotFound, Unavailable
from domain.pipelines.messages import (
    FinishRunInput,
    PrepareRunInput,
    RunsToRepair,
    SetWaitingInput,
    SkipStepsInput,
    StopRunInput,
)
from domain.pipelines.status import RunStatus, StepStatus
from tests.activities.pipelines.scene import Scene, dim, make_scene, step_file
from tests.support.events import events_of
from tests.support.eventually import eventually
from tests.support.factories import make_session
from tests.support.pipelines import finish_run, git, start_run, start_step, write_log

TWO = (step_file("build", env={"DUMMY_OUTPUT": "out\n"}), step_file("test"))


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> Scene:
    return await make_scene(database, tmp_path)


async def call(activity: Any, *arguments: object) -> Any:  # noqa: ANN401  # whatever the activity takes and gives
    return await ActivityEnvironment().run(activity, *arguments)


async def finish(scene: Scene, run_id: UUID, status: RunStatus, error: str | None = None) -> RunStatus:
    ended = await call(scene.runs.finish_run, FinishRunInput(run_id=run_id, status=status, error=error))
    return RunStatus(ended.status)


async def age(scene: Scene, run_id: UUID, **columns: object) -> None:
    """Moves the times of a run a minute into the past and sets other columns."""
    values = {"created_at": "created_at", "started_at": "started_at", "cancel_requested_at": "cancel_requested_at"}
    times = ", ".join(f"{name} = {name} - interval '1 minute'" for name in values)
    others = "".join(f", {name} = :{name}" for name in columns)
    async with scene.database.transaction() as session:
        await session.execute(
            text(f"UPDATE pipelines SET {times}{others} WHERE id = :id"),  # noqa: S608  # names of this file
            {"id": run_id, **columns},
        )


async def cancel(scene: Scene, run_id: UUID, reason: str | None = None) -> None:
    run = await scene.run(run_id)
    async with scene.database.transaction() as session:
        assert await request_cancel(session, scene.user.actor, run, reason)


async def statuses(scene: Scene, run_id: UUID, *names: str) -> list[str]:
    return [(await scene.step(run_id, name)).status for name in names]


class TestPrepare:
    async def test_a_run_that_is_gone(self, scene: Scene) -> None:
        with pytest.raises(NotFound):
            await scene.prepare(uuid4())

    async def test_a_project_without_a_repository(self, scene: Scene) -> None:
        run_id = await scene.run_of()
        with pytest.raises(NotFound) as refused:
            await scene.prepare(run_id)
        assert not refused.value.retryable
        assert not await scene.sandboxes.workspace_ready(run_id)

    async def test_a_commit_that_is_gone(self, scene: Scene) -> None:
        await scene.commit({"a": "1"})
        run_id = await scene.run_of(commit_sha="f" * 40)
        with pytest.raises(NotFound, match="no longer in the repository") as refused:
            await scene.prepare(run_id)
        assert not refused.value.retryable
        assert not await scene.sandboxes.workspace_ready(run_id)

    async def test_a_failure_of_git_with_the_commit_at_hand_is_tried_again(self, scene: Scene) -> None:
        run_id = await scene.run_of(commit_sha=await scene.commit({"a": "1"}))
        blob = git(scene.directory / "work", "rev-parse", "HEAD:a")
        stored = scene.repositories.path(scene.project.id) / "objects" / blob[:2] / blob[2:]
        stored.rename(scene.directory / "away")
        with pytest.raises(GitFailed) as failed:
            await scene.prepare(run_id)
        assert failed.value.retryable
        (scene.directory / "away").rename(stored)
        assert (await scene.prepare(run_id)).status is RunStatus.RUNNING

    @pytest.mark.parametrize("end", [RunStatus.CANCELLED, RunStatus.ERROR])
    async def test_a_run_that_has_ended_needs_nothing(self, scene: Scene, end: RunStatus) -> None:
        run_id = await scene.run_of()
        await finish_run(scene.database, run_id, end)
        prepared = await scene.prepare(run_id)
        assert (prepared.status, prepared.steps) == (end, ())
        assert await scene.sandboxes.run_ids() == []

    @pytest.mark.parametrize("running", [False, True])
    async def test_a_run_that_is_to_be_cancelled_needs_nothing(self, scene: Scene, running: bool) -> None:
        run_id = await scene.run_of()
        if running:
            await start_run(scene.database, run_id)
        await cancel(scene, run_id)
        assert (await scene.prepare(run_id)).status is RunStatus.CANCELLED
        assert (await scene.run(run_id)).status == ("running" if running else "pending")
        assert await scene.sandboxes.run_ids() == []

    async def test_the_workspace_is_the_commit_and_the_outline_is_the_plan(self, scene: Scene) -> None:
        sha = await scene.commit({"a": "1"})
        await scene.commit({"a": "2"})
        steps = (
            step_file("build"),
            step_file("test", timeout=5, failure="ignore"),
            step_file("x", when={"branch": "other"}),
        )
        run_id = await scene.run_of(*steps, commit_sha=sha, timeout_seconds=77)
        prepared = await scene.prepare(run_id)

        assert (prepared.status, prepared.timeout_seconds) == (RunStatus.RUNNING, 77)
        assert [step.name for step in prepared.steps] == ["build", "test", "x"]
        assert prepared.steps[1].depends_on == ("build",)
        assert prepared.steps[1].failure_ignored
        assert prepared.steps[1].timeout_seconds == 5
        assert prepared.statuses == {
            "build": StepStatus.PENDING,
            "test": StepStatus.PENDING,
            "x": StepStatus.SKIPPED,
        }
        assert (scene.sandboxes.workspace_path(run_id) / "a").read_text() == "1"
        run = await scene.run(run_id)
        assert (run.status, run.started_at is not None) == ("running", True)

    @pytest.mark.parametrize(("small_bytes", "refused"), [(-1, True), (10**6, False)])
    async def test_within_a_workflow_task_only_what_is_small_is_checked_out(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, small_bytes: int, refused: bool
    ) -> None:
        monkeypatch.setattr("activities.pipelines.runs.MOMENTS_SIZE_BYTES_MAX", small_bytes)
        run_id = await scene.run_of(commit_sha=await scene.commit({"a": "1"}))
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, is_local=True)
        expected = pytest.raises(TakesLonger) if refused else nullcontext()
        with expected:
            await environment.run(scene.runs.prepare_run, PrepareRunInput(run_id=run_id))
        assert (await scene.run(run_id)).status == ("pending" if refused else "running")
        await scene.prepare(run_id)
        assert (await scene.run(run_id)).status == "running"

    async def test_again_it_leaves_the_workspace_and_says_how_far_the_steps_are(self, scene: Scene) -> None:
        run_id = await scene.run_of(*TWO, commit_sha=await scene.commit({"a": "1"}))
        await scene.prepare(run_id)
        started_at = (await scene.run(run_id)).started_at
        await scene.run_step(run_id)
        (scene.sandboxes.workspace_path(run_id) / "made").write_text("by a step")
        prepared = await scene.prepare(run_id)
        assert prepared.statuses == {"build": StepStatus.SUCCESS, "test": StepStatus.PENDING}
        assert (scene.sandboxes.workspace_path(run_id) / "made").exists()
        assert (await scene.run(run_id)).started_at == started_at

    async def test_a_checkout_that_was_cut_off_starts_anew(self, scene: Scene) -> None:
        run_id = await scene.run_of(commit_sha=await scene.commit({"a": "1"}))
        half = await scene.sandboxes.create_workspace(run_id)
        (half / "b").write_text("of the first try")
        await scene.prepare(run_id)
        assert sorted(path.name for path in half.iterdir()) == [".git", "a"]


class TestFinish:
    async def test_a_run_that_is_gone(self, scene: Scene) -> None:
        await finish(scene, uuid4(), RunStatus.SUCCESS)

    @pytest.mark.parametrize("times", [1, 3])
    async def test_an_orderly_end(self, scene: Scene, times: int) -> None:
        run_id = await scene.run_of(*TWO, commit_sha=await scene.commit({"a": "1"}))
        await scene.prepare(run_id)
        await scene.run_step(run_id)
        await scene.run_step(run_id, "test")
        for _ in range(times):
            await finish(scene, run_id, RunStatus.SUCCESS)
        run = await scene.run(run_id)
        assert (run.status, run.error, run.finished_at is not None) == ("success", None, True)
        assert await scene.sandboxes.run_ids() == []
        assert not scene.sandboxes.workspace_path(run_id).exists()
        assert await scene.log(run_id) == "out\n"
        async with scene.database.transaction() as session:
            ends = [
                event
                for event in await events_of(session, run_id)
                if event.tag == "pipeline:run:status" and event.payload["status"] == "success"
            ]
        assert len(ends) == 1

    async def test_a_second_end_changes_nothing(self, scene: Scene) -> None:
        run_id = await scene.run_of()
        await start_run(scene.database, run_id)
        assert await finish(scene, run_id, RunStatus.FAILURE, "first") is RunStatus.FAILURE
        assert await finish(scene, run_id, RunStatus.SUCCESS, "second") is RunStatus.FAILURE
        run = await scene.run(run_id)
        assert (run.status, run.error) == ("failure", "first")

    async def test_steps_that_did_not_end_are_ended_with_the_reason_and_their_output_is_kept(
        self, scene: Scene
    ) -> None:
        sleeping = step_file(env={"DUMMY_OUTPUT": "early", "DUMMY_SLEEP": "60"})
        run_id = await scene.run_of(sleeping, step_file("test"), commit_sha=await scene.commit({"a": "1"}))
        await scene.prepare(run_id)
        worker = asyncio.create_task(scene.run_step(run_id))
        await eventually(lambda: scene.sandboxes.ran)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        [sandbox] = scene.sandboxes._sandboxes.values()
        sandbox.log += b" and late"
        for _ in range(2):
            await finish(scene, run_id, RunStatus.ERROR, "The platform could not go on: x")

        assert await statuses(scene, run_id, "build", "test") == ["cancelled", "skipped"]
        assert (await scene.step(run_id)).reason == "The platform could not go on: x"
        assert await scene.log(run_id) == "early and late\n" + dim("The platform could not go on: x")
        assert (await scene.step(run_id)).log_ref is not None
        late = await scene.run_step(run_id)
        assert late.status is StepStatus.CANCELLED, "a worker that comes late learns it"

    async def test_who_cancelled_stays_the_reason(self, scene: Scene) -> None:
        run_id = await scene.run_of(*TWO)
        await cancel(scene, run_id, "wrong branch")
        await finish(scene, run_id, RunStatus.CANCELLED)
        run = await scene.run(run_id)
        assert (run.status, run.error) == ("cancelled", f"Cancelled by {scene.user.name}: wrong branch")
        assert await statuses(scene, run_id, "build", "test") == ["skipped", "skipped"]
        assert (await scene.step(run_id)).reason == "the run ended as cancelled before"

    async def test_a_log_that_an_ended_step_left_open_is_closed(self, scene: Scene) -> None:
        run_id = await scene.run_of(*TWO)
        await start_run(scene.database, run_id)
        step_id = await start_step(scene.database, run_id, "build")
        await write_log(scene.database, step_id, b"kept")
        async with scene.database.transaction() as session:
            await end_step(session, step_id, StepStatus.SUCCESS)
        await finish(scene, run_id, RunStatus.SUCCESS)
        assert (await scene.step(run_id)).log_ref is not None
        assert await scene.log(run_id) == "kept"

    async def test_an_object_store_that_is_away_delays_the_end_and_loses_nothing(self, scene: Scene) -> None:
        run_id = await scene.run_of(*TWO)
        await start_run(scene.database, run_id)
        await write_log(scene.database, await start_step(scene.database, run_id, "build"), b"kept")
        scene.objects.is_away = True
        with pytest.raises(Unavailable):
            await finish(scene, run_id, RunStatus.FAILURE)
        assert (await scene.run(run_id)).status == "running"
        scene.objects.is_away = False
        await finish(scene, run_id, RunStatus.FAILURE)
        assert (await scene.run(run_id)).status == "failure"
        assert (await scene.log(run_id)).startswith("kept\n")

    async def test_skipped_steps_carry_their_reasons_and_a_stopped_run_starts_nothing(self, scene: Scene) -> None:
        run_id = await scene.ready_run(*TWO)
        reasons = {(await scene.step(run_id, "test")).id: "step 'build' before it ended as 'failure'"}
        for _ in range(2):
            await call(scene.runs.skip_steps, SkipStepsInput(run_id=run_id, reasons=reasons))
            await call(scene.runs.stop_run, StopRunInput(run_id=run_id))
        assert (await scene.step(run_id, "test")).reason == "step 'build' before it ended as 'failure'"
        assert (await scene.run_step(run_id)).status is StepStatus.CANCELLED

    async def test_what_a_run_waits_for_is_shown_until_it_ends(self, scene: Scene) -> None:
        run_id = await scene.run_of(*TWO)
        await start_run(scene.database, run_id)
        await call(scene.runs.set_waiting_for, SetWaitingInput(run_id=run_id, waiting_for="build: exit code 75"))
        assert (await scene.run(run_id)).waiting_for == "build: exit code 75"
        await finish(scene, run_id, RunStatus.SUCCESS)
        await call(scene.runs.set_waiting_for, SetWaitingInput(run_id=run_id, waiting_for="too late"))
        assert (await scene.run(run_id)).waiting_for is None


class TestRepair:
    async def repaired(self, scene: Scene) -> RunsToRepair:
        found = await call(scene.runs.runs_to_repair)
        assert isinstance(found, RunsToRepair)
        return found

    async def test_nothing_is_done_about_what_is_young(self, scene: Scene) -> None:
        pending, running = await scene.run_of(), await scene.run_of()
        await start_run(scene.database, running)
        await cancel(scene, pending)
        assert await self.repaired(scene) == RunsToRepair()
        assert (await scene.run(running)).status == "running"

    async def test_a_run_whose_workflow_never_started_is_to_be_started(self, scene: Scene) -> None:
        run_id = await scene.run_of()
        await age(scene, run_id)
        [order] = (await self.repaired(scene)).start
        assert (order.run_id, order.project, order.git_ref) == (run_id, scene.project.full_name, "refs/heads/main")
        assert order.actor.user_id == scene.user.id

    async def test_a_run_that_waits_for_a_worker_is_left_alone(self, scene: Scene) -> None:
        run_id = await scene.run_of()
        await age(scene, run_id)
        scene.workflows.say(run_id, "open")
        assert await self.repaired(scene) == RunsToRepair()
        assert (await scene.run(run_id)).status == "pending"

    async def test_a_cancellation_that_the_workflow_was_perhaps_not_told(self, scene: Scene) -> None:
        run_id = await scene.run_of()
        await start_run(scene.database, run_id)
        await cancel(scene, run_id)
        await age(scene, run_id)
        scene.workflows.say(run_id, "open")
        assert (await self.repaired(scene)).cancel == (run_id,)

    @pytest.mark.parametrize(("status", "state"), [("pending", "ended"), ("running", "ended"), ("running", "absent")])
    async def test_a_run_whose_workflow_is_gone_ends_as_error_with_its_output(
        self, scene: Scene, status: str, state: Literal["ended", "absent"]
    ) -> None:
        run_id = await scene.ready_run(step_file(env={"DUMMY_OUTPUT": "out", "DUMMY_SLEEP": "60"}), step_file("test"))
        if status == "running":
            await start_run(scene.database, run_id)
            worker = asyncio.create_task(scene.run_step(run_id))
            await eventually(lambda: scene.sandboxes.ran)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        await age(scene, run_id)
        scene.workflows.say(run_id, state)
        assert await self.repaired(scene) == RunsToRepair()

        run = await scene.run(run_id)
        assert run.status == "error"
        assert run.error is not None
        assert run.error.startswith("Its workflow was terminated outside Perdure")
        if status == "running":
            assert await statuses(scene, run_id, "build", "test") == ["cancelled", "skipped"]
            assert await scene.log(run_id) == f"out\n{dim(run.error)}"
        assert await self.repaired(scene) == RunsToRepair()

    async def test_an_abandoned_run_waits_for_the_object_store_and_holds_nobody_up(self, scene: Scene) -> None:
        abandoned, unstarted = await scene.run_of(), await scene.run_of()
        await start_run(scene.database, abandoned)
        await write_log(scene.database, await start_step(scene.database, abandoned, "build"), b"kept")
        for run_id in (abandoned, unstarted):
            await age(scene, run_id)
        scene.objects.is_away = True
        assert [order.run_id for order in (await self.repaired(scene)).start] == [unstarted]
        assert (await scene.run(abandoned)).status == "running"
        scene.objects.is_away = False
        await self.repaired(scene)
        assert (await scene.run(abandoned)).status == "error"


class TestSweeps:
    async def test_only_what_belongs_to_ended_or_deleted_runs_is_removed(self, scene: Scene) -> None:
        ended, alive, deleted = await scene.ready_run(), await scene.ready_run(), uuid4()
        await finish_run(scene.database, ended, RunStatus.CANCELLED)
        await start_run(scene.database, alive)
        await scene.sandboxes.create_workspace(deleted)
        for _ in range(2):
            await call(scene.runs.remove_leftovers)
            assert await scene.sandboxes.run_ids() == [alive]
        assert scene.sandboxes.workspace_path(alive).exists()

    async def test_every_hour_artifacts_logs_and_sessions_are_tidied(self, scene: Scene) -> None:
        run_id = await scene.ready_run(step_file(env={"DUMMY_WRITE": "a.txt=hello"}, artifacts=["a.txt"]))
        await scene.run_step(run_id)
        left_open = await scene.run_of()
        step_id = await start_step(scene.database, left_open, "build")
        await write_log(scene.database, step_id, b"kept")
        async with scene.database.transaction() as session:
            await end_step(session, step_id, StepStatus.SUCCESS)
            await session.execute(text("UPDATE pipeline_steps SET finished_at = finished_at - interval '1 day'"))
            await session.execute(text("UPDATE artifacts SET expires_at = now() - interval '1 day'"))
            ended, _ = await make_session(session, scene.user, lifetime=timedelta(seconds=-1))
            alive, _ = await make_session(session, scene.user)
        runs: RunActivities = scene.runs
        for _ in range(2):
            await call(runs.expire)

        async with scene.database.transaction() as session:
            assert await artifacts_of_run(session, run_id) == []
            sessions = (await session.scalars(text("SELECT id FROM auth_sessions"))).all()
        assert (ended in sessions, alive in sessions) == (False, True)
        assert (await scene.step(left_open)).log_ref is not None
        assert await scene.objects.list_keys("artifacts/") == []
        assert scene.histories.rounds == 2

    async def test_a_run_is_prepared_by_its_id_alone(self, scene: Scene) -> None:
        order = PrepareRunInput(run_id=await scene.run_of(commit_sha=await scene.commit({"a": "1"})))
        first, second = await call(scene.runs.prepare_run, order), await call(scene.runs.prepare_run, order)
        assert first == second
