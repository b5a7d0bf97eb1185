"""A right is taken back while a run is between its steps: the run stops, says why, and leaves nothing behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.client import Client

from database.engine import Database
from database.store.access.delegations import lend, take_back
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.messages import PipelineRunInput, PipelineRunResult
from domain.pipelines.status import RunStatus
from temporal.names import EXECUTION_QUEUE, ORCHESTRATION_QUEUE
from tests.activities.pipelines.scene import Scene, make_scene, step_file
from tests.support.eventually import eventually
from tests.support.factories import make_user
from tests.support.temporal import working
from workflows.pipelines import PipelineRunWorkflow


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> Scene:
    return await make_scene(database, tmp_path)


async def run_to_end(scene: Scene, client: Client, run_id: UUID, actor: Actor) -> PipelineRunResult:
    order = PipelineRunInput(run_id=run_id, actor=actor, project=scene.project.full_name, git_ref="refs/heads/main")
    result: PipelineRunResult = await client.execute_workflow(
        PipelineRunWorkflow.run,
        order,
        id=pipeline_run_workflow_id(run_id),
        task_queue=EXECUTION_QUEUE,
    )
    return result


async def test_a_run_whose_right_is_taken_back_between_its_steps_stops(scene: Scene, temporal_client: Client) -> None:
    async with scene.database.transaction() as session:
        bot = await make_user(session, role=None, kind="agent")
        offer = Offer(frozenset({Permission.PIPELINE_RUN}), scene.project.id)
        grant_id = await lend(session, scene.user.actor, bot.name, offer)
    actor = Actor(user_id=bot.id, name=bot.name, kind="agent", on_behalf_of=(scene.user.id,))
    sha = await scene.commit({"a": "1"})
    steps = (
        step_file("build", env={"DUMMY_SLEEP": "2", "DUMMY_OUTPUT": "built\n"}),
        step_file("test", env={"DUMMY_OUTPUT": "never\n"}),
    )
    run_id = await scene.run_of(*steps, commit_sha=sha, actor=actor)
    runs, attempts = scene.runs, scene.steps()
    activities: list[Callable[..., Any]] = [
        *(runs.prepare_run, runs.skip_steps, runs.stop_run, runs.finish_run, runs.set_waiting_for),
        attempts.run_step,
    ]
    queues = [ORCHESTRATION_QUEUE, EXECUTION_QUEUE]
    async with working(temporal_client, workflows=[PipelineRunWorkflow], activities=activities, queues=queues):
        ending = asyncio.create_task(run_to_end(scene, temporal_client, run_id, actor))
        await eventually(lambda: scene.sandboxes.ran, timeout_seconds=30)
        async with scene.database.transaction() as session:
            assert await take_back(session, scene.user.actor, grant_id) is not None
        result = await asyncio.wait_for(ending, timeout=60)

    assert result.status is RunStatus.CANCELLED
    run, build, test = await scene.run(run_id), await scene.step(run_id, "build"), await scene.step(run_id, "test")
    assert run.status == "cancelled"
    assert run.error is not None
    assert run.error.startswith(
        f"Stopped: this needs the permission pipeline:run, and {bot.name} does not hold pipeline:run"
    )
    assert (build.status, test.status, test.reason) == ("success", "skipped", run.error)
    assert await scene.log(run_id) == "built\n", "what was done before is kept"
    assert len(scene.sandboxes.ran) == 1
    assert await scene.sandboxes.run_ids() == [], "nothing is left behind"
    async with scene.database.transaction() as session:
        rows = await session.execute(
            text("SELECT on_behalf_of FROM audit_log WHERE actor_id = :id AND outcome = 'denied'"), {"id": bot.id}
        )
        assert [row.on_behalf_of for row in rows] == [[scene.user.id]]
