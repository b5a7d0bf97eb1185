"""Pipeline runs: made once, moved along ``domain.pipelines.status.RUN_TRANSITIONS``, read by the API.

Every transition is a conditional UPDATE that names the states it may leave, so an illegal one changes no row however
many workers try at once; its event is written in the same transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, SQLColumnExpression, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.pipelines import Pipeline, PipelineStep
from database.models.projects import Project
from database.store.audit import record
from database.store.pipelines.events import RUN_STATUS, record_event, run_change_with_event
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import NotFound
from domain.pipelines.plan import Plan, PlannedStep
from domain.pipelines.status import RUN_ENDED, RunStatus, StepStatus, run_may_become


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be made.

    Attributes:
        plan: What will run; ``None`` where the file is invalid, and then ``problems`` says why.
        git_ref: The full ref name, or the commit's id where it was asked for directly.
    """

    project_id: UUID
    actor: Actor
    trigger: str
    git_ref: str
    commit_sha: str
    commit_title: str
    config_path: str
    name: str
    plan: Plan | None
    problems: Sequence[dict[str, Any]] = ()
    variables: dict[str, str] = field(default_factory=dict)
    push_id: UUID | None = None
    rerun_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """A run that is a row now; ``pending``, or ``error`` where its file is invalid."""

    run_id: UUID
    number: int
    status: RunStatus


async def create_run(session: AsyncSession, new: NewRun) -> CreatedRun:
    """Makes the rows of a run and its steps, with audit row and event. The caller starts the workflow after commit.

    Raises:
        NotFound: The project is gone.
    """
    number = await session.scalar(
        update(Project)
        .where(col(Project.id) == new.project_id)
        .values(next_pipeline_number=col(Project.next_pipeline_number) + 1)
        .returning(col(Project.next_pipeline_number))
    )
    if number is None:
        raise NotFound("There is no such project; the run was not made.")
    run_id = uuid4()
    status = RunStatus.PENDING if new.plan is not None else RunStatus.ERROR
    await session.execute(insert(Pipeline).values(_run_values(new, run_id, number, status)))
    if new.plan is not None:
        await session.execute(
            insert(PipelineStep),
            [_step_values(new.project_id, run_id, order, step) for order, step in enumerate(new.plan.steps)],
        )
    await record_event(session, run_id, RUN_STATUS, {"status": status.value})
    await record(
        session,
        new.actor,
        AuditAction.PIPELINE_CREATE,
        "pipeline",
        run_id,
        project_id=new.project_id,
        detail={"number": number, "trigger": new.trigger, "ref": new.git_ref, "commit": new.commit_sha},
    )
    return CreatedRun(run_id=run_id, number=number, status=status)


def _run_values(new: NewRun, run_id: UUID, number: int, status: RunStatus) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": run_id,
        "project_id": new.project_id,
        "number": number,
        "name": new.name,
        "trigger": new.trigger,
        "git_ref": new.git_ref,
        "commit_sha": new.commit_sha,
        "commit_title": new.commit_title,
        "config_path": new.config_path,
        "status": status.value,
        "triggered_by": None if new.actor.kind == "system" else new.actor.user_id,
        "actor": new.actor.model_dump(mode="json"),
        "push_id": new.push_id,
        "rerun_of": new.rerun_of,
        "plan": None if new.plan is None else new.plan.model_dump(mode="json"),
        "problems": list(new.problems),
        "variables": new.variables,
    }
    if status is RunStatus.ERROR:
        values["error"] = f"{new.config_path} is not valid; nothing was run."
        values["finished_at"] = func.now()
    return values


def _step_values(project_id: UUID, run_id: UUID, order: int, step: PlannedStep) -> dict[str, Any]:
    left_out = not step.included
    return {
        "id": uuid4(),
        "pipeline_id": run_id,
        "project_id": project_id,
        "step_order": order,
        "name": step.name,
        "image": step.image or "",
        "commands": list(step.commands),
        "depends_on": list(step.depends_on),
        "spec": step.model_dump(mode="json"),
        "status": (StepStatus.SKIPPED if left_out else StepStatus.PENDING).value,
        "reason": step.skip_reason if left_out else None,
    }


_MOVE = run_change_with_event(
    """
    UPDATE pipelines
    SET status = CAST(:to AS text), waiting_for = NULL, event_seq = event_seq + 1,
        error = COALESCE(CAST(:error AS text), error),
        started_at = CASE WHEN CAST(:starts AS boolean) THEN now() ELSE started_at END,
        finished_at = CASE WHEN CAST(:ends AS boolean) THEN now() ELSE finished_at END
    WHERE id = :run_id AND status = ANY(CAST(:allowed AS text[]))
    """
)


async def move_run(session: AsyncSession, run_id: UUID, to: RunStatus, *, error: str | None = None) -> bool:
    """Moves a run to ``to`` if its present state allows that.

    Returns:
        Whether it moved. ``False`` means that it had moved there, or ended, before.
    """
    values = {
        "run_id": run_id,
        "to": to.value,
        "allowed": [old.value for old in RunStatus if run_may_become(old, to)],
        "starts": to is RunStatus.RUNNING,
        "ends": to in RUN_ENDED,
        "error": error,
        "tag": RUN_STATUS,
        "payload": json.dumps({"status": to.value, "error": error}),
    }
    return (await session.execute(_MOVE, values)).first() is not None


async def status_of(session: AsyncSession, run_id: UUID) -> RunStatus | None:
    """Where a run stands; ``None`` if it was deleted with its project."""
    status = await session.scalar(select(col(Pipeline.status)).where(col(Pipeline.id) == run_id))
    return None if status is None else RunStatus(status)


async def set_waiting_for(session: AsyncSession, run_id: UUID, waiting_for: str | None) -> None:
    """Says, for a person, what a running run waits for; ``None``: it just works."""
    changed = await session.scalar(
        update(Pipeline)
        .where(
            col(Pipeline.id) == run_id,
            _is_unended(),
            col(Pipeline.waiting_for).is_distinct_from(waiting_for),
        )
        .values(waiting_for=waiting_for)
        .returning(col(Pipeline.id))
    )
    if changed is not None:
        await record_event(session, run_id, RUN_STATUS, {"waiting_for": waiting_for})


async def request_cancel(session: AsyncSession, actor: Actor, run: Pipeline, reason: str | None) -> bool:
    """Notes that a run is to be cancelled, with its audit row; the caller then cancels the workflow.

    Returns:
        ``False`` if the run has ended already, and then nothing was written.
    """
    noted = await session.scalar(
        update(Pipeline)
        .where(
            col(Pipeline.id) == run.id,
            _is_unended(),
        )
        .values(
            cancel_requested_at=func.coalesce(col(Pipeline.cancel_requested_at), func.now()),
            error=f"Cancelled by {actor.name}" + (f": {reason}" if reason else "."),
        )
        .returning(col(Pipeline.id))
    )
    if noted is None:
        return False
    await record_event(session, run.id, RUN_STATUS, {"cancel_requested": True})
    await record(
        session,
        actor,
        AuditAction.PIPELINE_CANCEL,
        "pipeline",
        run.id,
        project_id=run.project_id,
        detail={"number": run.number, "reason": reason},
    )
    return True


async def run_of(session: AsyncSession, project_id: UUID, run_id: UUID) -> Pipeline | None:
    """One run of a project, or ``None``."""
    query = select(Pipeline).where(col(Pipeline.id) == run_id, col(Pipeline.project_id) == project_id)
    return (await session.scalars(query)).one_or_none()


async def run_by_id(session: AsyncSession, run_id: UUID) -> Pipeline:
    """One run, for activities that were handed its id.

    Raises:
        NotFound: It was deleted with its project.
    """
    run = await session.get(Pipeline, run_id)
    if run is None:
        raise NotFound("The run is gone: its project was deleted.")
    return run


async def unstarted_runs(session: AsyncSession, *, older_than: timedelta, limit: int) -> list[Pipeline]:
    """Runs that are still ``pending`` after so long: perhaps their workflow never started."""
    is_unstarted = col(Pipeline.status) == RunStatus.PENDING.value
    return await _oldest(session, is_unstarted, col(Pipeline.created_at), older_than, limit)


async def uncancelled_runs(session: AsyncSession, *, older_than: timedelta, limit: int) -> list[Pipeline]:
    """Runs whose cancel was noted so long ago and that have not ended: perhaps their workflow was never told."""
    return await _oldest(session, _is_unended(), col(Pipeline.cancel_requested_at), older_than, limit)


async def running_runs(session: AsyncSession, *, older_than: timedelta, limit: int) -> list[Pipeline]:
    """Runs that are ``running`` and have been for so long."""
    is_running = col(Pipeline.status) == RunStatus.RUNNING.value
    return await _oldest(session, is_running, col(Pipeline.started_at), older_than, limit)


async def _oldest(
    session: AsyncSession,
    condition: ColumnElement[bool],
    since: SQLColumnExpression[Any],
    older_than: timedelta,
    limit: int,
) -> list[Pipeline]:
    query = select(Pipeline).where(condition, since < func.now() - older_than).order_by(since).limit(limit)
    return list((await session.scalars(query)).all())


def _is_unended() -> ColumnElement[bool]:
    return col(Pipeline.status).in_([status.value for status in RunStatus if status not in RUN_ENDED])


async def ended_runs(session: AsyncSession, run_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these runs have ended or are gone: nothing of theirs may be left on a host."""
    query = select(col(Pipeline.id)).where(col(Pipeline.id).in_(run_ids), _is_unended())
    return set(run_ids) - set((await session.scalars(query)).all())
