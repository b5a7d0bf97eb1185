"""Brings the output of sandboxes into the durable log while a step runs, and closes the log at its end (promise D2).

The worker remembers nothing: where to go on is in the step's row, and each append is a compare-and-set on it
(``database.store.pipelines.logs``). Small output becomes rows, a backlog becomes objects, the end becomes one object.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from activities.pipelines.log_archive import OBJECT_BYTES, FinishedLog, LogArchive, LogEnding
from activities.pipelines.masking import Masker, NothingToMask
from adapters.bus.base import Bus, run_channel
from adapters.objects.base import PART_SIZE_BYTES_MIN, Objects
from adapters.sandbox.base import SandboxState
from database.engine import Database
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.logs import (
    LogPosition,
    LogTaken,
    append_object,
    append_rows,
    left_open,
    log_position,
)

# A short step prints and ends within this time; then its log is written once, by ``finish``.
FIRST_DELAY_SECONDS = 0.01
# Small writes are collected for so long: ten transactions a second per step at most.
DELAY_SECONDS = 0.1
# More than this in one go waits a little longer, to become an object instead of many rows.
ROWS_BYTES_MAX = 1024**2
BACKLOG_DELAY_SECONDS = 1.0
# No log is this long, so a wait for it is a wait for the sandbox's end.
_NEVER = 2**62


class SandboxOutput(Protocol):
    """The part of ``Sandboxes`` that a pump needs."""

    async def wait(self, sandbox_id: str, *, log_offset: int, timeout_seconds: float) -> SandboxState:
        """See ``Sandboxes.wait``."""
        ...

    async def read_log(self, sandbox_id: str, *, offset: int, size_bytes_max: int) -> bytes:
        """See ``Sandboxes.read_log``."""
        ...


class LogPump:
    """Moves the output of one attempt. Made by ``LogPumps.attach``; used by one task."""

    def __init__(
        self,
        pumps: "LogPumps",
        *,
        run: Pipeline,
        step_id: UUID,
        sandbox_id: str,
        at: LogPosition,
        digest: "hashlib._Hash | None",
    ) -> None:
        self._pumps = pumps
        self._run = run
        self._step_id = step_id
        self._sandbox_id = sandbox_id
        self._at = at
        # Of all that is durable; ``None`` where that is too much to read again now.
        self._digest = digest
        self._masker = pumps.masker()
        self._read_offset = at.sandbox_offset
        self._next_commit = 0.0

    @property
    def sandbox_offset(self) -> int:
        """How much of the sandbox's output was taken: whoever wants to wait for more waits for more than this."""
        return self._read_offset

    async def advance(self) -> None:
        """Makes durable what the sandbox has written; collects small writes for a moment before.

        Returns at once, with nothing done, when the sandbox ends meanwhile: what is left belongs to ``finish``.

        Raises:
            LogTaken: Another worker goes on with this log.
            Unavailable: A store is away. Nothing is lost: the sandbox keeps its output, and any pump goes on there.
        """
        soon = asyncio.get_running_loop().time() + FIRST_DELAY_SECONDS
        if await self._sandbox_ends_before(max(self._next_commit, soon)) or await self._backlog_grows():
            return
        await self._commit_rows(self._fed(await self._move_backlog()), sandbox_offset=self._durable_offset)
        await self._fold()

    async def drain(self) -> None:
        """Makes everything durable that an ended sandbox has written, while the log itself goes on.

        Raises:
            LogTaken: Another worker goes on with this log.
            Unavailable: A store is away.
        """
        rest = self._fed(await self._move_backlog()) + self._masker.flush()
        await self._commit_rows(rest, sandbox_offset=self._read_offset)
        await self._fold()

    async def finish(self, notes: Sequence[str] = ()) -> FinishedLog:
        """Stores the whole log of an ended step as one object.

        Until ``record`` of the answer is committed, nothing has changed for readers, and all of it can be repeated.

        Args:
            notes: What the platform has to say at the end, a line each.

        Raises:
            LogTaken: Another worker goes on with this log.
            Unavailable: A store is away.
        """
        try:
            return await self._finish(notes)
        except BaseException:
            self._go_back()
            raise

    async def _finish(self, notes: Sequence[str]) -> FinishedLog:
        rest = self._fed(await self._move_backlog()) + self._masker.flush()
        tail = await self._pumps.archive.tail(self._step_id, self._at)
        if notes:
            ends_open = bool(rest or tail) and not (rest or tail).endswith(b"\n")
            lines = "".join(f"\x1b[2m{note}\x1b[0m\n" for note in notes)
            rest += b"\n" * ends_open + lines.encode()
        if self._digest is None:
            digest = await self._pumps.archive.digest(self._step_id, self._at.size_bytes)
        else:
            digest = self._digest.copy()
        digest.update(rest)
        return await self._pumps.archive.close(
            LogEnding(
                project_id=self._run.project_id,
                run_id=self._run.id,
                step_id=self._step_id,
                at=self._at,
                sandbox_offset=self._read_offset,
                tail=tail + rest,
                added_bytes=len(rest),
                sha256=digest.hexdigest(),
            )
        )

    async def _sandbox_ends_before(self, moment: float) -> bool:
        delay = moment - asyncio.get_running_loop().time()
        if delay <= 0:
            return False
        state = await self._pumps.sandboxes.wait(self._sandbox_id, log_offset=_NEVER, timeout_seconds=delay)
        return state.phase in ("ended", "lost")

    async def _backlog_grows(self) -> bool:
        """Waits while a backlog that is large for rows becomes large enough for an object.

        Returns:
            Whether the sandbox ended meanwhile.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + BACKLOG_DELAY_SECONDS
        while await self._is_written(ROWS_BYTES_MAX) and not await self._is_written(OBJECT_BYTES):
            if loop.time() >= limit:
                return False
            if await self._sandbox_ends_before(loop.time() + DELAY_SECONDS):
                return True
        return False

    async def _is_written(self, size_bytes: int) -> bool:
        """Whether the sandbox has written at least so much more."""
        offset = self._read_offset + size_bytes - 1
        return bool(await self._pumps.sandboxes.read_log(self._sandbox_id, offset=offset, size_bytes_max=1))

    async def _move_backlog(self) -> bytes:
        """Makes objects of what is written while it is enough for one, and returns the raw rest, not fed yet."""
        while await self._is_written(OBJECT_BYTES):
            async with self._pumps.large:
                data = self._fed(await self._read())
                if len(data) < PART_SIZE_BYTES_MIN:  # Masking left little of it.
                    await self._commit_rows(data, sandbox_offset=self._durable_offset)
                else:
                    await self._commit_object(data)
        return await self._read()

    async def _read(self) -> bytes:
        """The next raw output, as much as an object takes, or up to the present end."""
        data = bytearray()
        while len(data) < OBJECT_BYTES:
            more = await self._pumps.sandboxes.read_log(
                self._sandbox_id, offset=self._read_offset + len(data), size_bytes_max=OBJECT_BYTES - len(data)
            )
            if not more:
                break
            if len(more) == OBJECT_BYTES:
                return more
            data += more
        return bytes(data)

    def _fed(self, raw: bytes) -> bytes:
        self._read_offset += len(raw)
        return self._masker.feed(raw)

    async def _commit_object(self, data: bytes) -> None:
        """Appends an object of the tail, which it absorbs, and of ``data``."""
        try:
            tail = await self._pumps.archive.tail(self._step_id, self._at)
            key = await self._pumps.archive.put_segment(self._step_id, self._at.tail_offset, tail + data)
            async with self._pumps.database.transaction() as session:
                at = await append_object(
                    session,
                    self._step_id,
                    self._at,
                    added_bytes=len(data),
                    sandbox_offset=self._durable_offset,
                    object_key=key,
                )
        except BaseException:
            self._go_back()
            raise
        await self._committed(at, data)

    async def _commit_rows(self, data: bytes, *, sandbox_offset: int) -> None:
        if sandbox_offset == self._at.sandbox_offset and not data:
            return
        try:
            async with self._pumps.database.transaction() as session:
                at = await append_rows(session, self._step_id, self._at, data, sandbox_offset=sandbox_offset)
        except BaseException:
            self._go_back()
            raise
        await self._committed(at, data)

    async def _fold(self) -> None:
        if self._at.size_bytes - self._at.tail_offset >= PART_SIZE_BYTES_MIN:
            async with self._pumps.large:
                await self._commit_object(b"")

    @property
    def _durable_offset(self) -> int:
        return self._read_offset - self._masker.held_bytes

    def _go_back(self) -> None:
        """Nobody knows how far the commit came: reads and masks again from the last certain place.

        If it did come through, the next append finds the log elsewhere and raises ``LogTaken``; attach anew then.
        """
        self._masker = self._pumps.masker()
        self._read_offset = self._at.sandbox_offset

    async def _committed(self, at: LogPosition, data: bytes) -> None:
        self._at = at
        self._next_commit = asyncio.get_running_loop().time() + DELAY_SECONDS
        if self._digest is not None and data:
            await asyncio.to_thread(self._digest.update, data)
        await self._pumps.bus.publish(run_channel(self._run.id))


@dataclass(frozen=True)
class LogPumps:
    """What every pump works with.

    Attributes:
        masker: Makes the masker of one attempt.
        large: So many pieces of ``OBJECT_BYTES`` are in memory at once, over all steps.
    """

    database: Database
    objects: Objects
    bus: Bus
    sandboxes: SandboxOutput
    masker: Callable[[], Masker] = NothingToMask
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    @property
    def archive(self) -> LogArchive:
        """Where the bytes go that are too many for rows, and the whole in the end."""
        return LogArchive(self.database, self.objects)

    async def attach(
        self, run: Pipeline, step_id: UUID, attempt: int, sandbox_id: str, *, at: LogPosition | None = None
    ) -> LogPump:
        """Goes on where the log of the step ends, whoever wrote it so far.

        Args:
            at: Where that is, if the caller has just read it.

        Raises:
            LogTaken: The step is at another attempt, or its log is closed.
        """
        if at is None:
            async with self.database.transaction() as session:
                at = await log_position(session, step_id)
        if at.attempt != attempt or at.is_closed:
            raise LogTaken("This attempt of the step is over; another worker goes on with it.")
        digest = await self.archive.digest(step_id, at.size_bytes) if at.size_bytes <= ROWS_BYTES_MAX else None
        return LogPump(self, run=run, step_id=step_id, sandbox_id=sandbox_id, at=at, digest=digest)

    async def compact(self, step: PipelineStep) -> None:
        """Closes the log of a step with what is durable of it: for a step that could not do so itself.

        Raises:
            Unavailable: A store is away.
        """
        async with self.database.transaction() as session:
            at = await log_position(session, step.id)
        if at.is_closed:
            return
        finished = await self.archive.close_durable(step, at)
        async with self.database.transaction() as session:
            await finished.record(session)
        await finished.clean_up()

    async def compact_left_open(self, *, older_than_seconds: float = 600, limit: int = 100) -> None:
        """Closes the logs of steps that ended some time ago without doing so."""
        async with self.database.transaction() as session:
            steps = await left_open(session, older_than_seconds=older_than_seconds, limit=limit)
        for step in steps:
            await self.compact(step)


__all__ = ["OBJECT_BYTES", "FinishedLog", "LogPump", "LogPumps", "LogTaken"]
