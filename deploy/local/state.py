"""The state directory: where it is, who runs in it, and what runs for them."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from deploy.local.identity import ProcessIdentity
from deploy.local.private_files import private_directory, write_private

HOME_VARIABLE = "PERDURE_HOME"
STATE_VARIABLE = "PERDURE_STATE_DIRECTORY"
"""Set in every child, so that one whose record was cut off is recognised on its port."""


class AlreadyRunning(Exception):
    """Another supervisor works in this state directory."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        who = f"pid {pid}" if pid else "a process that starts or stops just now"
        super().__init__(
            f"Perdure already runs in {directory} ({who}). Nothing was changed. "
            "See it with `perdure status`, stop it with `perdure down`."
        )
        self.pid = pid


@dataclass
class PartRecord:
    """What is known of one part, for ``status`` and for the next start.

    Attributes:
        state: ``starting``, ``ready``, ``restarting``, ``stopped`` or ``external``.
        identity: Its present or last process.
        restarts: How often it died alone since ``perdure up``.
        last_end: How it last ended, for people.
        stop_signal: The number of the signal that begins its orderly stop.
    """

    name: str
    address: str = ""
    ports: list[int] = field(default_factory=list)
    state: str = "starting"
    identity: ProcessIdentity | None = None
    restarts: int = 0
    last_end: str | None = None
    stop_signal: int = 15
    stop_timeout_seconds: float = 10.0


@dataclass
class RunRecord:
    """One run of the supervisor, in the order in which parts were started."""

    supervisor: ProcessIdentity | None
    parts: list[PartRecord] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The record in ``path``; ``None`` if nothing ever ran here."""
        if not path.exists():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        parts = [
            PartRecord(**{**part, "identity": _identity(part["identity"])})  # a stored part has exactly these fields
            for part in stored["parts"]
        ]
        return cls(_identity(stored["supervisor"]), parts)

    def save(self, path: Path) -> None:
        """Replaces the record in ``path``."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")


def _identity(stored: dict[str, int | str] | None) -> ProcessIdentity | None:
    if stored is None:
        return None
    return ProcessIdentity(int(stored["pid"]), int(stored["start_ticks"]), str(stored["boot_id"]))


class StateDirectory:
    """``.perdure/``: data of the servers, credentials, logs, and who runs it. Mode 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.record_path = self.path / "run.json"
        self.logs = self.path / "logs"

    @classmethod
    def of_this_process(cls) -> Self:
        """``PERDURE_HOME``, else ``.perdure`` in the current directory."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or ".perdure"))

    def make(self) -> None:
        """Makes it, private."""
        private_directory(self.path)
        private_directory(self.logs)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the directory for this process; the kernel lets go when the process ends, however it ends.

        Raises:
            AlreadyRunning: Another process holds it.
        """
        self.make()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip()
                raise AlreadyRunning(self.path, int(holder) if holder.isdigit() else None) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def supervisor_pid(self) -> int | None:
        """The process that holds the lock now, if any does."""
        if not (self.path / "lock").exists():
            return None
        try:
            with self.lock():
                return None
        except AlreadyRunning as running:
            return running.pid
