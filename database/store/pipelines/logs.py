"""The durable log of a step: one stream of bytes over all its attempts.

It is a sequence of segments without gap or overlap: first objects of at least 5 MiB each, then (the *tail*) rows that
hold their bytes. Every append is one compare-and-set on the step's row, ``(attempt, sandbox_log_offset,
log_size_bytes)``, so a writer that lost its place, however late it comes, changes nothing. A log is *closed* when
``log_sha256`` is set; then ``log_ref`` names the one object with all of it (NULL for an empty log) and there are no
segments.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, LargeBinary, Row, bindparam, delete, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.engine import Database
from database.models.pipelines import LogSegment, PipelineStep
from domain.errors import Conflict, NotFound

ROW_BYTES_MAX = 256 * 1024


class LogTaken(Conflict):
    """Another writer moved this log on, or closed it; whoever gets this reads the step anew."""

    code = "log_taken"
    retryable = True


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a log has come; what every append compares with.

    Attributes:
        sandbox_offset: How much of the present attempt's raw output is in the log.
        tail_offset: Where the rows begin that no object has absorbed yet; ``size_bytes`` if there are none.
    """

    attempt: int
    sandbox_offset: int
    size_bytes: int
    tail_offset: int
    is_closed: bool

    def after(self, *, sandbox_offset: int, added_bytes: int, absorbed: bool) -> "LogPosition":
        """The position after an append of ``added_bytes``, by an object that absorbed the tail or as rows."""
        size_bytes = self.size_bytes + added_bytes
        tail_offset = size_bytes if absorbed else self.tail_offset
        return LogPosition(self.attempt, sandbox_offset, size_bytes, tail_offset, self.is_closed)


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some bytes of a log: themselves, or where they lie.

    Attributes:
        log_offset: Where in the log they begin.
        object_offset: Where in the object they begin.
    """

    log_offset: int
    size_bytes: int
    data: bytes | None = None
    object_key: str | None = None
    object_offset: int = 0


@dataclass(frozen=True, slots=True)
class LogPlan:
    """Where a range of a log lies at one moment.

    Attributes:
        size_bytes: Of the whole durable log.
        is_closed: Whether it has its final length.
        pieces: In order, without gap, from the wanted offset to the wanted end or that of the log.
    """

    size_bytes: int
    is_closed: bool
    pieces: tuple[LogPiece, ...]


_POSITION = text(
    """
    SELECT attempt, sandbox_log_offset, log_size_bytes, log_sha256 IS NOT NULL AS is_closed,
        COALESCE((SELECT max(log_offset + size_bytes) FROM log_segments
                  WHERE step_id = :step_id AND object_key IS NOT NULL), 0) AS tail_offset
    FROM pipeline_steps WHERE id = :step_id
    """
)

_APPEND_ROWS = text(
    """
    WITH moved AS (
        UPDATE pipeline_steps
        SET sandbox_log_offset = :sandbox_offset_to, log_size_bytes = log_size_bytes + :added_bytes
        WHERE id = :step_id AND attempt = :attempt AND sandbox_log_offset = :sandbox_offset
            AND log_size_bytes = :size_bytes AND log_sha256 IS NULL
        RETURNING id
    )
    INSERT INTO log_segments (step_id, log_offset, size_bytes, data)
    SELECT moved.id, row.log_offset, row.size_bytes, row.data
    FROM moved, unnest(:offsets, :sizes, :datas) AS row (log_offset, size_bytes, data)
    RETURNING log_offset
    """
).bindparams(
    bindparam("offsets", type_=ARRAY(BigInteger)),
    bindparam("sizes", type_=ARRAY(Integer)),
    bindparam("datas", type_=ARRAY(LargeBinary)),
)

_CLOSE = text(
    """
    WITH closed AS (
        UPDATE pipeline_steps
        SET log_ref = :log_ref, log_sha256 = :sha256, log_size_bytes = :size_bytes_to,
            sandbox_log_offset = :sandbox_offset_to
        WHERE id = :step_id AND attempt = :attempt AND sandbox_log_offset = :sandbox_offset
            AND log_size_bytes = :size_bytes AND log_sha256 IS NULL
        RETURNING id
    ), removed AS (DELETE FROM log_segments USING closed WHERE step_id = closed.id)
    SELECT id FROM closed
    """
)

# The first segment that has a byte of the range is the last one that begins at or before its start: one step in the
# primary key, however many segments there are.
_PLAN = text(
    """
    SELECT step.log_size_bytes, step.log_sha256 IS NOT NULL AS is_closed, step.log_ref,
        piece.log_offset, piece.size_bytes, piece.object_key,
        substring(piece.data FROM least(greatest(:from_offset - piece.log_offset, 0), piece.size_bytes)::int + 1
                  FOR least(:to_offset - greatest(piece.log_offset, :from_offset), piece.size_bytes)::int) AS data
    FROM pipeline_steps step
    LEFT JOIN LATERAL (
        SELECT log_offset, size_bytes, object_key, data FROM log_segments
        WHERE step_id = step.id AND step.log_sha256 IS NULL AND log_offset < :to_offset
            AND log_offset >= COALESCE((SELECT max(log_offset) FROM log_segments
                                        WHERE step_id = :step_id AND log_offset <= :from_offset), 0)
        ORDER BY log_offset
    ) AS piece ON true
    WHERE step.id = :step_id
    ORDER BY piece.log_offset
    """
).bindparams(bindparam("from_offset", type_=BigInteger), bindparam("to_offset", type_=BigInteger))


async def log_position(session: AsyncSession, step_id: UUID) -> LogPosition:
    """How far the log of a step has come.

    Raises:
        NotFound: The step was deleted with its project.
    """
    row = (await session.execute(_POSITION, {"step_id": step_id})).one_or_none()
    if row is None:
        raise _gone()
    return LogPosition(row.attempt, row.sandbox_log_offset, row.log_size_bytes, row.tail_offset, row.is_closed)


async def begin_attempt_log(session: AsyncSession, step_id: UUID, header: str) -> None:
    """Appends what the platform says before an attempt's own output.

    Belongs into the transaction of ``steps.begin_attempt``, which has set the sandbox's offset back to 0: so it
    happens once per attempt.
    """
    data = header.encode()
    if not data:
        return
    at = await log_position(session, step_id)
    if at.size_bytes > 0 and not await _ends_a_line(session, step_id, at):
        data = b"\n" + data
    await append_rows(session, step_id, at, data, sandbox_offset=at.sandbox_offset)


async def _ends_a_line(session: AsyncSession, step_id: UUID, at: LogPosition) -> bool:
    """Whether the last byte is a line break; one in an object is not read for this, an empty line does no harm."""
    plan = await read_plan(session, step_id, at.size_bytes - 1, 1)
    return any(piece.data == b"\n" for piece in plan.pieces)


async def append_rows(
    session: AsyncSession, step_id: UUID, at: LogPosition, data: bytes, *, sandbox_offset: int
) -> LogPosition:
    """Appends bytes as rows.

    Args:
        at: Where the log stands as far as the caller knows.
        sandbox_offset: How much of the sandbox's output the log has after this.

    Returns:
        The new position.

    Raises:
        LogTaken: It does not stand there; nothing was changed.
    """
    moved = at.after(sandbox_offset=sandbox_offset, added_bytes=len(data), absorbed=False)
    if not data:
        await _move(session, step_id, at, moved)
        return moved
    rows = [data[start : start + ROW_BYTES_MAX] for start in range(0, len(data), ROW_BYTES_MAX)]
    values = {
        **_expected(step_id, at),
        "sandbox_offset_to": sandbox_offset,
        "added_bytes": len(data),
        "offsets": [at.size_bytes + number * ROW_BYTES_MAX for number in range(len(rows))],
        "sizes": [len(row) for row in rows],
        "datas": rows,
    }
    if not (await session.execute(_APPEND_ROWS, values)).all():
        raise _taken()
    return moved


async def append_object(
    session: AsyncSession, step_id: UUID, at: LogPosition, *, added_bytes: int, sandbox_offset: int, object_key: str
) -> LogPosition:
    """Puts one object in the place of the tail's rows and of ``added_bytes`` new bytes behind them.

    Args:
        object_key: An object that holds exactly those: ``size_bytes - tail_offset`` old and ``added_bytes`` new ones.

    Returns:
        The new position.

    Raises:
        LogTaken: The log does not stand ``at``; nothing was changed.
    """
    moved = at.after(sandbox_offset=sandbox_offset, added_bytes=added_bytes, absorbed=True)
    await _move(session, step_id, at, moved)  # Locks the step's row, so nobody appends between the two below.
    await session.execute(
        delete(LogSegment).where(col(LogSegment.step_id) == step_id, col(LogSegment.log_offset) >= at.tail_offset)
    )
    session.add(
        LogSegment(
            step_id=step_id,
            log_offset=at.tail_offset,
            size_bytes=moved.size_bytes - at.tail_offset,
            object_key=object_key,
        )
    )
    await session.flush()
    return moved


@dataclass(frozen=True, slots=True)
class LogClosing:
    """The end of a log: all its bytes are in one object.

    Attributes:
        at: Where the durable log stood when the object was made of it and of what followed.
        size_bytes: Of the whole.
        object_key: ``None`` for an empty log.
    """

    step_id: UUID
    at: LogPosition
    sandbox_offset: int
    size_bytes: int
    sha256: str
    object_key: str | None

    async def record(self, session: AsyncSession) -> None:
        """Closes the log and removes its segments. Again with the same content: nothing happens.

        Raises:
            LogTaken: The log has gone on or was closed otherwise; nothing was changed.
        """
        values = {
            **_expected(self.step_id, self.at),
            "log_ref": self.object_key,
            "sha256": self.sha256,
            "size_bytes_to": self.size_bytes,
            "sandbox_offset_to": self.sandbox_offset,
        }
        if (await session.execute(_CLOSE, values)).all():
            return
        sha256 = await session.scalar(select(col(PipelineStep.log_sha256)).where(col(PipelineStep.id) == self.step_id))
        if sha256 != self.sha256:
            raise _taken()


async def read_plan(session: AsyncSession, step_id: UUID, offset: int, size_bytes: int) -> LogPlan:
    """Where the bytes of a log from ``offset`` on lie, as of one moment.

    Args:
        size_bytes: At most so many; rows come with their bytes, so this bounds memory.

    Raises:
        NotFound: The step was deleted with its project.
    """
    end = offset + size_bytes
    rows = (await session.execute(_PLAN, {"step_id": step_id, "from_offset": offset, "to_offset": end})).all()
    if not rows:
        raise _gone()
    first = rows[0]
    end = min(end, first.log_size_bytes)
    if offset >= end:
        pieces: tuple[LogPiece, ...] = ()
    elif first.is_closed:
        pieces = (LogPiece(offset, end - offset, object_key=first.log_ref, object_offset=offset),)
    else:
        pieces = tuple(_piece(row, offset, end) for row in rows)
    return LogPlan(first.log_size_bytes, first.is_closed, pieces)


async def segment_objects(session: AsyncSession, step_id: UUID) -> list[str]:
    """The keys of a growing log's objects, in order."""
    query = (
        select(col(LogSegment.object_key))
        .where(col(LogSegment.step_id) == step_id, col(LogSegment.object_key).is_not(None))
        .order_by(col(LogSegment.log_offset))
    )
    return [key for key in (await session.scalars(query)).all() if key is not None]


async def unreferenced_steps(session: AsyncSession, step_ids: Collection[UUID]) -> set[UUID]:
    """Those among the steps to which no segment can belong any more: their log is closed, or they are gone."""
    growing = select(col(PipelineStep.id)).where(
        col(PipelineStep.id).in_(step_ids), col(PipelineStep.log_sha256).is_(None)
    )
    return set(step_ids) - set((await session.scalars(growing)).all())


async def open_at_end(database: Database, run_id: UUID) -> list[UUID]:
    """The steps of a run that is about to end which have not ended or whose log is not closed; normally none.

    Raises:
        Unavailable: The database does not answer.
    """
    rows = await database.read(
        """
        SELECT id FROM pipeline_steps
        WHERE pipeline_id = $1 AND (status = 'running' OR (log_ref IS NULL AND log_size_bytes > 0))
        ORDER BY step_order
        """,
        run_id,
    )
    return [row["id"] for row in rows]


async def left_open(session: AsyncSession, *, older_than_seconds: float, limit: int) -> Sequence[PipelineStep]:
    """Steps that ended some time ago but whose log nobody closed."""
    ended = text("finished_at < now() - make_interval(secs => :seconds)").bindparams(seconds=older_than_seconds)
    with_segments = select(col(LogSegment.step_id)).distinct()
    query = select(PipelineStep).where(col(PipelineStep.id).in_(with_segments), ended).limit(limit)
    return (await session.scalars(query)).all()


def _piece(row: Row[Any], offset: int, end: int) -> LogPiece:
    start = max(row.log_offset, offset)
    size_bytes = min(row.log_offset + row.size_bytes, end) - start
    if row.object_key is None:
        return LogPiece(start, size_bytes, data=row.data)
    return LogPiece(start, size_bytes, object_key=row.object_key, object_offset=start - row.log_offset)


async def _move(session: AsyncSession, step_id: UUID, at: LogPosition, to: LogPosition) -> None:
    moved = await session.scalar(
        update(PipelineStep)
        .where(*_stands(step_id, at))
        .values(sandbox_log_offset=to.sandbox_offset, log_size_bytes=to.size_bytes)
        .returning(col(PipelineStep.id))
    )
    if moved is None:
        raise _taken()


def _stands(step_id: UUID, at: LogPosition) -> tuple[Any, ...]:
    return (
        col(PipelineStep.id) == step_id,
        col(PipelineStep.attempt) == at.attempt,
        col(PipelineStep.sandbox_log_offset) == at.sandbox_offset,
        col(PipelineStep.log_size_bytes) == at.size_bytes,
        col(PipelineStep.log_sha256).is_(None),
    )


def _expected(step_id: UUID, at: LogPosition) -> dict[str, object]:
    return {
        "step_id": step_id,
        "attempt": at.attempt,
        "sandbox_offset": at.sandbox_offset,
        "size_bytes": at.size_bytes,
    }


def _taken() -> LogTaken:
    return LogTaken("Another worker has taken over this step's log; nothing was written twice.")


def _gone() -> NotFound:
    return NotFound("The step is gone: its project was deleted.")


__all__ = [
    "ROW_BYTES_MAX",
    "LogClosing",
    "LogPiece",
    "LogPlan",
    "LogPosition",
    "LogTaken",
    "append_object",
    "append_rows",
    "begin_attempt_log",
    "left_open",
    "log_position",
    "read_plan",
    "segment_objects",
    "unreferenced_steps",
]
