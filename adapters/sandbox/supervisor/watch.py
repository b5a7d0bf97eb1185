"""From the open gate to the recorded end: output into the log, limits, kill requests, and how it went."""

import contextlib
import os
import select
import time
from typing import Any

from adapters.sandbox.supervisor import signals
from adapters.sandbox.supervisor.files import append_line, number_after, process_identity, read_text
from adapters.sandbox.supervisor.setup import PIPE_SIZE_BYTES, Setup, SetupError
from adapters.sandbox.supervisor.tree import Tree, kill_marked

SMALL_WRITE_SIZE_BYTES = 1 << 16
COALESCE_MILLISECONDS = 2
SAMPLE_SECONDS = 0.1
CPU_CHECK_SECONDS = 1.0


class Watch:
    """Looks after the processes that a ``Setup`` has forked."""

    def __init__(self, order: dict[str, Any], setup: Setup, wakeup: int) -> None:
        self.setup = setup
        self.wakeup = wakeup
        self.limits: dict[str, Any] = order["limits"]
        self.meters: dict[str, Any] = order["meters"]
        self.isolated = order["bwrap"] is not None
        self.marker: str = order["marker"]
        self.story = ""
        self.log_size_bytes = 0
        self.memory_peak_bytes = 0
        self.cpu_seconds_seen = 0.0
        self.status_text = ""
        self.init_pid: int | None = None
        self.next_sample = 0.0
        self.next_cpu_check = 0.0

    # ---- the beginning ---------------------------------------------------------------------------------------------

    def await_setup(self, journal: int) -> None:
        """Waits until bubblewrap has named its init process, and writes down whom to look for if we die."""
        if self.isolated:
            self._await_init()
        else:
            self.init_pid, self.init = self.setup.pid, self.setup.process
        if self.init_pid is not None:
            append_line(journal, processes=[process_identity(self.setup.pid), process_identity(self.init_pid)])

    def _await_init(self) -> None:
        poller = select.poll()
        for fd in (self.setup.status, self.setup.process, self.wakeup):
            poller.register(fd, select.POLLIN)
        while self.init_pid is None:
            ready = {fd for fd, _ in poller.poll()}
            if self.wakeup in ready:
                # Not yet: bubblewrap's child waits for a word of its parent, and without its parent would wait forever.
                self.story = "killed"
                poller.unregister(self.wakeup)
            self._read_status()
            if self.init_pid is None and self.setup.process in ready:
                return
        try:
            self.init = os.pidfd_open(self.init_pid)
        except ProcessLookupError:
            # It failed already; bubblewrap itself is about to say why.
            self.init = self.setup.process
        if self.story:
            signals.kill(self.init)

    def _read_status(self) -> None:
        """Reads what bubblewrap has said about its child so far."""
        try:
            self.status_text += os.read(self.setup.status, 4096).decode()
        except BlockingIOError:
            return
        self.init_pid = number_after(self.status_text, '"child-pid"')

    def let_go(self) -> None:
        """Opens the gate, unless the sandbox was killed meanwhile: from here on the commands run."""
        self.started_at = time.time()
        self.deadline: float = time.monotonic() + self.limits["wall_seconds"]
        # Our own reading end keeps a shell that is gone already from being an error here.
        if not self.story:
            os.write(self.setup.gate_write, b"go\n")
        os.close(self.setup.gate_write)
        os.close(self.setup.gate_read)

    # ---- watching --------------------------------------------------------------------------------------------------

    def stop(self, story: str) -> None:
        """Kills everything inside. The first reason is the one that is told."""
        self.story = self.story or story
        if self.init_pid is not None:
            signals.kill(self.init)
        if not self.isolated:
            kill_marked(self.marker)

    def _pump(self) -> bool:
        """Moves output from the pipe to the log, inside the kernel; False at the end of the output."""
        room = self.limits["log_size_bytes"] - self.log_size_bytes
        if room <= 0:
            self.moved = len(os.read(self.setup.output, PIPE_SIZE_BYTES))
            if self.moved:
                self.stop("log_limit")
        else:
            self.moved = os.splice(self.setup.output, self.setup.log, min(room, PIPE_SIZE_BYTES))
            self.log_size_bytes += self.moved
        return self.moved > 0

    def until_end(self) -> None:
        """Pumps output and enforces limits until the last process has ended and the pipe is empty."""
        quiet, loud = select.poll(), select.poll()
        for poller in (quiet, loud):
            poller.register(self.wakeup, select.POLLIN)
            poller.register(self.setup.process, select.POLLIN)
        loud.register(self.setup.output, select.POLLIN)
        output_open, coalesce = True, False
        while True:
            listen = output_open and not coalesce
            timeout = COALESCE_MILLISECONDS if coalesce else self._check_limits()
            ready = {fd for fd, _ in (loud if listen else quiet).poll(timeout)}
            coalesce = False
            if self.wakeup in ready:
                os.read(self.wakeup, 64)
                self.stop("killed")
            if self.setup.process in ready:
                break
            if self.setup.output in ready:
                output_open = self._pump()
                # A step that writes line by line would wake us for every line: gather for a moment instead.
                coalesce = self.moved < SMALL_WRITE_SIZE_BYTES
        if not self.isolated:
            kill_marked(self.marker)
        while self._pump():
            pass

    def _check_limits(self) -> float:
        """Enforces time and, without a cgroup, memory; returns the milliseconds to the next look."""
        now = time.monotonic()
        if now >= self.deadline:
            self.stop("timed_out")
            return SAMPLE_SECONDS * 1000
        if "oom" not in self.meters and now >= self.next_sample:
            self.next_sample = now + SAMPLE_SECONDS
            used = Tree(self.setup.pid).memory_bytes(self.limits["memory_bytes"])
            self.memory_peak_bytes = max(self.memory_peak_bytes, used)
            if used > self.limits["memory_bytes"]:
                self.stop("oom")
        if now >= self.next_cpu_check:
            self.next_cpu_check = now + CPU_CHECK_SECONDS
            # What is killed with its namespace is waited for by nobody: its time is only known while it lives.
            self.cpu_seconds_seen = max(self.cpu_seconds_seen, self._cpu_seconds())
            if self.cpu_seconds_seen > self.limits["cpu_seconds"]:
                self.stop("cpu")
            if self._oom_killed():
                self.stop("oom")
        interval = CPU_CHECK_SECONDS if "oom" in self.meters else SAMPLE_SECONDS
        return max(1.0, min(self.deadline - now, interval) * 1000)

    def _oom_killed(self) -> bool:
        """Whether the kernel has killed a process of the control group for its memory.

        The whole sandbox ends then, as it does without control groups: a step that lost a part of itself at a moment
        that nobody chose is not worth the rest of its time.
        """
        return "oom" in self.meters and (number_after(read_text(self.meters["oom"]), "oom_kill ") or 0) > 0

    def _cpu_seconds(self) -> float:
        """Processor time used so far."""
        if "cpu" not in self.meters:
            return Tree(self.setup.pid).cpu_seconds()
        path, key, per_second = self.meters["cpu"]
        return float((number_after(read_text(path), key) or 0) / per_second)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """Reaps what is left and says how it went."""
        code, seconds, rss_bytes = self._reap()
        if self.isolated:
            self._read_status()
            reported = number_after(self.status_text, '"exit-code"')
        else:
            reported = 128 - code if code < 0 else code
        if "cpu" in self.meters:
            seconds = self._cpu_seconds()
        peak = max(self.memory_peak_bytes, rss_bytes)
        if "memory_peak" in self.meters:
            peak = number_after(read_text(self.meters["memory_peak"]), "") or peak
        if self._oom_killed():
            self.story = self.story or "oom"
        return {
            "started_at": self.started_at,
            "ended_at": time.time(),
            "log_size_bytes": self.log_size_bytes,
            "memory_peak_bytes": peak,
            "cpu_seconds": round(max(seconds, self.cpu_seconds_seen), 6),
            **self._story(reported),
        }

    def _reap(self) -> tuple[int, float, int]:
        """Waits for bubblewrap and its init; returns the exit code, processor seconds and the largest resident size."""
        _, wait_status, usage = os.wait4(self.setup.pid, 0)
        seconds, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
        if self.init_pid is not None:
            # bubblewrap may leave before its init, which alone knows what the commands used: now it is our child.
            poller = select.poll()
            poller.register(self.init, select.POLLIN)
            poller.poll()
        with contextlib.suppress(ChildProcessError):
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                usage = found[2]
                seconds, rss = seconds + usage.ru_utime + usage.ru_stime, max(rss, usage.ru_maxrss)
        return os.waitstatus_to_exitcode(wait_status), seconds, rss * 1024

    def _story(self, code: int | None) -> dict[str, Any]:
        if self.story == "cpu":
            return {"signal": signals.SIGXCPU}
        if self.story:
            return {self.story: True}
        if code is None:
            raise SetupError(self._setup_error())
        if code in signals.FATAL_CODES:
            return {"signal": code - 128}
        return {"exit_code": code}

    def _setup_error(self) -> str:
        try:
            text = os.read(self.setup.errors, 4096).decode("utf-8", "replace").strip()
        except BlockingIOError:
            text = ""
        return text or "the sandbox ended before its commands began and gave no reason"
