"""Run activities with everything around them: real rows and git, sandboxes that run nothing, stores in memory."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.testing import ActivityEnvironment

from activities.pipelines.artifacts import ArtifactCollector, ArtifactExpiry
from activities.pipelines.logs import LogPumps
from activities.pipelines.policy import StepPolicy
from activities.pipelines.runs import RunActivities
from activities.pipelines.steps import StepActivities
from adapters.bus.memory import MemoryBus
from adapters.objects.memory import MemoryObjects
from adapters.repositories.git_cli import GitRepositories
from adapters.sandbox.base import SandboxLimits, SandboxSpec
from adapters.sandbox.dummy import DummySandbox, DummySandboxes
from database.engine import Database
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.logs import read_plan
from database.store.pipelines.runs import run_by_id
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.messages import PrepareRunInput, PrepareRunResult, RunStepInput, RunStepResult
from domain.projects import ProjectView
from tests.support.factories import TestUser, make_project, make_user
from tests.support.pipelines import git, make_run, step_named

LIMITS = SandboxLimits(log_size_bytes=1000)


class Crash(Exception):
    """The worker dies here."""


class Crashing:
    """Hands every call on to an adapter and dies once, before or after the call ``number`` of ``method``."""

    def __init__(self, inner: object, method: str, *, number: int = 1, after: bool) -> None:
        self._inner = inner
        self._method = method
        self._left = number
        self._after = after

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the adapter has
        attribute = getattr(self._inner, name)
        if name != self._method:
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as above
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Crash
            answer = await attribute(*args, **kwargs)
            if self._left == 0:
                raise Crash
            return answer

        return call


class CrashingDatabase:
    """Dies once, before or after the commit of transaction ``number``."""

    def __init__(self, inner: Database, *, number: int, after: bool) -> None:
        self._inner = inner
        self.left = number
        self._after = after

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """As the real one."""
        self.left -= 1
        async with self._inner.transaction() as session:
            yield session
            if self.left == 0 and not self._after:
                raise Crash
        if self.left == 0:
            raise Crash


class CountedSandboxes(DummySandboxes):
    """Tells what really ran."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.ran: list[str] = []
        self.specs: list[SandboxSpec] = []

    async def start(self, spec: SandboxSpec) -> None:
        """See ``Sandboxes.start``."""
        self.specs.append(spec)
        await super().start(spec)

    async def _run(self, sandbox: DummySandbox, spec: SandboxSpec) -> None:
        self.ran.append(spec.id)
        await super()._run(sandbox, spec)


@dataclass
class KnownWorkflows:
    """Temporal's answers; what is not named is ``absent``."""

    states: dict[str, Literal["open", "ended", "absent"]] = field(default_factory=dict)

    async def state(self, workflow_id: str) -> Literal["open", "ended", "absent"]:
        """See ``WorkflowStates.state``."""
        return self.states.get(workflow_id, "absent")

    def say(self, run_id: UUID, state: Literal["open", "ended", "absent"]) -> None:
        """What the workflow of a run shall be."""
        self.states[pipeline_run_workflow_id(run_id)] = state


class CountedExpiry:
    """Temporal's part of the expiry: only counts how often it was asked for."""

    def __init__(self) -> None:
        self.rounds = 0

    async def expire(self) -> None:
        """See ``HistoryExpiry.expire``."""
        self.rounds += 1


def step_file(name: str = "build", **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # of the pipeline file
    """One step of a pipeline file; its ``env`` steers the dummy sandbox."""
    return {"name": name, "commands": "true", **fields}


@dataclass
class Scene:
    """One project and the activities."""

    database: Database
    directory: Path
    sandboxes: CountedSandboxes
    objects: MemoryObjects
    bus: MemoryBus
    repositories: GitRepositories
    workflows: KnownWorkflows
    histories: CountedExpiry
    user: TestUser
    project: ProjectView

    def pumps(self, **changes: object) -> LogPumps:
        """With adapters of the scene, or others."""
        parts: dict[str, Any] = {
            "database": self.database,
            "objects": self.objects,
            "bus": self.bus,
            "sandboxes": self.sandboxes,
            **changes,
        }
        return LogPumps(**parts)

    def steps(self, **changes: object) -> StepActivities:
        """As the worker builds them; ``changes`` name adapters that are others."""
        adapters: dict[str, Any] = {
            "database": self.database,
            "objects": self.objects,
            "bus": self.bus,
            "sandboxes": self.sandboxes,
            **changes,
        }
        return StepActivities(
            database=adapters["database"],
            sandboxes=adapters["sandboxes"],
            bus=adapters["bus"],
            logs=LogPumps(**adapters),
            artifacts=ArtifactCollector(adapters["database"], adapters["objects"]),
            policy=StepPolicy(limits=LIMITS, network_projects=frozenset({"ada/online"}), public_url="https://p.test"),
        )

    @property
    def runs(self) -> RunActivities:
        """As the worker builds them."""
        logs = self.pumps()
        return RunActivities(
            database=self.database,
            repositories=self.repositories,
            sandboxes=self.sandboxes,
            bus=self.bus,
            logs=logs,
            expiry=ArtifactExpiry(self.database, self.objects, logs),
            workflows=self.workflows,
            histories=self.histories,
        )

    async def commit(self, files: dict[str, str]) -> str:
        """Puts a commit on the default branch and returns its id."""
        work = self.directory / "work"
        if not work.exists():
            work.mkdir()
            git(work, "init", "-q", "-b", "main")
            await self.repositories.ensure(self.project.id, default_branch="main")
        for name, content in files.items():
            (work / name).write_text(content)
        git(work, "add", "-A")
        git(work, "commit", "-q", "--allow-empty", "-m", "A commit")
        git(work, "push", "-q", "--force", str(self.repositories.path(self.project.id)), "HEAD:refs/heads/main")
        return git(work, "rev-parse", "HEAD")

    async def run_of(self, *steps: dict[str, Any], timeout_seconds: int = 600, **fields: object) -> UUID:
        """A pending run of these steps; ``fields`` are those of ``NewRun``."""
        yaml = json.dumps({"steps": list(steps or [step_file()]), "timeout": timeout_seconds})
        return (await make_run(self.database, self.project, self.user, yaml=yaml, **fields)).run_id

    async def ready_run(self, *steps: dict[str, Any]) -> UUID:
        """A pending run whose workspace is filled."""
        run_id = await self.run_of(*steps)
        await self.sandboxes.create_workspace(run_id)
        await self.sandboxes.hand_over_workspace(run_id)
        return run_id

    async def order(
        self, run_id: UUID, name: str = "build", attempt: int = 1, previous: str | None = None
    ) -> RunStepInput:
        """What the workflow asks for."""
        step = await step_named(self.database, run_id, name)
        return RunStepInput(run_id=run_id, step_id=step.id, attempt=attempt, previous=previous)

    async def run_step(
        self,
        run_id: UUID,
        name: str = "build",
        *,
        attempt: int = 1,
        previous: str | None = None,
        with_: StepActivities | None = None,
    ) -> RunStepResult:
        """Runs the activity."""
        order = await self.order(run_id, name, attempt, previous)
        activities = with_ or self.steps()
        return await ActivityEnvironment().run(activities.run_step, order)

    async def prepare(self, run_id: UUID) -> PrepareRunResult:
        """Runs the activity."""
        return await ActivityEnvironment().run(self.runs.prepare_run, PrepareRunInput(run_id=run_id))

    async def step(self, run_id: UUID, name: str = "build") -> PipelineStep:
        """Its row."""
        return await step_named(self.database, run_id, name)

    async def run(self, run_id: UUID) -> Pipeline:
        """Its row."""
        async with self.database.transaction() as session:
            return await run_by_id(session, run_id)

    async def log(self, run_id: UUID, name: str = "build") -> str:
        """All that a reader gets of a step's log."""
        step = await self.step(run_id, name)
        async with self.database.transaction() as session:
            plan = await read_plan(session, step.id, 0, 1024**2)
        pieces = [
            piece.data
            if piece.data is not None
            else await self.objects.get(piece.object_key or "", offset=piece.object_offset, size_bytes=piece.size_bytes)
            for piece in plan.pieces
        ]
        return b"".join(pieces).decode()


async def make_scene(database: Database, directory: Path) -> Scene:
    """A project of its own in ``database``."""
    async with database.transaction() as session:
        user = await make_user(session)
        project = await make_project(session, user)
    return Scene(
        database=database,
        directory=directory,
        sandboxes=CountedSandboxes(directory / "sandboxes"),
        objects=MemoryObjects(),
        bus=MemoryBus(),
        repositories=GitRepositories(
            directory / "repositories", object_size_bytes_max=10**7, push_size_bytes_max=10**7
        ),
        workflows=KnownWorkflows(),
        histories=CountedExpiry(),
        user=user,
        project=project,
    )


def dim(line: str) -> str:
    """A line of the platform's own in a log."""
    return f"\x1b[2mperdure: {line}\x1b[0m\n"
