"""Lists of runs, read without what makes a run's row large (its plan above all)."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from database.engine import Database
from database.models.pipelines import Pipeline


@dataclass(frozen=True, slots=True)
class ListedRun:
    """What a list shows of a run; the fields are those of ``database.models.pipelines.Pipeline``.

    Attributes:
        triggered_by: The name of whoever started it.
        has_plan: Whether its file was valid, so that it has or will have a workflow.
    """

    id: UUID
    number: int
    name: str
    config_path: str
    trigger: str
    triggered_by: str
    git_ref: str
    commit_sha: str | None
    commit_title: str | None
    status: str
    error: str | None
    problems: list[dict[str, Any]]
    waiting_for: str | None
    has_plan: bool
    rerun_of: UUID | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Pipeline) -> Self:
        """The same of a row that was read whole."""
        return cls(
            id=run.id,
            number=run.number,
            name=run.name,
            config_path=run.config_path,
            trigger=run.trigger,
            triggered_by=run.actor.get("name", "system"),
            git_ref=run.git_ref,
            commit_sha=run.commit_sha,
            commit_title=run.commit_title,
            status=run.status,
            error=run.error,
            problems=run.problems,
            waiting_for=run.waiting_for,
            has_plan=run.plan is not None,
            rerun_of=run.rerun_of,
            cancel_requested_at=run.cancel_requested_at,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
        )


_SELECT = """
    SELECT id, number, name, config_path, trigger, COALESCE(actor ->> 'name', 'system') AS triggered_by, git_ref,
        commit_sha, commit_title, status, error, problems, waiting_for, rerun_of, cancel_requested_at, created_at,
        started_at, finished_at, plan IS NOT NULL AS has_plan
    FROM pipelines
    WHERE project_id = $1"""


async def listed_runs(
    database: Database,
    project_id: UUID,
    *,
    status: str | None = None,
    git_ref: str | None = None,
    trigger: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[ListedRun]:
    """The runs of a project, newest first, in one SELECT.

    Args:
        before: Only runs older than this ``(created_at, id)``, the place where the last page ended.

    Raises:
        InvalidInput: ``git_ref`` holds a NUL.
        Unavailable: The database does not answer.
    """
    values: list[object] = [project_id]
    statement = _SELECT
    for column, value in (("status", status), ("git_ref", git_ref), ("trigger", trigger)):
        if value is not None:
            values.append(value)
            statement += f" AND {column} = ${len(values)}"
    if before is not None:
        values += before
        statement += f" AND (created_at, id) < (${len(values) - 1}, ${len(values)})"
    values.append(limit)
    statement += f" ORDER BY created_at DESC, id DESC LIMIT ${len(values)}"
    rows = await database.read(statement, *values)
    return [ListedRun(**{**row, "problems": json.loads(row["problems"])}) for row in rows]
