"""Sandboxes on this host: bubblewrap under a supervisor that outlives the worker.

    root/runs/<run id>/workspace/            what the steps of a run share
    root/runs/<run id>/handed_over           the workspace is the steps'
    root/runs/<run id>/killed                no step of this run starts any more
    root/runs/<run id>/sandboxes/<id>        (empty) which sandboxes belong to the run
    root/sandboxes/<id>/                     the record of one sandbox: see ``record.py``
    root/system/<fingerprint>/               what steps see of the host's /etc: see ``system.py``
    root/mark                                (empty) what the three empty files are links of, so that none is made

The order of writes is what makes ``kill_run`` complete: a start first names its sandbox below the run and then looks
for ``killed``; ``kill_run`` first writes ``killed`` and then reads the names. One of the two sees the other.
"""

import asyncio
import contextlib
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from adapters.sandbox.base import Protection, SandboxOutcome, SandboxSpec, SandboxState
from adapters.sandbox.local import workspaces
from adapters.sandbox.local.host import Host, protections
from adapters.sandbox.local.order import ETC_FILES, make_order, problem_with
from adapters.sandbox.local.record import Record
from adapters.sandbox.local.spawn import read_word, spawn
from adapters.sandbox.local.system import ETC, SystemFiles
from adapters.sandbox.local.trial import examine
from adapters.sandbox.supervisor.tree import kill_marked
from adapters.threads import run_in_thread
from domain.errors import InvalidInput, NotFound, Unavailable

SANDBOX_UID = 61000
"""Steps run as this user where the worker is root: in no range that Debian gives to people or services."""

POLL_SECONDS_FIRST = 0.005
POLL_SECONDS_MAX = 0.1
POLL_GROWTH = 1.3
TERMINATE_SECONDS = 5.0
KILL_SECONDS_MAX = 20.0
REMOVED_PREFIX = "removed-"
TOMBSTONE_SECONDS = 7 * 24 * 3600.0
"""How long the record of a kill that came before its start is kept, when the start never came."""


class LocalSandboxes:
    """Implements ``adapters.sandbox.base.Sandboxes`` with the namespaces of this host.

    Any number of objects, in any number of processes, may share one ``root``.

    Args:
        root: Where workspaces, records and logs are kept; made with mode 0700.
        allow_unisolated: Run steps without isolation where the host gives none, instead of refusing to start them.
        read_only_paths: Further parts of the host that steps may read (a toolchain in ``/opt``).
        host: What the host gives; found out by a trial if not given.
    """

    runs_images = False

    def __init__(
        self,
        root: Path,
        *,
        allow_unisolated: bool = False,
        read_only_paths: tuple[Path, ...] = (),
        host: Host | None = None,
    ) -> None:
        self.root = root.resolve()
        self._runs = self.root / "runs"
        self._sandboxes = self.root / "sandboxes"
        for directory in (self.root, self._runs, self._sandboxes):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark = self.root / "mark"
        self._mark.touch(mode=0o600)
        self._allow_unisolated = allow_unisolated
        below_etc = [path for path in read_only_paths if path.is_relative_to(ETC)]
        self._read_only_paths = [path for path in read_only_paths if path not in below_etc]
        self._system = SystemFiles(self.root / "system", ETC_FILES, below_etc)
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._endings: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._host = host or examine(self.root / f"trial-{os.getpid()}", self._system.path, SANDBOX_UID)
        self._forget_leftovers()

    def protections(self) -> list[Protection]:
        """What this host enforces and what it cannot."""
        return protections(self._host)

    # ---- workspaces ------------------------------------------------------------------------------------------------

    def workspace_path(self, run_id: UUID) -> Path:
        """Where the workspace of a run is; it need not exist."""
        return self._runs / str(run_id) / "workspace"

    async def create_workspace(self, run_id: UUID) -> Path:
        """Makes an empty workspace, unless it was handed over: then it is left as it is."""
        path = self.workspace_path(run_id)
        if not await self.workspace_ready(run_id):
            await run_in_thread(workspaces.create_empty, path)
        return path

    async def workspace_ready(self, run_id: UUID) -> bool:
        """Whether the workspace was handed over already."""
        return self._exists(self._runs / str(run_id) / "handed_over")

    async def hand_over_workspace(self, run_id: UUID) -> None:
        """Gives the filled workspace to the sandboxes.

        Raises:
            NotFound: There is no workspace.
        """
        path = self.workspace_path(run_id)
        if await self.workspace_ready(run_id):
            return
        if not self._exists(path):
            raise NotFound(f"run {run_id} has no workspace to hand over: it was never made, or its run was cleaned up")
        await run_in_thread(workspaces.hand_over, path, self._host.uid)
        self._make_mark(path.parent / "handed_over")

    # ---- the life of a sandbox -------------------------------------------------------------------------------------

    async def start(self, spec: SandboxSpec) -> None:
        """Starts a sandbox, at most once ever; returns when its beginning is recorded.

        What is wrong with the spec or the host is recorded as its outcome (``start_error``).

        Raises:
            Unavailable: Nothing could be recorded (a full disk, no process to be had); nothing ran, try again.
        """
        record = self._record(spec.id)
        if record.begun() is not None:
            return
        run = self._runs / str(spec.run_id)
        try:
            (run / "sandboxes").mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_mark(run / "sandboxes" / spec.id)
            record.directory.mkdir(mode=0o700, exist_ok=True)
            if self._exists(run / "killed"):
                record.decide(now=datetime.now(UTC), killed=True)
                return
            refusal = self._refusal(spec)
            if refusal is not None:
                record.decide(now=datetime.now(UTC), start_error=refusal)
                return
            if self._system.is_due():
                await run_in_thread(self._system.renew)
            word = spawn(self._order(spec, record))
        except OSError as error:
            raise Unavailable(
                f"sandbox {spec.id} could not be started: {error}; nothing ran", neighbour="sandbox"
            ) from error
        await self._await_begun(record, await read_word(word))

    def _order(self, spec: SandboxSpec, record: Record) -> dict[str, object]:
        return make_order(
            spec,
            self._host,
            directory=record.directory,
            workspace=self.workspace_path(spec.run_id),
            system=self._system.path,
            read_only_paths=self._read_only_paths,
            boot_id=self._boot_id,
        )

    def _refusal(self, spec: SandboxSpec) -> str | None:
        problem = problem_with(spec)
        if problem is not None:
            return problem
        if not self._exists(self._runs / str(spec.run_id) / "handed_over"):
            return f"run {spec.run_id} has no workspace: it was never handed over, or the run was cleaned up already"
        if self._host.bwrap is None and not self._allow_unisolated:
            return (
                f"this host cannot isolate a step, so none is run: {self._host.problem}. "
                "To run steps without isolation all the same, allow it explicitly (allow_unisolated)"
            )
        return None

    async def _await_begun(self, record: Record, word: str) -> None:
        """Returns once the decision stands, which our supervisor or another one's starter has made."""
        if record.begun() is None:
            name = record.directory.name
            said = f": {word}" if word else ""
            raise Unavailable(
                f"the supervisor of sandbox {name} ended before it began{said}; nothing ran, start it again",
                neighbour="sandbox",
            )

    async def inspect(self, sandbox_id: str) -> SandboxState:
        """Where the sandbox stands now."""
        record = self._record(sandbox_id)
        state = self._look(record)
        if state.phase == "lost":
            await self._end_survivors(record)
        return state

    def _look(self, record: Record) -> SandboxState:
        outcome = record.result()
        if outcome is not None:
            return SandboxState(phase="ended", outcome=outcome)
        begun = record.begun()
        if begun is None:
            return SandboxState(phase="absent")
        if "outcome" in begun:
            return SandboxState(phase="ended", outcome=SandboxOutcome.model_validate(begun["outcome"]))
        if record.holder() is not None:
            return SandboxState(phase="running")
        # The result is written before the lock is given back: now that the lock is free, this look is the last word.
        outcome = record.result()
        if outcome is not None:
            return SandboxState(phase="ended", outcome=outcome)
        if begun.get("boot_id") != self._boot_id:
            reason = "the host was restarted while the sandbox ran"
        else:
            reason = record.failure() or "its supervisor was killed"
        return SandboxState(phase="lost", reason=reason)

    async def _end_survivors(self, record: Record) -> None:
        """Makes sure that nothing runs of a sandbox whose supervisor is gone."""
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while not record.clear():
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"processes {record.survivors()} of sandbox {record.directory.name} do not end although they were "
                    "killed; look at what they wait for (/proc/<pid>/stack)",
                    neighbour="sandbox",
                )
            await asyncio.sleep(POLL_SECONDS_FIRST)
        if self._host.bwrap is None:
            await asyncio.to_thread(kill_marked, f"PERDURE_SANDBOX={record.directory.name}")

    async def wait(self, sandbox_id: str, *, log_offset: int, timeout_seconds: float) -> SandboxState:
        """Waits until it ended, is lost, or its log is longer than ``log_offset``; at most ``timeout_seconds``."""
        record = self._record(sandbox_id)
        deadline = time.monotonic() + timeout_seconds
        pause = POLL_SECONDS_FIRST
        pidfd: int | None = None
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        state = await self.inspect(sandbox_id)
        try:
            while True:
                left = deadline - time.monotonic()
                if state.phase in ("ended", "lost") or record.log_size_bytes() > log_offset or left <= 0:
                    return state
                if pidfd is None:
                    pidfd = record.holder_pidfd()
                    if pidfd is not None:
                        loop.add_reader(pidfd, ended.set)
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: before Python 3.12 it can lose a cancellation that comes with the wake-up.
                    async with asyncio.timeout(min(pause, left)):
                        await ended.wait()
                # A living supervisor tells its end itself; until then only the log has to be looked at.
                if pidfd is not None and ended.is_set():
                    loop.remove_reader(pidfd)
                    os.close(pidfd)
                    pidfd = None
                    ended.clear()
                if pidfd is None:
                    state = await self.inspect(sandbox_id)
                pause = min(pause * POLL_GROWTH, POLL_SECONDS_MAX)
        finally:
            if pidfd is not None:
                loop.remove_reader(pidfd)
                os.close(pidfd)

    async def read_log(self, sandbox_id: str, *, offset: int, size_bytes_max: int) -> bytes:
        """Output from ``offset``; empty at the present end, and for a sandbox without a log."""
        record = self._record(sandbox_id)
        if record.log_size_bytes() <= offset:
            return b""
        return await run_in_thread(self._read_log, record, offset, size_bytes_max)

    @staticmethod
    def _read_log(record: Record, offset: int, size_bytes_max: int) -> bytes:
        try:
            fd = os.open(record.log, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, size_bytes_max, offset)
        finally:
            os.close(fd)

    async def kill(self, sandbox_id: str) -> None:
        """Ends everything in the sandbox; what never started never will.

        Raises:
            Unavailable: Something does not end although it was killed.
        """
        record = self._record(sandbox_id)
        if record.begun() is None and record.decide(now=datetime.now(UTC), killed=True):
            return
        started = time.monotonic()
        while (await self.inspect(sandbox_id)).phase == "running":
            waited = time.monotonic() - started
            if waited > KILL_SECONDS_MAX:
                raise Unavailable(
                    f"sandbox {sandbox_id} does not end although it was killed {waited:.0f} s ago", neighbour="sandbox"
                )
            pidfd = record.holder_pidfd()
            if pidfd is None:
                await asyncio.sleep(POLL_SECONDS_FIRST)
                continue
            try:
                # A supervisor that does not answer is killed itself; its sandbox goes with it, and is lost.
                number = signal.SIGTERM if waited < TERMINATE_SECONDS else signal.SIGKILL
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
                await self._readable(pidfd, TERMINATE_SECONDS)
            finally:
                os.close(pidfd)

    @staticmethod
    async def _readable(fd: int, timeout_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await ready.wait()
        finally:
            loop.remove_reader(fd)

    # ---- the end of a run ------------------------------------------------------------------------------------------

    async def kill_run(self, run_id: UUID) -> None:
        """Kills every sandbox of the run, and every one that is started later."""
        async with self._ending(run_id):
            await self._kill_run(run_id)

    def _ending(self, run_id: UUID) -> asyncio.Lock:
        """One at a time ends a run: a second one would record sandboxes as killed that the first has just removed."""
        return self._endings.setdefault(run_id, asyncio.Lock())

    async def _kill_run(self, run_id: UUID) -> None:
        run = self._runs / str(run_id)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_mark(run / "killed")
        await asyncio.gather(*(self.kill(sandbox_id) for sandbox_id in self._names(run / "sandboxes")))

    async def is_run_killed(self, run_id: UUID) -> bool:
        """Whether ``kill_run`` was called."""
        return self._exists(self._runs / str(run_id) / "killed")

    async def destroy_run(self, run_id: UUID) -> None:
        """Kills what runs and removes everything of the run; a start that comes later finds no workspace."""
        async with self._ending(run_id):
            await self._destroy_run(run_id)

    async def _destroy_run(self, run_id: UUID) -> None:
        run = self._runs / str(run_id)
        if not self._exists(run):
            return
        await self._kill_run(run_id)
        records = [self._record(sandbox_id) for sandbox_id in self._names(run / "sandboxes")]
        for record in records:
            await self._end_survivors(record)
        await run_in_thread(self._remove_run, run, records)

    async def run_ids(self) -> list[UUID]:
        """Every run that has a workspace or a record here."""
        return [UUID(name) for name in self._names(self._runs)]

    # ---- files ----------------------------------------------------------------------------------------------------

    def _record(self, sandbox_id: str) -> Record:
        if "/" in sandbox_id or sandbox_id in ("", ".", ".."):
            raise InvalidInput(f"{sandbox_id!r} is not the id of a sandbox")
        return Record(self._sandboxes / sandbox_id)

    def _remove_run(self, run: Path, records: list[Record]) -> None:
        """Removes the directory of the run last: it tells which records are still to be removed."""
        for record in records:
            self._remove_record(record)
        workspaces.remove(run)

    def _remove_record(self, record: Record) -> None:
        """Removes a record under another name, so that a supervisor on its way up cannot begin in half of it."""
        removed = self._sandboxes / f"{REMOVED_PREFIX}{uuid4()}"
        with contextlib.suppress(FileNotFoundError):
            record.directory.rename(removed)
            # Only supervisors write here, and only files: it needs none of the care that a workspace needs.
            for file in removed.iterdir():
                file.unlink()
            removed.rmdir()

    @staticmethod
    def _names(directory: Path) -> list[str]:
        try:
            return sorted(entry.name for entry in directory.iterdir())
        except FileNotFoundError:
            return []

    @staticmethod
    def _exists(path: Path) -> bool:
        return path.exists()

    def _make_mark(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(self._mark)

    def _forget_leftovers(self) -> None:
        now = datetime.now(UTC).timestamp()
        names = self._names(self._sandboxes)
        if all(self._record(name).holder() is None for name in names):
            self._system.forget_old()
        for name in names:
            record = self._record(name)
            if name.startswith(REMOVED_PREFIX):
                workspaces.remove(record.directory)
                continue
            begun = record.begun()
            if begun is None or "outcome" not in begun or not begun["outcome"]["killed"]:
                continue
            if now - (record.directory / "begun").stat().st_mtime > TOMBSTONE_SECONDS:
                workspaces.remove(record.directory)
