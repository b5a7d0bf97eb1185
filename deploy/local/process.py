"""Starting one child process, and ending it for certain."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from deploy.local.identity import ProcessIdentity
from deploy.local.part import Launch


class Child:
    """A running child in a session of its own.

    The terminal's Ctrl-C reaches only the supervisor, which then stops the children in order. Should the supervisor be
    killed, the kernel sends each child its stop signal, so they end in an orderly way too.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.identity = ProcessIdentity.of(process.pid)
        """``None`` if it ended at once."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it ended."""
        return await self._process.wait()

    async def stop(self, stop_signal: signal.Signals, *, timeout_seconds: float) -> bool:
        """Asks it to end, then insists.

        Returns:
            Whether it ended by itself within ``timeout_seconds``.
        """
        if not self.alive:
            self.kill_group()
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(stop_signal)
        try:
            await asyncio.wait_for(self.wait(), timeout_seconds)
        except TimeoutError:
            await self.kill()
            return False
        self.kill_group()
        return True

    async def kill(self) -> None:
        """SIGKILL to it and to its process group."""
        self.kill_group()
        await self.wait()

    def kill_group(self) -> None:
        """SIGKILL to what is left of its process group.

        Processes that chose a session of their own, such as the supervisors of step sandboxes, are not in it: they
        outlive the worker on purpose.
        """
        # Kept alive by a group member, the group's number cannot be taken by another; an empty group is not found.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def start(launch: Launch, *, log_path: Path, stop_signal: signal.Signals) -> Child:
    """Starts a child whose output goes to the end of ``log_path``.

    Call it in the main thread: the kernel's notice of the parent's death is tied to the thread that started the child.

    Raises:
        OSError: The program cannot be run.
    """
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            # A wrapper instead of code between fork and exec, which is not safe in a process with threads.
            "setpriv",
            "--pdeathsig",
            stop_signal.name.removeprefix("SIG"),
            "--",
            *launch.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=launch.cwd,
            env={**os.environ, **launch.env},
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    return Child(process)
