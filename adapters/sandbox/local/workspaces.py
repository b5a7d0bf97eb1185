"""Directories that steps write into: made, handed over, and removed whatever a step left in them."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from domain.errors import Unavailable

SMALL_TREE_ENTRIES = 500
"""Up to here we walk ourselves: starting a program costs more. Beyond, coreutils do it beside our interpreter."""


def create_empty(path: Path) -> None:
    """Makes an empty directory, removing what was there."""
    if path.exists():
        remove(path)
    path.mkdir(mode=0o755, parents=True)


def hand_over(path: Path, uid: int | None) -> None:
    """Gives everything below ``path`` to the user of the sandboxes, following no link.

    Raises:
        Unavailable: The disk refused.
    """
    if uid is None:
        return
    entries = _small_tree(path)
    if entries is None:
        _run("chown", "--recursive", "--no-dereference", f"{uid}:{uid}", "--", str(path))
        return
    try:
        for entry in entries:
            os.chown(entry, uid, uid, follow_symlinks=False)
    except OSError as error:
        raise Unavailable(f"a workspace cannot be handed over: {error}", neighbour="sandbox") from error


def _small_tree(path: Path) -> list[str] | None:
    """``path`` and everything below it, if that is not much, lies on one file system and can be read; else ``None``."""
    entries = [str(path)]
    try:
        device = path.lstat().st_dev
        for directory, names, files in os.walk(path, onerror=_raise):
            entries += [f"{directory}/{name}" for name in (*names, *files)]
            if len(entries) > SMALL_TREE_ENTRIES or Path(directory).lstat().st_dev != device:
                return None
    except OSError:
        return None
    return entries


def _raise(error: OSError) -> NoReturn:
    raise error


def remove(path: Path) -> None:
    """Removes a tree that untrusted code has filled: of any depth, with directories that nobody may enter.

    ``rmtree`` and the programs of coreutils walk by descriptors and never follow a link out of the tree. Nothing runs
    in it any more.

    Raises:
        Unavailable: Something would not go.
    """
    if not path.exists() and not path.is_symlink():
        return
    if _small_tree(path) is not None:
        with suppress(OSError):
            shutil.rmtree(path)
            return
    first = subprocess.run(["rm", "-rf", "--one-file-system", "--", path], capture_output=True, check=False)
    if first.returncode == 0:
        return
    # An ordinary user cannot empty a directory that a step made unreadable, but may make it readable.
    subprocess.run(["chmod", "--recursive", "u+rwx", "--", path], capture_output=True, check=False)
    _run("rm", "-rf", "--one-file-system", "--", str(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[:3]
        raise Unavailable(f"`{command[0]}` failed in a workspace: {'; '.join(said)}", neighbour="sandbox")
