"""The large pieces of growing logs, and the one object that each becomes."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from adapters.objects.base import Objects, log_key, log_segment_key
from database.engine import Database
from database.models.pipelines import PipelineStep
from database.store.pipelines.logs import LogClosing, LogPosition, LogTaken, read_plan, segment_objects
from domain.errors import NotFound, Unavailable

logger = logging.getLogger(__name__)

OBJECT_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class FinishedLog(LogClosing):
    """A log whose one object is stored but not recorded yet.

    Attributes:
        leftovers: Keys that nobody needs once it is recorded.
    """

    objects: Objects
    leftovers: tuple[str, ...] = ()

    async def clean_up(self) -> None:
        """After the commit: removes the segments' objects. If it cannot, the sweep will."""
        try:
            await self.objects.delete(self.leftovers)
        except Unavailable as error:
            logger.info("segments of the log of step %s are left to the sweep: %s", self.step_id, error)


@dataclass(frozen=True)
class LogEnding:
    """What the one object is made of.

    Attributes:
        tail: The bytes of the rows and ``added_bytes`` that were never written anywhere.
        sha256: Of the whole log.
    """

    project_id: UUID
    run_id: UUID
    step_id: UUID
    at: LogPosition
    sandbox_offset: int
    tail: bytes
    added_bytes: int
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Of the whole log."""
        return self.at.size_bytes + self.added_bytes


@dataclass(frozen=True)
class LogArchive:
    """Reads and writes what belongs to logs in the object store."""

    database: Database
    objects: Objects

    async def tail(self, step_id: UUID, at: LogPosition) -> bytes:
        """The bytes that are in rows; less than ``PART_SIZE_BYTES_MIN`` and one append's."""
        size_bytes = at.size_bytes - at.tail_offset
        if size_bytes == 0:
            return b""
        async with self.database.transaction() as session:
            plan = await read_plan(session, step_id, at.tail_offset, size_bytes)
        tail = b"".join(piece.data for piece in plan.pieces if piece.data is not None)
        if len(tail) != size_bytes:  # Somebody made an object of it, or closed the log.
            raise LogTaken("Another worker has taken over this step's log; nothing was written twice.")
        return tail

    async def digest(self, step_id: UUID, size_bytes: int) -> "hashlib._Hash":
        """The SHA-256 so far of the first ``size_bytes`` of a growing log, read from where they lie."""
        digest = hashlib.sha256()
        async for chunk in self._durable(step_id, size_bytes):
            await asyncio.to_thread(digest.update, chunk)
        return digest

    async def put_segment(self, step_id: UUID, log_offset: int, data: bytes) -> str:
        """Stores a large piece of a growing log and returns its key."""
        sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        return (await self.objects.put(log_segment_key(step_id, log_offset, sha256), data)).key

    async def close(self, ending: LogEnding) -> FinishedLog:
        """Makes the one object: of the growing log's objects and, as the last part, the tail."""
        key = log_key(ending.project_id, ending.run_id, ending.step_id, ending.sha256)
        parts: list[str] = []
        if ending.at.tail_offset > 0:
            parts = await self._compose(key, ending)
        elif ending.tail:
            await self.objects.put(key, ending.tail)
        return FinishedLog(
            step_id=ending.step_id,
            at=ending.at,
            sandbox_offset=ending.sandbox_offset,
            size_bytes=ending.size_bytes,
            sha256=ending.sha256,
            object_key=key if ending.size_bytes else None,
            objects=self.objects,
            leftovers=tuple(parts),
        )

    async def close_durable(self, step: PipelineStep, at: LogPosition) -> FinishedLog:
        """Makes the one object of what is durable alone."""
        digest = await self.digest(step.id, at.size_bytes)
        return await self.close(
            LogEnding(
                project_id=step.project_id,
                run_id=step.pipeline_id,
                step_id=step.id,
                at=at,
                sandbox_offset=at.sandbox_offset,
                tail=await self.tail(step.id, at),
                added_bytes=0,
                sha256=digest.hexdigest(),
            )
        )

    async def _compose(self, key: str, ending: LogEnding) -> list[str]:
        async with self.database.transaction() as session:
            parts = await segment_objects(session, ending.step_id)
        if ending.tail:
            parts.append(await self.put_segment(ending.step_id, ending.at.tail_offset, ending.tail))
        try:
            composed = await self.objects.compose(key, parts)
        except (NotFound, ValueError) as error:  # No parts at all, or parts that are gone: somebody closed it.
            raise LogTaken("Another worker has closed this step's log; nothing is lost.") from error
        if composed.size_bytes != ending.size_bytes:
            raise LogTaken("Another worker went on with this step's log; nothing is lost.")
        return parts

    async def _durable(self, step_id: UUID, size_bytes: int) -> AsyncIterator[bytes]:
        offset = 0
        while offset < size_bytes:
            async with self.database.transaction() as session:
                plan = await read_plan(session, step_id, offset, min(OBJECT_BYTES, size_bytes - offset))
            for piece in plan.pieces:
                if piece.data is not None:
                    yield piece.data
                elif piece.object_key is not None:
                    try:
                        async for chunk in self.objects.stream(
                            piece.object_key, offset=piece.object_offset, size_bytes=piece.size_bytes
                        ):
                            yield chunk
                    except NotFound as error:
                        raise LogTaken("Another worker has closed this step's log; nothing is lost.") from error
                offset += piece.size_bytes
