"""From an order to commands that wait at their gate: descriptors, cgroups, limits, user, bubblewrap."""

import fcntl
import os
import resource
from typing import Any, NoReturn

from adapters.sandbox.supervisor import signals
from adapters.sandbox.supervisor.files import write_file
from adapters.sandbox.supervisor.stage import stage

PIPE_SIZE_BYTES = 1 << 20
OOM_SCORE = b"500"
"""If the whole host runs out of memory, a step is to go before a server does (proc(5), ``oom_score_adj``)."""

GATE_FD = 3
"""The gate has a number of one digit: dash knows no other descriptors in redirections. ``main`` makes it first."""

LIBRARIES_FD = 4


class SetupError(Exception):
    """The sandbox cannot be set up and no command ran; the text is for the person who reads the run."""


class Setup:
    """The pipes, the log and the process of one sandbox."""

    def __init__(self, order: dict[str, Any], gate: tuple[int, int]) -> None:
        self.order = order
        self.gate_read, self.gate_write = gate
        self.pid = 0

    def spawn(self) -> None:
        """Forks bubblewrap; on return its commands are on the way to the gate."""
        self.log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.output, output_write = os.pipe2(os.O_CLOEXEC)
        self.errors, errors_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.status, status_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._enlarge_pipe()
        inherited: list[int] = []
        arguments = self._arguments(status_write, inherited)
        for group in self.order["cgroups"]:
            os.makedirs(group["directory"], exist_ok=True)
            for name, value in group["writes"]:
                write_file(f"{group['directory']}/{name}", value.encode())
        self.pid = os.fork()
        if self.pid == 0:
            self._become_sandbox(arguments, [*inherited, status_write], output_write, errors_write)
        self.process = os.pidfd_open(self.pid)
        for fd in (*inherited, output_write, errors_write, status_write):
            os.close(fd)

    def _enlarge_pipe(self) -> None:
        try:
            fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, PIPE_SIZE_BYTES)
        except PermissionError:
            # This user's pages for pipes are used up: a small pipe is slower and loses nothing.
            return

    def _arguments(self, status_write: int, inherited: list[int]) -> list[str]:
        """The command line; only numbers of descriptors in it, so that ``ps`` shows nothing of the step."""

        def hold(fd: int) -> str:
            inherited.append(fd)
            return str(fd)

        def memory_file(content: bytes) -> str:
            fd = os.memfd_create("perdure")
            os.write(fd, content)
            os.lseek(fd, 0, os.SEEK_SET)
            return hold(fd)

        if self.order["bwrap"] is None:
            return [*self.order["program"], f"/proc/self/fd/{memory_file(self.order['script'])}"]
        options: list[str] = []
        for option in self.order["options"]:
            if isinstance(option, bytes):
                options.append(memory_file(option))
            else:
                options.append(option)
        options += ["--json-status-fd", str(status_write)]
        packed = memory_file(b"".join(os.fsencode(option) + b"\0" for option in options))
        return [self.order["title"], "--args", packed, *self.order["program"]]

    def _become_sandbox(self, arguments: list[str], inherited: list[int], output: int, errors: int) -> NoReturn:
        """The child's side of the fork."""
        try:
            for group in self.order["cgroups"]:
                write_file(f"{group['directory']}/{group['join']}", b"0")
            write_file("/proc/self/oom_score_adj", OOM_SCORE)
            program, environment = self._program()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            for fd in (*inherited, self.gate_read):
                os.set_inheritable(fd, True)
            self._limit_resources()
            if self.order["uid"] is not None:
                if self.order["stage"]:
                    stage(*(self.order[name] for name in ("system", "workspace", "stage", "mount_point")))
                os.setgroups([])
                os.setresgid(*[self.order["gid"]] * 3)
                os.setresuid(*[self.order["uid"]] * 3)
            signals.reset()
            os.execve(program, arguments, environment)
        except OSError as error:
            os.write(errors, f"the sandbox could not be set up: {error}".encode())
        finally:
            os._exit(127)

    def _program(self) -> tuple[int, dict[str, str]]:
        """The open program and its own environment; opened before the user changes, who may not reach it."""
        if self.order["bwrap"] is None:
            os.setsid()
            os.chdir(self.order["workspace"])
            return os.open(self.order["program"][0], os.O_RDONLY | os.O_CLOEXEC), self.order["environment"]
        program = os.open(self.order["bwrap"], os.O_RDONLY | os.O_CLOEXEC)
        if not self.order["libraries"]:
            return program, {}
        libraries = os.open(self.order["libraries"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # bubblewrap's init closes it, and the shell closes it before the first command (``order.py``).
        os.dup2(libraries, LIBRARIES_FD)
        return program, {"LD_LIBRARY_PATH": f"/proc/self/fd/{LIBRARIES_FD}"}

    def _limit_resources(self) -> None:
        limits = self.order["limits"]
        for kind, soft, hard in (
            (resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 5),
            (resource.RLIMIT_FSIZE, limits["file_size_bytes"], limits["file_size_bytes"]),
            (resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"]),
            (resource.RLIMIT_CORE, 0, 0),
        ):
            _, present = resource.getrlimit(kind)
            ceiling = hard if present == resource.RLIM_INFINITY else min(hard, present)
            resource.setrlimit(kind, (min(soft, ceiling), ceiling))
