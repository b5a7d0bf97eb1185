"""Steps of a run: started, ended, skipped, along ``domain.pipelines.status.STEP_TRANSITIONS``."""

import json
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.access import User
from database.models.pipelines import Pipeline, PipelineStep
from database.models.projects import Project
from database.store.pipelines.events import STEP_STATUS, change_with_event
from database.store.projects import FULL_NAME
from domain.errors import NotFound
from domain.pipelines.status import STEP_ENDED, StepCause, StepStatus, step_may_become

_UNENDED = [StepStatus.PENDING.value, StepStatus.RUNNING.value]


def _may_precede(to: StepStatus) -> list[str]:
    return [old.value for old in StepStatus if step_may_become(old, to)]


_BEGIN_ATTEMPT = change_with_event(
    """
    UPDATE pipeline_steps
    SET status = 'running', attempt = :attempt, cause = NULL, reason = NULL, exit_code = NULL,
        sandbox_log_offset = 0, started_at = COALESCE(started_at, now())
    WHERE id = :step_id AND attempt = :attempt - 1 AND status = ANY(CAST(:allowed AS text[]))
    RETURNING pipeline_id AS run_id
    """
)
_END = change_with_event(
    """
    UPDATE pipeline_steps
    SET status = CAST(:to AS text), cause = CAST(:cause AS text), reason = CAST(:reason AS text),
        exit_code = CAST(:exit_code AS integer), finished_at = now(),
        duration_ms = CAST(EXTRACT(epoch FROM now() - started_at) * 1000 AS integer)
    WHERE id = :step_id AND status = ANY(CAST(:allowed AS text[]))
    RETURNING pipeline_id AS run_id
    """
)


async def steps_of(session: AsyncSession, run_id: UUID) -> list[PipelineStep]:
    """The steps of a run in the order of its file."""
    query = select(PipelineStep).where(col(PipelineStep.pipeline_id) == run_id).order_by(col(PipelineStep.step_order))
    return list((await session.scalars(query)).all())


async def step_with_run(session: AsyncSession, step_id: UUID) -> tuple[PipelineStep, Pipeline, str]:
    """One step with its run and the full name of its project, for activities that were handed its id.

    Raises:
        NotFound: It was deleted with its project.
    """
    query = (
        select(PipelineStep, Pipeline, FULL_NAME)
        .select_from(PipelineStep)
        .join(Pipeline, col(Pipeline.id) == col(PipelineStep.pipeline_id))
        .join(Project, col(Project.id) == col(PipelineStep.project_id))
        .join(User, col(User.id) == col(Project.owner_id))
        .where(col(PipelineStep.id) == step_id)
    )
    row = (await session.execute(query)).first()
    if row is None:
        raise NotFound("The step is gone: its project was deleted.")
    step, run, project = row
    return step, run, project


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
    payload = {"step": str(step_id), "status": StepStatus.RUNNING.value, "attempt": attempt}
    values = {
        "step_id": step_id,
        "attempt": attempt,
        "allowed": _may_precede(StepStatus.RUNNING),
        "tag": STEP_STATUS,
        "payload": json.dumps(payload),
    }
    return (await session.execute(_BEGIN_ATTEMPT, values)).first() is not None


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
    payload = {"step": str(step_id), "status": to.value, "exit_code": exit_code, "reason": reason}
    values = {
        "step_id": step_id,
        "to": to.value,
        "allowed": _may_precede(to),
        "cause": None if cause is None else cause.value,
        "reason": reason,
        "exit_code": exit_code,
        "tag": STEP_STATUS,
        "payload": json.dumps(payload),
    }
    return (await session.execute(_END, values)).first() is not None


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
