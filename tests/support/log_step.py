"""A running step with an output, for tests of logs."""

import secrets
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlmodel import col

from database.engine import Database
from database.models.pipelines import LogSegment, Pipeline, PipelineStep
from database.store.pipelines.logs import begin_attempt_log
from database.store.pipelines.runs import run_by_id
from database.store.pipelines.steps import begin_attempt, step_by_id
from domain.ids import sandbox_id
from tests.support.factories import make_project, make_user
from tests.support.pipelines import make_run, step_named


@dataclass
class LogStep:
    """A step of a run of its own."""

    database: Database
    run: Pipeline
    id: UUID

    def sandbox(self, attempt: int = 1) -> str:
        """The sandbox of an attempt."""
        return sandbox_id(self.id, attempt)

    async def begin(self, attempt: int = 1, header: str = "") -> None:
        """Starts an attempt."""
        async with self.database.transaction() as session:
            assert await begin_attempt(session, self.id, attempt)
            await begin_attempt_log(session, self.id, header)

    async def row(self) -> PipelineStep:
        """As it is now."""
        async with self.database.transaction() as session:
            return await step_by_id(session, self.id)

    async def segments(self) -> list[LogSegment]:
        """Of the growing log."""
        query = select(LogSegment).where(col(LogSegment.step_id) == self.id).order_by(col(LogSegment.log_offset))
        async with self.database.transaction() as session:
            return list((await session.scalars(query)).all())


async def log_step(database: Database) -> LogStep:
    """A step that has not begun."""
    async with database.transaction() as session:
        user = await make_user(session)
        project = await make_project(session, user, f"p-{secrets.token_hex(4)}")
    created = await make_run(database, project, user)
    step = await step_named(database, created.run_id, "build")
    async with database.transaction() as session:
        run = await run_by_id(session, created.run_id)
    return LogStep(database, run, step.id)
