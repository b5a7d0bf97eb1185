"""Reads any bytes of a step's log at any time: while it grows, while it is closed, and after."""

from collections.abc import AsyncIterator
from uuid import UUID

from adapters.objects.base import Objects
from database.engine import Database
from database.store.pipelines.logs import LogPiece, LogPlan, read_plan
from domain.errors import NotFound

# Rows come with their bytes, so this bounds what one reader has in memory.
WINDOW_BYTES = 4 * 1024**2


async def read_log(
    database: Database, objects: Objects, step_id: UUID, offset: int = 0, size_bytes: int | None = None
) -> AsyncIterator[bytes]:
    """The durable bytes from ``offset`` on, in chunks of at most 1 MiB, until the end that the log has by then.

    Args:
        size_bytes: At most so many.

    Raises:
        NotFound: The step is gone, or so is its log's object.
        Unavailable: The database or the object store does not answer.
    """
    end = None if size_bytes is None else offset + size_bytes
    lost: LogPlan | None = None
    while end is None or offset < end:
        plan = await _plan(database, step_id, offset, end)
        if not plan.pieces:
            return
        try:
            for piece in plan.pieces:
                async for chunk in _bytes_of(objects, piece):
                    yield chunk
                    offset += len(chunk)
        except NotFound:
            # The log was closed meanwhile and its segments are gone: the new plan names the one object instead. If it
            # names the same places, the object is really missing.
            if plan == lost:
                raise
            lost = plan


async def read_log_part(
    database: Database, objects: Objects, step_id: UUID, offset: int, size_bytes: int = 64 * 1024
) -> bytes:
    """At most ``size_bytes`` durable bytes from ``offset`` on; nothing if there are none yet.

    Raises:
        NotFound: The step is gone, or so is its log's object.
        Unavailable: The database or the object store does not answer.
    """
    return b"".join([chunk async for chunk in read_log(database, objects, step_id, offset, size_bytes)])


async def _plan(database: Database, step_id: UUID, offset: int, end: int | None) -> LogPlan:
    window = WINDOW_BYTES if end is None else min(WINDOW_BYTES, end - offset)
    async with database.transaction() as session:
        plan = await read_plan(session, step_id, offset, window)
        more = end is None or end - offset > window
        if plan.is_closed and plan.pieces and more:  # One request to the store for all of it.
            plan = await read_plan(session, step_id, offset, plan.size_bytes if end is None else end - offset)
    return plan


async def _bytes_of(objects: Objects, piece: LogPiece) -> AsyncIterator[bytes]:
    if piece.data is not None:
        yield piece.data
    elif piece.object_key is not None:
        async for chunk in objects.stream(piece.object_key, offset=piece.object_offset, size_bytes=piece.size_bytes):
            yield chunk
