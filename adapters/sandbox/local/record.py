"""What is on disk about one sandbox, and what it means.

    begun    made once by ``link(2)``, by the supervisor or by whoever decides that nothing will run
    journal  JSON lines of the supervisor, and locked by it for as long as it lives (POSIX lock: ``F_GETLK`` names its
             pid): ``processes``, whom to look for if it dies; ``result``, how it ended; or ``failure``, why it gave up
    log      output, as written

Without ``begun`` nothing ran. With ``begun`` but neither a result nor a holder of the lock, the sandbox is lost. Few
files, because some file systems (ext4 without its journal) make new ones the slower, the more were just removed.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import struct
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from adapters.sandbox.base import SandboxOutcome
from adapters.sandbox.local.order import process_title
from adapters.sandbox.supervisor.files import process_identity
from adapters.sandbox.supervisor.tree import is_zombie, titled_pids

FLOCK = struct.Struct("@hhqqi4x")
"""``struct flock`` of Linux on 64 bits: type, whence, start, length, pid (fcntl(2))."""


class Record:
    """The directory of one sandbox; it need not exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def log(self) -> Path:
        """The file with the output."""
        return self.directory / "log"

    def begun(self) -> dict[str, Any] | None:
        """The record of the beginning, or ``None``: nothing ran."""
        try:
            text = (self.directory / "begun").read_text()
        except FileNotFoundError:
            return None
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            # Only a power cut leaves a torn file here, for everybody links a whole one.
            return {}
        return found

    def result(self) -> SandboxOutcome | None:
        """How it ended, if that is recorded.

        A result that survived a power cut while the log did not is none: the outcome would point at missing output.
        """
        found = self._journal().get("result")
        if found is None:
            return None
        outcome = SandboxOutcome.model_validate(found)
        return outcome if outcome.log_size_bytes <= self.log_size_bytes() else None

    def _journal(self) -> dict[str, Any]:
        """What the supervisor has written so far; without a line that a power cut tore."""
        entries: dict[str, Any] = {}
        try:
            lines = (self.directory / "journal").read_bytes().splitlines()
        except FileNotFoundError:
            return entries
        for line in lines:
            with contextlib.suppress(ValueError):
                entries |= json.loads(line)
        return entries

    def log_size_bytes(self) -> int:
        """The present length of the log."""
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def holder(self) -> int | None:
        """The pid of the living supervisor; ``None`` if there is none, 0 if it lives in another pid namespace."""
        try:
            fd = os.open(self.directory / "journal", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        finally:
            os.close(fd)
        return None if kind == fcntl.F_UNLCK else max(pid, 0)

    def holder_pidfd(self) -> int | None:
        """A descriptor of the living supervisor, to be closed by the caller; ``None`` if it is gone or elsewhere."""
        pid = self.holder()
        if not pid:
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        if self.holder() == pid:
            return pidfd
        # It ended in between, and the pid may be another's by now.
        os.close(pidfd)
        return None

    def decide(self, *, now: datetime, killed: bool = False, start_error: str | None = None) -> bool:
        """Records that nothing will ever run here, and why; False if the sandbox had begun (or was decided) before."""
        outcome = SandboxOutcome(started_at=now, ended_at=now, killed=killed, start_error=start_error)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.directory / f"begun.{uuid4()}"
        draft.write_text(json.dumps({"outcome": outcome.model_dump(mode="json")}))
        try:
            os.link(draft, self.directory / "begun")
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def survivors(self) -> list[int]:
        """Processes of the sandbox that run although its supervisor is gone.

        Three ways to find them, for each moment at which the supervisor may have died: the recorded processes (alive
        until the last one of their namespace is gone), bubblewrap by its title (it may wait for a parent that is no
        more), and the members of the control groups. A supervisor that lived to write its result has seen the end of
        bubblewrap, and looking through every process of the host is spared.
        """
        journal = self._journal()
        identities = ((int(identity.split()[0]), identity) for identity in journal.get("processes", ()))
        found = {pid for pid, identity in identities if process_identity(pid) == identity and not is_zombie(pid)}
        if "result" not in journal:
            found.update(titled_pids(process_title(self.directory.name)))
        for directory in self._cgroups():
            with contextlib.suppress(FileNotFoundError):
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return sorted(found)

    def _cgroups(self) -> list[Path]:
        return [Path(directory) for directory in (self.begun() or {}).get("cgroups", [])]

    def clear(self) -> bool:
        """Kills what outlived the supervisor and removes its groups; True once nothing is left."""
        survivors = self.survivors()
        for pid in survivors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if survivors and self.survivors():
            return False
        for directory in self._cgroups():
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                # The kernel lets go of a task a moment after everyone else has seen its end.
                if error.errno != errno.EBUSY:
                    raise
                return False
        return True

    def failure(self) -> str | None:
        """What the supervisor said when it gave up."""
        failure: str | None = self._journal().get("failure")
        return failure
