"""Starts a supervisor in a session of its own and waits for its word that the sandbox has begun."""

import asyncio
import contextlib
import marshal
import os
import signal
import sys
from pathlib import Path
from typing import Any

import adapters

LIBRARY = str(Path(adapters.__path__[0]).parent)
PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from adapters.sandbox.supervisor.main import supervise; supervise()"
)
WORD_SIZE_BYTES = 65536
CHANGED_SIGNALS = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def spawn(order: dict[str, Any]) -> tuple[int, int]:
    """Starts the supervisor; returns its pid and the descriptor on which it gives its word.

    The order travels in memory: it may hold secrets, which neither ``ps`` nor the disk is to show. The directory is an
    argument for whoever reads the list of processes.
    """
    memory = os.memfd_create("perdure-order")
    word, word_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = memoryview(marshal.dumps(order))
        while content:
            content = content[os.write(memory, content) :]
        os.lseek(memory, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-E", "-c", PROGRAM, LIBRARY, order["directory"]],
            {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, memory, 0),
                (os.POSIX_SPAWN_DUP2, word_write, 1),
                (os.POSIX_SPAWN_DUP2, word_write, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=CHANGED_SIGNALS,
        )
    except BaseException:
        os.close(word)
        raise
    finally:
        os.close(memory)
        os.close(word_write)
    return pid, word


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
