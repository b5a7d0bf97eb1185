"""What the pusher reads in the terminal, with Temporal and a worker in reach."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.service import RPCError

from activities.git import GitActivities
from database.engine import Database
from deploy.local.temporal import Temporal
from domain.ids import pipeline_run_workflow_id, push_workflow_id
from temporal.client import connect
from temporal.names import ORCHESTRATION_QUEUE
from temporal.namespace import ensure_namespace
from tests.support.api import ApiServer, listening_socket, services_for_tests, serving
from tests.support.audit import AUDIT_KEYS
from tests.support.git import Git, new_clone
from tests.support.stack import Stack, TestDatabase
from tests.support.temporal import working
from workflows.git import PushWorkflow

PIPELINE = "steps:\n  - name: build\n    commands: [echo hello]\n"


@pytest.fixture
async def server(
    idle_stack: Stack, temporal_server: Temporal, migrated: TestDatabase, tmp_path: Path
) -> AsyncIterator[ApiServer]:
    listening = listening_socket()
    public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with Database(migrated.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(idle_stack, database, tmp_path / "repositories", public_url)
        client = await connect(
            temporal_server.address, temporal_server.namespace, services.temporal.data_converter, program="test"
        )
        await ensure_namespace(client)
        activities = GitActivities(database, services.repositories, services.bus)
        # Only pushes are served here: the runs are started, and then wait for a worker that takes them.
        async with (
            working(
                client,
                workflows=[PushWorkflow],
                activities=[activities.settle_push],
                queues=[ORCHESTRATION_QUEUE],
            ),
            serving(services, listening) as running,
        ):
            yield running
        await _end_workflows(client, database)


async def _end_workflows(client: Client, database: Database) -> None:
    """What these tests started and nobody would finish."""
    async with database.transaction() as session:
        runs = (await session.execute(text("SELECT id FROM pipelines WHERE plan IS NOT NULL"))).scalars().all()
        pushes = (await session.execute(text("SELECT id FROM pushes"))).scalars().all()
    for workflow_id in (*map(pipeline_run_workflow_id, runs), *map(push_workflow_id, pushes)):
        with suppress(RPCError):  # ended, or never started
            await client.get_workflow_handle(workflow_id).terminate()


@pytest.fixture
async def git(server: ApiServer, tmp_path: Path) -> Git:
    ada = await server.user()
    return await new_clone(tmp_path / "work", token=ada.token.secret, url=f"{server.base_url}/{ada.name}/demo.git")


async def test_the_terminal_shows_what_started_and_where(server: ApiServer, git: Git) -> None:
    await git.commit({".platform.yaml": PIPELINE, ".platform/broken.yaml": "steps:\n  - nam: x\n"})
    told = (await git("push", "origin", "main")).text
    assert "remote: Perdure: pipeline platform #" in told
    assert f" started: {server.base_url}/" in told
    assert "pipeline broken #" in told
    assert ".platform/broken.yaml is not valid" in told
    assert "remote: Perdure:   .platform/broken.yaml:2:" in told
    assert "did you mean 'name'?" in told
    await git.commit({"a": "1"}, "Quiet [skip ci]")
    assert "Perdure: main: pipelines skipped as asked." in (await git("push", "origin", "main")).text


async def test_a_push_without_a_worker_is_recorded_and_does_not_wait_for_ever(
    server: ApiServer, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.protocols.git.settling.ANSWER_WAIT_SECONDS", 0.001)
    await git.commit({".platform.yaml": PIPELINE})
    told = (await asyncio.wait_for(git("push", "origin", "main"), 30)).text
    assert "the push is recorded" in told
    assert server.base_url in told
