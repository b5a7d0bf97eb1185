"""Runs ``git``: a clean environment, bounded output, deadlines, and no process left behind."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from domain.errors import PerdureError

PIPE_SIZE_BYTES = 1024**2
"""As much as Linux gives an unprivileged process; fewer and larger reads."""
COMPLAINT_SIZE_BYTES_MAX = 8 * 1024
OUTPUT_SIZE_BYTES_MAX = 16 * 1024**2
TIMEOUT_SECONDS = 60.0
_STOP_GRACE_SECONDS = 2.0
_DRAIN_BYTES_PER_SECOND = 500e6


class GitFailed(PerdureError):
    """Git ended with an error that the caller could not foresee; the message is git's own."""

    code = "git_failed"
    title = "Git could not do this"


def git_environment(config: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment for git: nothing is inherited but ``PATH``, no configuration read but ours.

    Args:
        config: The configuration that holds for every repository of ours.
        extra: More variables.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        **(extra or {}),
    }


def _pipe() -> tuple[int, int]:
    """A pipe as large as allowed: its end to read and its end to write."""
    read_end, write_end = os.pipe()
    # Refused when the user has used up its share of pipe memory: then the usual 64 KiB do as well.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE_BYTES)
    return read_end, write_end


async def _until_ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, tell)
    try:
        await ready
    finally:
        remove(fd)


class GitProcess:
    """One running git in a process group of its own; implements ``adapters.repositories.base.GitStream``.

    Pipes are read and written without blocking, directly from the event loop: bodies of any size pass with at most
    1 MiB in our memory.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        inherited_fds: Sequence[int] = (),
    ) -> None:
        stdin_read, self._stdin = _pipe()
        self._stdout, stdout_write = _pipe()
        self._stderr, stderr_write = os.pipe()
        ours = (self._stdin, self._stdout, self._stderr)
        try:
            # Popen by vfork takes well under a millisecond; asyncio's and uvloop's own fork copies our page tables.
            self._process = subprocess.Popen(
                ["git", *arguments],
                stdin=stdin_read,
                stdout=stdout_write,
                stderr=stderr_write,
                env=environment,
                pass_fds=tuple(inherited_fds),
                process_group=0,
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in (stdin_read, stdout_write, stderr_write):
                os.close(fd)
        for fd in ours:
            os.set_blocking(fd, False)
        self._open = set(ours)
        # A full pipe counts as writable as soon as git has taken one page. Waiting for as long as git needs at least
        # for the rest makes a few large writes of thousands of small ones.
        self._refill_pause_seconds = fcntl.fcntl(self._stdin, fcntl.F_GETPIPE_SZ) / _DRAIN_BYTES_PER_SECOND
        self._complaint = bytearray()
        self._stopping: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_reader(self._stderr, self._take_complaint)

    @property
    def pid(self) -> int:
        """The process, and the id of its group."""
        return self._process.pid

    @property
    def complaint(self) -> str:
        """The end of what git wrote to standard error."""
        return self._complaint.decode("utf-8", "replace").strip()

    async def write(self, data: bytes) -> bool:
        """See ``GitStream.write``."""
        left = memoryview(data)
        while left:
            if self._stdin not in self._open:
                return False
            try:
                left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                await _until_ready(self._stdin, writing=True)
                await asyncio.sleep(self._refill_pause_seconds)
            except BrokenPipeError:
                self.close_input()
                return False
        return True

    def close_input(self) -> None:
        """See ``GitStream.close_input``."""
        self._close(self._stdin)

    async def read(self) -> bytes:
        """See ``GitStream.read``. Gives other tasks their turn before each piece."""
        while True:
            await _until_ready(self._stdout, writing=False)
            try:
                return os.read(self._stdout, PIPE_SIZE_BYTES)
            except BlockingIOError:
                continue

    async def wait(self) -> int:
        """See ``GitStream.wait``."""
        code = await self._ended()
        self._take_complaint()
        return code

    def terminate(self) -> None:
        """See ``GitStream.terminate``."""
        if self._stopping is None:
            # The leader is not reaped before ``stop``, so the group is still ours.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    async def stop(self) -> None:
        """See ``GitStream.stop``. Runs to its end even if the caller is cancelled."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        # The leader is reaped last: until then its id cannot be given to a stranger, and whatever it left behind in
        # its group can be killed. SIGTERM comes first, because git then removes its quarantine and temporary files.
        if not self._has_ended():
            os.killpg(self._process.pid, signal.SIGTERM)
            await asyncio.wait({asyncio.create_task(self._ended())}, timeout=_STOP_GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._has_ended():
            self._process.wait()  # only reaps; not worth a thread
        else:
            await asyncio.to_thread(self._process.wait)
        self._take_complaint()
        for fd in tuple(self._open):
            self._close(fd)

    async def _ended(self) -> int:
        """Waits for the leader without reaping it."""
        ended = await asyncio.to_thread(os.waitid, os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        if ended is None:
            raise AssertionError("waitid without WNOHANG always has an answer")
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _take_complaint(self) -> None:
        if self._stderr not in self._open:
            return
        try:
            data = os.read(self._stderr, COMPLAINT_SIZE_BYTES_MAX)
        except BlockingIOError:
            return
        if not data:
            self._close(self._stderr)
        self._complaint += data
        del self._complaint[:-COMPLAINT_SIZE_BYTES_MAX]

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            if fd == self._stderr:
                asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)


async def run_git(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    exit_codes: Sequence[int] = (0,),
    timeout_seconds: float = TIMEOUT_SECONDS,
    output_size_bytes_max: int = OUTPUT_SIZE_BYTES_MAX,
) -> tuple[int, bytes]:
    """Runs git to its end.

    Args:
        stdin: A little (a pipe of 64 KiB must take it at once).
        exit_codes: Those that are an answer and not a failure.
        output_size_bytes_max: More output than this is a failure.

    Returns:
        The exit code and the output.

    Raises:
        GitFailed: Another exit code, too much output, or no end within ``timeout_seconds``; with git's message.
    """
    process = GitProcess(arguments, environment=environment)
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            await process.write(stdin)
            process.close_input()
            while piece := await process.read():
                output += piece
                if len(output) > output_size_bytes_max:
                    raise GitFailed(f"git {_verb(arguments)} answered with more than {output_size_bytes_max} bytes.")
            code = await process.wait()
    except TimeoutError:
        raise GitFailed(f"git {_verb(arguments)} did not end within {timeout_seconds:g} s and was stopped.") from None
    finally:
        await process.stop()
    if code not in exit_codes:
        raise GitFailed(
            f"git {_verb(arguments)} failed: {process.complaint or 'no message'}", details={"exit_code": code}
        )
    return code, bytes(output)


def _verb(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith(("-", "/")) and "=" not in word), "")
