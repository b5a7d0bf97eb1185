"""Ending a run whose workflow never started."""

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.pipelines import Pipeline
from database.store.pipelines.events import RUN_STATUS, record_event
from database.store.pipelines.steps import cancel_unended_steps
from domain.pipelines.status import RunStatus


async def cancel_unstarted(session: AsyncSession, run_id: UUID) -> bool:
    """Moves a run that is still ``pending`` to ``cancelled``, with its steps.

    Only for a run whose cancellation was committed before and whose workflow Temporal does not know: should the
    workflow start after all, it finds the cancellation and runs nothing.

    Returns:
        Whether it moved; a run in any other state is left to its workflow.
    """
    moved = await session.scalar(
        update(Pipeline)
        .where(col(Pipeline.id) == run_id, col(Pipeline.status) == RunStatus.PENDING.value)
        .values(status=RunStatus.CANCELLED.value, waiting_for=None, finished_at=func.now())
        .returning(col(Pipeline.id))
    )
    if moved is None:
        return False
    await cancel_unended_steps(session, run_id, "the run was cancelled before it started")
    await record_event(session, run_id, RUN_STATUS, {"status": RunStatus.CANCELLED.value})
    return True
