"""Repositories with pipeline files, and runs in any state, for tests."""

import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlmodel import col

from database.engine import Database
from database.models.pipelines import LogSegment, PipelineStep
from database.store.pipelines.runs import CreatedRun, NewRun, create_run, move_run
from database.store.pipelines.steps import begin_attempt, end_step, steps_of
from domain.actors import Actor
from domain.pipelines.plan import Plan, TriggerContext
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.status import RunStatus, StepStatus
from domain.pipelines.trigger import runs_for
from domain.projects import ProjectView
from tests.support.api import ApiServer, listening_socket, serving, url_of, with_temporal_away
from tests.support.factories import TestUser

HELLO = """\
steps:
  - name: build
    commands: echo building
  - name: test
    commands: echo testing
"""

_GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")


def git(directory: Path, *arguments: str) -> str:
    """Runs git and returns what it says."""
    return subprocess.run([*_GIT, *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


async def fill_repository(
    server: ApiServer,
    project: ProjectView,
    files: Mapping[str, str],
    directory: Path,
    *,
    branch: str = "main",
    title: str = "A commit",
) -> str:
    """Commits files on top of a branch and puts it into the project's repository; returns the commit's id."""
    repositories = server.services.repositories
    await repositories.ensure(project.id, default_branch=project.default_branch)
    bare = str(getattr(repositories, "path")(project.id))  # noqa: B009  # the protocol hides the path from routes
    if not (directory / ".git").exists():
        git(directory, "init", "-q", "-b", branch)
    elif git(directory, "branch", "--show-current") != branch:
        git(directory, "checkout", "-q", "-b", branch)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "--allow-empty", "-m", title)
    git(directory, "push", "-q", "--force", bare, f"HEAD:refs/heads/{branch}")
    return git(directory, "rev-parse", "HEAD")


def plan_of(yaml: str, *, path: str = ".platform.yaml", ref: str = "refs/heads/main") -> Plan:
    """The plan of a valid file for an API trigger."""
    branch = ref.removeprefix("refs/heads/")
    planned = runs_for({path: yaml.encode()}, TriggerContext(event=TriggerEvent.API, ref=ref, branch=branch))[0]
    assert planned.plan is not None, planned.problems
    return planned.plan


async def make_run(
    database: Database, project: ProjectView, user: TestUser, *, yaml: str = HELLO, **changes: object
) -> CreatedRun:
    """A pending run without a workflow; ``changes`` are fields of ``NewRun``."""
    values: dict[str, Any] = {
        "project_id": project.id,
        "actor": Actor(user_id=user.id, name=user.name),
        "trigger": "push",
        "git_ref": "refs/heads/main",
        "commit_sha": "1234567890abcdef1234567890abcdef12345678",
        "commit_title": "Make the door green",
        "config_path": ".platform.yaml",
        "name": "platform",
        "plan": plan_of(yaml),
        **changes,
    }
    async with database.transaction() as session:
        return await create_run(session, NewRun(**values))


async def start_run(database: Database, run_id: UUID) -> None:
    """Moves a run to ``running``."""
    async with database.transaction() as session:
        assert await move_run(session, run_id, RunStatus.RUNNING)


async def finish_run(database: Database, run_id: UUID, status: RunStatus) -> None:
    """Ends a run."""
    async with database.transaction() as session:
        assert await move_run(session, run_id, status)


async def step_named(database: Database, run_id: UUID, name: str) -> PipelineStep:
    """The step of this name."""
    async with database.transaction() as session:
        return next(step for step in await steps_of(session, run_id) if step.name == name)


async def start_step(database: Database, run_id: UUID, name: str) -> UUID:
    """Moves a step to ``running``; returns its id."""
    step = await step_named(database, run_id, name)
    async with database.transaction() as session:
        assert await begin_attempt(session, step.id, step.attempt + 1)
    return step.id


async def finish_step(
    database: Database, step_id: UUID, status: StepStatus = StepStatus.SUCCESS, *, exit_code: int | None = 0
) -> None:
    """Ends a step."""
    async with database.transaction() as session:
        assert await end_step(session, step_id, status, exit_code=exit_code)


async def write_log(database: Database, step_id: UUID, data: bytes) -> None:
    """Makes bytes durable at the end of a step's log, as the pump does."""
    async with database.transaction() as session:
        step = await session.get(PipelineStep, step_id, with_for_update=True)
        assert step is not None
        if data:
            session.add(LogSegment(step_id=step_id, log_offset=step.log_size_bytes, size_bytes=len(data), data=data))
        await session.execute(
            update(PipelineStep)
            .where(col(PipelineStep.id) == step_id)
            .values(log_size_bytes=step.log_size_bytes + len(data))
        )


@asynccontextmanager
async def without_temporal(server: ApiServer) -> AsyncIterator[ApiServer]:
    """A second API on the same rows and repositories whose Temporal does not answer."""
    listening = listening_socket()
    services = replace(await with_temporal_away(server.services), public_url=url_of(listening))
    async with serving(services, listening) as other:
        yield other
