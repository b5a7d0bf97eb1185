"""Files and directories that only their owner can read."""

import os
from pathlib import Path


def private_directory(path: Path) -> Path:
    """Makes ``path`` with mode 0700, or narrows it to that, and returns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: str) -> None:
    """Writes ``content`` to ``path`` with mode 0600, all or nothing, also across a crash."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
