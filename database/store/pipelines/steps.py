"""Steps of a run: started, ended, skipped, along ``domain.pipelines.status.STEP_TRANSITIONS``."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, cast, extract, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.pipelines import PipelineStep
from database.store.pipelines.events import STEP_STATUS, record_event
from domain.errors import NotFound
from domain.pipelines.status import STEP_ENDED, STEP_TRANSITIONS, StepCause, StepStatus

_UNENDED = [StepStatus.PENDING.value, StepStatus.RUNNING.value]


def _may_precede(to: StepStatus) -> list[str]:
    return [old.value for old, after in STEP_TRANSITIONS.items() if to in after]


async def steps_of(session: AsyncSession, run_id: UUID) -> list[PipelineStep]:
    """The steps of a run in the order of its file."""
    query = select(PipelineStep).where(col(PipelineStep.pipeline_id) == run_id).order_by(col(PipelineStep.step_order))
    return list((await session.scalars(query)).all())


async def step_by_id(session: AsyncSession, step_id: UUID) -> PipelineStep:
    """One step, for activities that were handed its id.

    Raises:
        NotFound: It was deleted with its project.
    """
    step = await session.get(PipelineStep, step_id)
    if step is None:
        raise NotFound("The step is gone: its project was deleted.")
    return step


async def begin_attempt(session: AsyncSession, step_id: UUID, attempt: int) -> bool:
    """Moves a step to ``running`` with this attempt, which must be the next one.

    Returns:
        Whether this call began it. ``False``: it had begun before (re-attach), or the step has ended.
    """
    run_id = await session.scalar(
        update(PipelineStep)
        .where(
            col(PipelineStep.id) == step_id,
            col(PipelineStep.status).in_(_may_precede(StepStatus.RUNNING)),
            col(PipelineStep.attempt) == attempt - 1,
        )
        .values(
            status=StepStatus.RUNNING.value,
            attempt=attempt,
            cause=None,
            reason=None,
            exit_code=None,
            sandbox_log_offset=0,
            started_at=func.coalesce(col(PipelineStep.started_at), func.now()),
        )
        .returning(col(PipelineStep.pipeline_id))
    )
    if run_id is None:
        return False
    await record_event(
        session, run_id, STEP_STATUS, {"step": str(step_id), "status": StepStatus.RUNNING.value, "attempt": attempt}
    )
    return True


async def note_attempt_end(
    session: AsyncSession, step_id: UUID, attempt: int, *, cause: StepCause | None, reason: str | None
) -> None:
    """Says why an attempt ended while the step itself goes on with another."""
    await session.execute(
        update(PipelineStep)
        .where(
            col(PipelineStep.id) == step_id,
            col(PipelineStep.attempt) == attempt,
            col(PipelineStep.status) == StepStatus.RUNNING.value,
        )
        .values(cause=None if cause is None else cause.value, reason=reason)
    )


async def end_step(
    session: AsyncSession,
    step_id: UUID,
    to: StepStatus,
    *,
    cause: StepCause | None = None,
    reason: str | None = None,
    exit_code: int | None = None,
) -> bool:
    """Ends a step, if its present state allows that.

    Returns:
        Whether it changed.
    """
    if to not in STEP_ENDED:
        raise ValueError(f"{to} does not end a step")
    elapsed_ms = extract("epoch", func.now() - col(PipelineStep.started_at)) * 1000
    run_id = await session.scalar(
        update(PipelineStep)
        .where(col(PipelineStep.id) == step_id, col(PipelineStep.status).in_(_may_precede(to)))
        .values(
            status=to.value,
            cause=None if cause is None else cause.value,
            reason=reason,
            exit_code=exit_code,
            duration_ms=cast(elapsed_ms, BigInteger),
            finished_at=func.now(),
        )
        .returning(col(PipelineStep.pipeline_id))
    )
    if run_id is None:
        return False
    payload: dict[str, Any] = {"step": str(step_id), "status": to.value, "exit_code": exit_code, "reason": reason}
    await record_event(session, run_id, STEP_STATUS, payload)
    return True


async def skip_steps(session: AsyncSession, reasons: Mapping[UUID, str]) -> None:
    """Records steps that will not run, each with its reason."""
    for step_id, reason in reasons.items():
        await end_step(session, step_id, StepStatus.SKIPPED, reason=reason)


async def cancel_unended_steps(session: AsyncSession, run_id: UUID, reason: str) -> None:
    """Ends what a run that is over never finished: running steps are cancelled, pending ones skipped."""
    query = select(col(PipelineStep.id), col(PipelineStep.status)).where(
        col(PipelineStep.pipeline_id) == run_id, col(PipelineStep.status).in_(_UNENDED)
    )
    for step_id, status in (await session.execute(query)).all():
        if status == StepStatus.PENDING.value:
            await end_step(session, step_id, StepStatus.SKIPPED, reason=reason)
        else:
            await end_step(session, step_id, StepStatus.CANCELLED, cause=StepCause.CANCELLED, reason=reason)
