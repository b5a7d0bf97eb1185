"""Naming a process so that the name is never taken over by another one.

Process ids are reused. A pid together with the boot and the kernel's start time of the process is not.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_STATE, _START_TICKS = 0, 19
"""Positions in ``/proc/PID/stat`` after the program's name, see proc(5)."""


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, now and for ever.

    Attributes:
        start_ticks: Clock ticks from boot to its start (proc(5), ``starttime``): no clock change moves it.
    """

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has ``pid`` now; ``None`` if there is none, or only its unread exit code."""
        fields = _stat(pid)
        if fields is None or fields[_STATE] in "ZX":
            return None
        return cls(pid, int(fields[_START_TICKS]), boot_id())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self

    def send(self, wanted: signal.Signals) -> None:
        """Sends a signal to it if it still runs; a process that took over its pid gets nothing."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor holds whoever has the pid now; only then is it compared, so nobody can slip in between.
            if self.alive:
                signal.pidfd_send_signal(descriptor, wanted)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    def stop(self, stop_signal: signal.Signals, *, timeout_seconds: float) -> bool:
        """Asks it to end and waits, then SIGKILL.

        Returns:
            Whether it ended by itself within ``timeout_seconds``.
        """
        self.send(stop_signal)
        if self._ended_within(timeout_seconds):
            return True
        self.send(signal.SIGKILL)
        self._ended_within(5)
        return False

    def stop_with_group(self, stop_signal: signal.Signals, *, timeout_seconds: float) -> None:
        """``stop`` for the leader of a process group, then SIGKILL for what is left of the group."""
        if not self.alive:
            return
        self.stop(stop_signal, timeout_seconds=timeout_seconds)
        # While it has members, the group's number cannot become another's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _ended_within(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def boot_id() -> str:
    """The kernel's name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def environment_value(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with; ``None`` if unset or not ours to read."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{name}=".encode()
    for entry in block.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()
