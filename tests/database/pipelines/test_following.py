from uuid import uuid4

import pytest
from sqlalchemy import text

from database.engine import Database
from database.store.pipelines.events import RUN_STATUS, STEP_STATUS
from database.store.pipelines.following import followed_events, followed_run, followed_step
from database.store.pipelines.runs import CreatedRun
from domain.errors import NotFound
from domain.pipelines.status import RunStatus, StepStatus
from tests.support.factories import make_project, make_user
from tests.support.pipelines import finish_run, finish_step, make_run, start_run, start_step, write_log


@pytest.fixture
async def run(database: Database) -> CreatedRun:
    async with database.transaction() as session:
        owner = await make_user(session)
        project = await make_project(session, owner)
    return await make_run(database, project, owner)


async def test_what_is_not_there(database: Database) -> None:
    with pytest.raises(NotFound):
        await followed_run(database, uuid4())
    with pytest.raises(NotFound):
        await followed_step(database, uuid4())
    assert await followed_events(database, uuid4(), after=0, limit=9) == []


async def test_a_run_is_seen_with_its_steps_and_all_of_its_events(database: Database, run: CreatedRun) -> None:
    await start_run(database, run.run_id)
    step_id = await start_step(database, run.run_id, "build")
    await write_log(database, step_id, b"hello")
    await finish_step(database, step_id, StepStatus.FAILURE, exit_code=1)
    await finish_run(database, run.run_id, RunStatus.FAILURE)
    seen = await followed_run(database, run.run_id)
    assert seen.status == RunStatus.FAILURE
    assert [(step.name, step.status, step.log_size_bytes) for step in seen.steps] == [
        ("build", "failure", 5),
        ("test", "pending", 0),
    ]
    assert await followed_step(database, step_id) == seen.steps[0]
    events = await followed_events(database, run.run_id, after=0, limit=99)
    assert [event.seq for event in events] == list(range(1, seen.event_seq + 1))
    assert [event.tag for event in events] == [RUN_STATUS, RUN_STATUS, STEP_STATUS, STEP_STATUS, RUN_STATUS]
    assert events[-1].payload["status"] == "failure"
    assert await followed_events(database, run.run_id, after=1, limit=2) == events[1:3]


async def test_a_run_without_steps_has_none(database: Database, run: CreatedRun) -> None:
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM pipeline_steps WHERE pipeline_id = :id"), {"id": run.run_id})
    assert (await followed_run(database, run.run_id)).steps == ()
