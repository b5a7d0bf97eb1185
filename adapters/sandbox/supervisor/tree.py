"""What a sandbox uses, where the host has no cgroups for it: read from ``/proc`` now and then."""

import os
import time

from adapters.sandbox.supervisor import signals
from adapters.sandbox.supervisor.files import number_after, read_text


class Tree:
    """The processes of a sandbox without cgroups, read from ``/proc`` now and then."""

    def __init__(self, root_pid: int) -> None:
        self.root_pid = root_pid

    def pids(self) -> list[int]:
        """Every descendant; orphans stay below the sandbox's own init, so none is missed."""
        found = [self.root_pid]
        for pid in found:  # grows while it is walked: breadth first
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for thread in threads:
                found += map(int, read_text(f"/proc/{pid}/task/{thread}/children").split())
        return found

    def memory_bytes(self, limit_bytes: int) -> int:
        """Anonymous and shared memory in use, in bytes.

        Pages shared after a fork are counted once per process; only if that sum is over the limit the exact but slow
        proportional size is read.
        """
        pids = self.pids()
        rough = sum(self._status_bytes(pid) for pid in pids)
        if rough <= limit_bytes:
            return rough
        exact = 0
        for pid in pids:
            text = read_text(f"/proc/{pid}/smaps_rollup")
            anonymous, shared = number_after(text, "Pss_Anon:"), number_after(text, "Pss_Shmem:")
            exact += self._status_bytes(pid) if anonymous is None else (anonymous + (shared or 0)) * 1024
        return exact

    @staticmethod
    def _status_bytes(pid: int) -> int:
        text = read_text(f"/proc/{pid}/status")
        return ((number_after(text, "RssAnon:") or 0) + (number_after(text, "RssShmem:") or 0)) * 1024

    def cpu_seconds(self) -> float:
        """Processor time of the living processes and of their children that were waited for."""
        ticks = 0
        for pid in self.pids():
            fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def titled_pids(title: str) -> list[int]:
    """Processes whose first argument is ``title``."""
    wanted = title.encode() + b"\0"
    return [pid for pid, content in _everyone("cmdline") if content.startswith(wanted)]


def marked_pids(marker: str) -> list[int]:
    """Processes that carry ``marker`` (``NAME=value``) in the environment that they were started with."""
    wanted = b"\0" + marker.encode() + b"\0"
    return [pid for pid, content in _everyone("environ") if wanted in b"\0" + content]


def _everyone(name: str) -> list[tuple[int, bytes]]:
    """A file of every process that lets us read it."""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found.append((int(pid), os.read(fd, 1 << 20)))
        except OSError:
            continue
        finally:
            os.close(fd)
    return found


def kill_marked(marker: str) -> None:
    """Kills what runs without isolation, until nothing that carries the marker is left."""
    while pids := [pid for pid in marked_pids(marker) if not is_zombie(pid)]:
        for pid in pids:
            signals.kill_pid(pid)
        time.sleep(0.002)


def is_zombie(pid: int) -> bool:
    """Whether it has ended and only waits to be reaped."""
    return read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"], ["X"])
