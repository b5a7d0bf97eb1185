"""Small files of the supervisor and of the kernel, by descriptor."""

import json
import os

START_TIME_FIELD = 19
"""Counted from the state of the process, the first field behind its name (proc(5))."""


def write_file(path: str, content: bytes) -> None:
    """Writes a new file that only its owner reads."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def append_line(fd: int, **entry: object) -> None:
    """Appends an entry to a file of JSON lines, in one write: whoever reads it sees the line whole or not at all."""
    os.write(fd, json.dumps(entry).encode() + b"\n")


def read_text(path: str) -> str:
    """The text of a small kernel file, or the empty string if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 65536).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def number_after(text: str, key: str) -> int | None:
    """The number that follows ``key`` (quotes, colons and blanks between are skipped), if there is one."""
    _, found, rest = text.partition(key) if key else ("", "all", text)
    digits = rest.lstrip('": \t')
    end = 0
    while end < len(digits) and digits[end].isdigit():
        end += 1
    return int(digits[:end]) if found and end else None


def process_identity(pid: int) -> str:
    """``pid start_time``: the start time (clock ticks since boot) tells a reused pid apart; ``pid gone`` if it is."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return f"{pid} {fields[START_TIME_FIELD] if fields else 'gone'}"


def sync_to_disk(name: str) -> None:
    """Makes a file and its name in the present directory survive a power cut."""
    for path in (name, "."):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
