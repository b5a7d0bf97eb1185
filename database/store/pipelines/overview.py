"""What lists of projects show of their runs."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.pipelines import Pipeline


async def newest_runs(session: AsyncSession, project_ids: Sequence[UUID]) -> dict[UUID, Pipeline]:
    """The newest run of each project that has one, by project."""
    query = (
        select(Pipeline)
        .where(col(Pipeline.project_id).in_(project_ids))
        .ext(distinct_on(col(Pipeline.project_id)))
        .order_by(col(Pipeline.project_id), col(Pipeline.created_at).desc(), col(Pipeline.id).desc())
    )
    return {run.project_id: run for run in (await session.scalars(query)).all()}


async def newest_run_of_commits(
    session: AsyncSession, project_id: UUID, commit_shas: Sequence[str]
) -> dict[str, Pipeline]:
    """The newest run of each commit that has one, by commit id."""
    query = (
        select(Pipeline)
        .where(col(Pipeline.project_id) == project_id, col(Pipeline.commit_sha).in_(commit_shas))
        .ext(distinct_on(col(Pipeline.commit_sha)))
        .order_by(col(Pipeline.commit_sha), col(Pipeline.created_at).desc(), col(Pipeline.id).desc())
    )
    return {run.commit_sha: run for run in (await session.scalars(query)).all() if run.commit_sha is not None}
