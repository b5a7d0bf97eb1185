import asyncio
from datetime import timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from database.engine import Database
from database.models.audit import AuditRow
from database.models.git import Push
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.events import RUN_STATUS, STEP_STATUS
from database.store.pipelines.runs import (
    CreatedRun,
    ended_runs,
    move_run,
    request_cancel,
    run_by_id,
    uncancelled_runs,
    unstarted_runs,
)
from database.store.pipelines.steps import (
    begin_attempt,
    cancel_unended_steps,
    end_step,
    skip_steps,
    step_by_id,
    steps_of,
)
from domain.errors import NotFound
from domain.pipelines.status import (
    RUN_ENDED,
    STEP_ENDED,
    RunStatus,
    StepCause,
    StepStatus,
    run_may_become,
    step_may_become,
)
from domain.projects import ProjectView
from tests.support.events import events_of
from tests.support.factories import TestUser, make_project, make_user
from tests.support.pipelines import make_run

Place = tuple[ProjectView, TestUser]


@pytest.fixture
async def place(database: Database) -> Place:
    async with database.transaction() as session:
        owner = await make_user(session)
        return await make_project(session, owner), owner


async def force_run(database: Database, run_id: UUID, status: RunStatus) -> None:
    async with database.transaction() as session:
        await session.execute(update(Pipeline).where(col(Pipeline.id) == run_id).values(status=status.value))


async def force_step(database: Database, run_id: UUID, status: StepStatus) -> UUID:
    async with database.transaction() as session:
        step = (await steps_of(session, run_id))[0]
        await session.execute(update(PipelineStep).where(col(PipelineStep.id) == step.id).values(status=status.value))
    return step.id


class TestCreate:
    async def test_a_run_of_a_project_that_is_gone_is_refused(self, database: Database, place: Place) -> None:
        with pytest.raises(NotFound):
            await make_run(database, *place, project_id=uuid4())

    async def test_numbers_count_up_per_project_also_when_made_at_once(self, database: Database, place: Place) -> None:
        made = await asyncio.gather(*(make_run(database, *place) for _ in range(8)))

        assert sorted(run.number for run in made) == list(range(1, 9))

    async def test_one_push_ref_and_file_make_one_run(self, database: Database, place: Place) -> None:
        project, _ = place
        async with database.transaction() as session:
            push = Push(project_id=project.id)
            session.add(push)
            await session.flush()
        await make_run(database, *place, push_id=push.id)

        with pytest.raises(IntegrityError):
            await make_run(database, *place, push_id=push.id)

    async def test_a_run_comes_with_steps_event_and_audit_row(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        async with database.transaction() as session:
            steps = await steps_of(session, run.run_id)
            events = await events_of(session, run.run_id, after=0)
            acts = (await session.scalars(select(AuditRow).where(col(AuditRow.resource_id) == run.run_id))).all()

        assert [(step.name, step.status) for step in steps] == [("build", "pending"), ("test", "pending")]
        assert [(event.seq, event.tag) for event in events] == [(1, RUN_STATUS)]
        assert [(act.action, act.actor_id) for act in acts] == [("pipeline:create", place[1].id)]

    async def test_an_invalid_file_makes_a_run_that_ended_as_error(self, database: Database, place: Place) -> None:
        problems = [{"path": ".platform.yaml", "line": 1, "column": 1, "message": "no"}]
        made = await make_run(database, *place, plan=None, problems=problems)
        async with database.transaction() as session:
            run = await run_by_id(session, made.run_id)

        assert (made.status, run.status, run.problems) == (RunStatus.ERROR, "error", problems)
        assert run.finished_at is not None


class TestTransitions:
    async def test_the_store_allows_a_run_exactly_what_the_domain_allows(
        self, database: Database, place: Place
    ) -> None:
        run = await make_run(database, *place)
        for old, new in product(RunStatus, RunStatus):
            await force_run(database, run.run_id, old)
            async with database.transaction() as session:
                before = (await run_by_id(session, run.run_id)).event_seq
                moved = await move_run(session, run.run_id, new)
                events = await events_of(session, run.run_id, after=before)

            assert moved == run_may_become(old, new), (old, new)
            assert len(events) == moved

    async def test_the_store_allows_a_step_exactly_what_the_domain_allows(
        self, database: Database, place: Place
    ) -> None:
        run = await make_run(database, *place)
        for old, new in product(StepStatus, sorted(STEP_ENDED)):
            step_id = await force_step(database, run.run_id, old)
            async with database.transaction() as session:
                changed = await end_step(session, step_id, new)

            assert changed == step_may_become(old, new), (old, new)

    async def test_a_step_cannot_be_ended_as_running(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        step_id = await force_step(database, run.run_id, StepStatus.PENDING)
        async with database.transaction() as session:
            with pytest.raises(ValueError, match="does not end"):
                await end_step(session, step_id, StepStatus.RUNNING)

    async def test_many_workers_that_end_one_run_end_it_once(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        await force_run(database, run.run_id, RunStatus.RUNNING)

        async def end(status: RunStatus) -> bool:
            async with database.transaction() as session:
                return await move_run(session, run.run_id, status)

        assert sum(await asyncio.gather(*(end(status) for status in sorted(RUN_ENDED) * 3))) == 1

    async def test_an_unknown_status_cannot_even_be_stored(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        with pytest.raises(IntegrityError):
            async with database.transaction() as session:
                await session.execute(text("UPDATE pipelines SET status = 'fine' WHERE id = :id"), {"id": run.run_id})


class TestAttempts:
    async def test_only_the_next_attempt_begins_and_only_once(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        step_id = await force_step(database, run.run_id, StepStatus.PENDING)

        async def begin(attempt: int) -> bool:
            async with database.transaction() as session:
                return await begin_attempt(session, step_id, attempt)

        assert not await begin(2)
        assert sorted(await asyncio.gather(*(begin(1) for _ in range(5)))) == [False] * 4 + [True]
        assert await begin(2)
        assert not await begin(1)
        async with database.transaction() as session:
            assert await end_step(session, step_id, StepStatus.SUCCESS)
        assert not await begin(3)

    async def test_an_end_says_cause_reason_and_duration(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        step_id = await force_step(database, run.run_id, StepStatus.PENDING)
        async with database.transaction() as session:
            await begin_attempt(session, step_id, 1)
        async with database.transaction() as session:
            await end_step(
                session, step_id, StepStatus.FAILURE, cause=StepCause.EXIT, reason="exit code 3", exit_code=3
            )
        async with database.transaction() as session:
            step = await step_by_id(session, step_id)

        assert (step.cause, step.reason, step.exit_code) == ("exit", "exit code 3", 3)
        assert step.duration_ms is not None
        assert step.duration_ms >= 0

    async def test_what_a_run_never_finished_is_cancelled_or_skipped(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        await force_step(database, run.run_id, StepStatus.RUNNING)
        async with database.transaction() as session:
            await cancel_unended_steps(session, run.run_id, "over")
        async with database.transaction() as session:
            steps = await steps_of(session, run.run_id)

        assert [(step.status, step.reason) for step in steps] == [("cancelled", "over"), ("skipped", "over")]

    async def test_skipping_names_the_reason_of_each(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)
        async with database.transaction() as session:
            steps = await steps_of(session, run.run_id)
            await skip_steps(session, {step.id: f"not {step.name}" for step in steps})
        async with database.transaction() as session:
            events = await events_of(session, run.run_id, after=1)

        assert [event.payload["reason"] for event in events if event.tag == STEP_STATUS] == ["not build", "not test"]


class TestEvents:
    async def test_numbers_have_no_gap_when_steps_end_at_once(self, database: Database, place: Place) -> None:
        run = await make_run(database, *place)

        async def end(step_id: UUID) -> None:
            async with database.transaction() as session:
                await end_step(session, step_id, StepStatus.SKIPPED)

        async with database.transaction() as session:
            steps = await steps_of(session, run.run_id)
        await asyncio.gather(*(end(step.id) for step in steps))
        async with database.transaction() as session:
            events = await events_of(session, run.run_id, after=0)

        assert [event.seq for event in events] == [1, 2, 3]


class TestCancelAndRepair:
    async def test_a_request_to_cancel_is_kept_with_who_and_why(self, database: Database, place: Place) -> None:
        made = await make_run(database, *place)
        async with database.transaction() as session:
            run = await run_by_id(session, made.run_id)
            assert await request_cancel(session, place[1].actor, run, "wrong branch")
        async with database.transaction() as session:
            run = await run_by_id(session, made.run_id)
            acts = await session.scalar(
                select(func.count()).select_from(AuditRow).where(col(AuditRow.action) == "pipeline:cancel")
            )

        assert run.cancel_requested_at is not None
        assert "wrong branch" in (run.error or "")
        assert acts == 1

    async def test_an_ended_run_cannot_be_cancelled(self, database: Database, place: Place) -> None:
        made = await make_run(database, *place)
        await force_run(database, made.run_id, RunStatus.SUCCESS)
        async with database.transaction() as session:
            run = await run_by_id(session, made.run_id)
            assert not await request_cancel(session, place[1].actor, run, None)

    async def test_repair_finds_what_is_old_and_only_that(self, database: Database, place: Place) -> None:
        old, young = [await make_run(database, *place) for _ in range(2)]
        await _age(database, old)
        async with database.transaction() as session:
            run = await run_by_id(session, old.run_id)
            await request_cancel(session, place[1].actor, run, None)
        await _age(database, old)
        async with database.transaction() as session:
            unstarted = await unstarted_runs(session, older_than=timedelta(seconds=60), limit=10)
            uncancelled = await uncancelled_runs(session, older_than=timedelta(seconds=60), limit=10)

        assert [run.id for run in unstarted] == [old.run_id]
        assert [run.id for run in uncancelled] == [old.run_id]
        assert young.run_id not in {run.id for run in unstarted}

    async def test_runs_that_ended_or_never_were_may_leave_nothing(self, database: Database, place: Place) -> None:
        ended, living = [await make_run(database, *place) for _ in range(2)]
        await force_run(database, ended.run_id, RunStatus.CANCELLED)
        gone = uuid4()
        async with database.transaction() as session:
            assert await ended_runs(session, [ended.run_id, living.run_id, gone]) == {ended.run_id, gone}


async def _age(database: Database, run: CreatedRun) -> None:
    statement = text(
        "UPDATE pipelines SET created_at = created_at - interval '1 hour', "
        "cancel_requested_at = cancel_requested_at - interval '1 hour' WHERE id = :id"
    )
    async with database.transaction() as session:
        await session.execute(statement, {"id": run.run_id})
