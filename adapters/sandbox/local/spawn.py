"""Has a supervisor forked in a session of its own and waits for its word that the sandbox has begun."""

import asyncio
import atexit
import contextlib
import marshal
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import adapters

LIBRARY = str(Path(adapters.__path__[0]).parent)
PROGRAM = "import sys; sys.path.append(sys.argv[1]); from adapters.sandbox.supervisor.forkserver import serve; serve()"
WORD_SIZE_BYTES = 65536
SEND_SECONDS_MAX = 5.0
CHANGED_SIGNALS = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class ForkServer:
    """This process's fork server (``supervisor/forkserver.py``): started when first needed, and anew if it is gone.

    Attributes:
        pid: Its process, 0 before the first start.
    """

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self.pid = 0

    def fork(self, order: int, word: int) -> None:
        """Has a supervisor forked that gets these two descriptors.

        Raises:
            OSError: No process could be started, or the fork server does not answer.
        """
        if self._connection is not None:
            try:
                self._send(self._connection, order, word)
            except (BrokenPipeError, ConnectionResetError):
                # It was killed; what it had forked runs on.
                self._forget()
            else:
                return
        self._connection = self._start()
        self._send(self._connection, order, word)

    @staticmethod
    def _send(connection: socket.socket, order: int, word: int) -> None:
        socket.send_fds(connection, [b"!"], [order, word])

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        os.waitpid(self.pid, 0)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(SEND_SECONDS_MAX)
        atexit.register(ours.close)
        with theirs:
            try:
                self.pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-E", "-c", PROGRAM, LIBRARY],
                    {
                        # Looked up once here, not by every fork for itself, which would have to copy the page first.
                        "LD_BIND_NOW": "1",
                        **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                    },
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=CHANGED_SIGNALS,
                )
            except BaseException:
                ours.close()
                raise
        return ours


FORK_SERVER = ForkServer()
"""One for the whole process, as processes are: it ends with it."""


def spawn(order: dict[str, Any]) -> int:
    """Starts the supervisor; returns the descriptor on which it gives its word.

    The order travels in memory: it may hold secrets, which neither ``ps`` nor the disk is to show.

    Raises:
        OSError: No process or descriptor is to be had; nothing was started.
    """
    memory = os.memfd_create("perdure-order")
    word, word_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = memoryview(marshal.dumps(order))
        while content:
            content = content[os.write(memory, content) :]
        os.lseek(memory, 0, os.SEEK_SET)
        FORK_SERVER.fork(memory, word_write)
    except BaseException:
        os.close(word)
        raise
    finally:
        os.close(memory)
        os.close(word_write)
    return word


async def read_word(word: int) -> str:
    """What the supervisor writes before it leaves its starter: ``begun``, nothing, or what went wrong."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    ended = asyncio.Event()

    def on_readable() -> None:
        with contextlib.suppress(BlockingIOError):
            part = os.read(word, WORD_SIZE_BYTES)
            parts.append(part)
            if not part:
                loop.remove_reader(word)
                ended.set()

    loop.add_reader(word, on_readable)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(word)
        os.close(word)
    return b"".join(parts).decode("utf-8", "replace").strip()
