"""Events of a run: what happened, in an order that a reader can resume from."""

import json
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

RUN_STATUS = "pipeline:run:status"
STEP_STATUS = "pipeline:step:status"

# Taking the next number locks the run's row, so events of a run commit in the order of their numbers and a reader that
# has seen number n never misses one below it.
_NUMBERED = """run AS (
    UPDATE pipelines SET event_seq = event_seq + 1 FROM changed WHERE pipelines.id = changed.run_id
    RETURNING pipelines.id, pipelines.project_id, pipelines.event_seq
)"""
_INSERTED = """
INSERT INTO events (project_id, pipeline_id, seq, tag, payload)
SELECT project_id, id, event_seq, :tag, CAST(:payload AS jsonb) FROM run
RETURNING pipeline_id
"""


def change_with_event(change: str) -> TextClause:
    """A change and its event as one statement; it answers with a row exactly if the change happened.

    Args:
        change: SQL that answers with the column ``run_id``. It may not touch ``pipelines``.
    """
    return text(f"WITH changed AS (\n{change}\n),\n{_NUMBERED}\n{_INSERTED}")


def run_change_with_event(change: str) -> TextClause:
    """The same for a change of the run itself.

    Args:
        change: An UPDATE of ``pipelines`` that also adds one to ``event_seq``, without RETURNING.
    """
    return text(f"WITH run AS (\n{change}\nRETURNING id, project_id, event_seq)\n{_INSERTED}")


_RECORD = change_with_event("SELECT CAST(:run_id AS uuid) AS run_id")


async def record_event(session: AsyncSession, run_id: UUID, tag: str, payload: dict[str, object]) -> None:
    """Appends an event to a run, in the caller's transaction."""
    await session.execute(_RECORD, {"run_id": run_id, "tag": tag, "payload": json.dumps(payload)})
