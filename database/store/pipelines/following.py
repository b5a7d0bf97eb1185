"""What somebody who follows a run or a log asks again and again: little, and in one SELECT each time."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from database.engine import Database
from domain.errors import NotFound


@dataclass(frozen=True, slots=True)
class FollowedStep:
    """Of a step, what changes while it is followed; the fields are those of ``PipelineStep``."""

    id: UUID
    name: str
    status: str
    reason: str | None
    log_size_bytes: int


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """Of a run, what changes while it is followed, all at the same moment.

    Attributes:
        event_seq: Every event up to this number can be read.
        steps: In the order of the file.
    """

    status: str
    event_seq: int
    steps: tuple[FollowedStep, ...]


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """One event of a run."""

    seq: int
    tag: str
    payload: dict[str, Any]
    created_at: datetime


_RUN = """
    SELECT r.status AS run_status, r.event_seq, s.id, s.name, s.status, s.reason, s.log_size_bytes
    FROM pipelines r LEFT JOIN pipeline_steps s ON s.pipeline_id = r.id
    WHERE r.id = $1 ORDER BY s.step_order"""

_STEP = "SELECT id, name, status, reason, log_size_bytes FROM pipeline_steps WHERE id = $1"

_EVENTS = """
    SELECT seq, tag, payload, created_at FROM events
    WHERE pipeline_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"""


async def followed_run(database: Database, run_id: UUID) -> FollowedRun:
    """The present state.

    Raises:
        NotFound: It was deleted with its project.
        Unavailable: The database does not answer.
    """
    rows = await database.read(_RUN, run_id)
    if not rows:
        raise NotFound("The run is gone: its project was deleted.")
    steps = [
        FollowedStep(row["id"], row["name"], row["status"], row["reason"], row["log_size_bytes"])
        for row in rows
        if row["id"] is not None
    ]
    return FollowedRun(rows[0]["run_status"], rows[0]["event_seq"], tuple(steps))


async def followed_step(database: Database, step_id: UUID) -> FollowedStep:
    """The present state.

    Raises:
        NotFound: It was deleted with its project.
        Unavailable: The database does not answer.
    """
    rows = await database.read(_STEP, step_id)
    if not rows:
        raise NotFound("The step is gone: its project was deleted.")
    return FollowedStep(**rows[0])


async def followed_events(database: Database, run_id: UUID, *, after: int, limit: int) -> list[FollowedEvent]:
    """The events of a run with a number above ``after``, oldest first.

    Raises:
        Unavailable: The database does not answer.
    """
    rows = await database.read(_EVENTS, run_id, after, limit)
    return [FollowedEvent(**{**row, "payload": json.loads(row["payload"])}) for row in rows]
