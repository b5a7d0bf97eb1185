"""A directory in memory for the data of a test session's servers.

A database of a test's own is some five hundred files, made and removed again within a second. ext4 gives no inode out
again for minutes after its file was removed, and looks at every such inode whenever it makes a file: after a hundred
databases the next takes a second, most of it in the kernel, and every other program that makes files waits as well.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MEMORY_DISK = Path("/dev/shm")  # noqa: S108  # only directories of mkdtemp are made here
NAME = "perdure-tests-"
# What a session needs at its peak is a sixth of this.
ROOM_BYTES_MIN = 3 * 1024**3


@contextmanager
def directory_in_memory(otherwise: Path) -> Iterator[Path]:
    """A directory in memory, removed afterwards; ``otherwise`` on a host that has no room there."""
    _remove_what_killed_sessions_left()
    if _room_bytes() < ROOM_BYTES_MIN:
        yield otherwise
        return
    made = Path(tempfile.mkdtemp(prefix=f"{NAME}{os.getpid()}-", dir=MEMORY_DISK))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def _room_bytes() -> int:
    if not MEMORY_DISK.is_dir() or not os.access(MEMORY_DISK, os.W_OK):
        return 0
    return min(shutil.disk_usage(MEMORY_DISK).free, psutil.virtual_memory().available)


def _remove_what_killed_sessions_left() -> None:
    for left in MEMORY_DISK.glob(f"{NAME}*"):
        pid = int(left.name.removeprefix(NAME).split("-")[0])
        if not psutil.pid_exists(pid):
            shutil.rmtree(left, ignore_errors=True)
