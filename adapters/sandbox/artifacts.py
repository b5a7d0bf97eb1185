"""Finds and opens the files that a step leaves in its workspace, none of which can be trusted.

Whatever the step has put there, nothing outside of the workspace is ever read, and nothing blocks: every directory is
opened relative to its parent and every link is resolved by hand (``openat``, ``O_NOFOLLOW``), so a link that is swapped
in meanwhile is met as a link, and only regular files are opened.

Links to regular files inside the workspace are followed; links out of it, absolute ones (inside the sandbox the
workspace has another path), and links to directories are refused. The top ``.git`` is left out unless a pattern
names it.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from domain.pipelines.globs import is_wild, path_glob_matches

FILES_MAX = 1000
SIZE_BYTES_MAX = 2 * 1024**3
# As many as Linux follows (path_resolution(7)).
LINKS_MAX = 40
# Deeper than any build goes; each level holds a file descriptor.
DEPTH_MAX = 100

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that is swapped in must not hold us up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ArtifactRefused(Exception):
    """A path that is no artifact; the text is the rest of the sentence "... was refused: it ..."."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below the workspace.

    Attributes:
        path: Relative, with slashes.
    """

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """Something that a pattern means but that is not taken.

    Attributes:
        path: As far as it can be shown.
        reason: The rest of the sentence "it ...".
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the patterns mean, in the order of the paths."""

    files: tuple[FoundFile, ...]
    refused: tuple[RefusedFile, ...]


def find_artifacts(
    workspace: Path, patterns: Sequence[str], *, files_max: int = FILES_MAX, size_bytes_max: int = SIZE_BYTES_MAX
) -> Found:
    """Looks for the files that ``patterns`` (``domain.pipelines.globs``) mean; blocks while it reads directories.

    Args:
        files_max: If more match, all of them are refused.
        size_bytes_max: Larger files are refused.
    """
    files: list[FoundFile] = []
    refused: list[RefusedFile] = []
    wanted = [_Wanted(pattern) for pattern in patterns]
    if not wanted or not workspace.is_dir():
        return Found((), ())
    with _opened(os.open(workspace, _DIRECTORY)) as root:
        for path in _walk(root, "", wanted, 0):
            try:
                files.append(_examine(root, path, size_bytes_max))
            except ArtifactRefused as refusal:
                refused.append(RefusedFile(_shown(path), str(refusal)))
            if len(files) + len(refused) > files_max:
                reason = f"is one of more than {files_max:,} files; put them into one archive, none was kept"
                return Found((), (RefusedFile(", ".join(patterns), reason),))
    return Found(tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(refused, key=lambda file: file.path)))


@contextmanager
def open_artifact(workspace: Path, path: str) -> Iterator[BufferedReader]:
    """Opens a regular file below the workspace for reading.

    Raises:
        ArtifactRefused: It is not one, or not any more.
    """
    with _opened(os.open(workspace, _DIRECTORY)) as root:
        descriptor = _open_beneath(root, path)
    with os.fdopen(descriptor, "rb") as file:
        yield file


class _Wanted:
    """A pattern and the directories in which it can match."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern.removeprefix("./").rstrip("/")
        segments = self.pattern.split("/")
        wild = next((at for at, segment in enumerate(segments) if is_wild(segment)), len(segments))
        self._literal = segments[:wild]

    def means(self, path: str) -> bool:
        return path_glob_matches(self.pattern, path)

    def is_above(self, path: str) -> bool:
        """Whether every match lies below ``path``."""
        segments = path.split("/")
        return len(segments) < len(self.pattern.split("/")) and self._literal[: len(segments)] == segments

    def may_be_below(self, path: str) -> bool:
        segments = path.split("/")
        if segments[0] == ".git" and self._literal[:1] != [".git"]:
            return False
        shorter = min(len(segments), len(self._literal))
        return segments[:shorter] == self._literal[:shorter]


def _walk(directory: int, prefix: str, wanted: Sequence[_Wanted], depth: int) -> Iterator[str]:
    """The paths of everything but directories that is meant, and of links that stand in the way."""
    with os.scandir(directory) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries)
    for name, is_directory, is_link in names:
        path = f"{prefix}{name}"
        if not is_directory:
            if any(one.means(path) or (is_link and one.is_above(path)) for one in wanted if one.may_be_below(path)):
                yield path
        elif any(one.may_be_below(path) for one in wanted):
            if depth >= DEPTH_MAX:
                yield path
                continue
            try:
                child = os.open(name, _DIRECTORY, dir_fd=directory)
            except OSError:  # Gone, replaced or not to be read: it is examined like a file, and refused.
                yield path
                continue
            with _opened(child):
                yield from _walk(child, f"{path}/", wanted, depth + 1)


def _examine(root: int, path: str, size_bytes_max: int) -> FoundFile:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ArtifactRefused("has a name that is not UTF-8; rename it") from None
    if any(ord(character) < ord(" ") or character == "\x7f" for character in path):
        raise ArtifactRefused("has a control character in its name; rename it")
    with _opened(_open_beneath(root, path)) as descriptor:
        size_bytes = os.fstat(descriptor).st_size
    if size_bytes > size_bytes_max:
        raise ArtifactRefused(f"has {size_bytes:,} bytes; the limit is {size_bytes_max:,}")
    return FoundFile(path, size_bytes)


def _open_beneath(root: int, path: str) -> int:
    try:
        return _resolve(root, path)
    except FileNotFoundError:
        raise ArtifactRefused("is gone, or a link to something that does not exist") from None
    except PermissionError:
        raise ArtifactRefused("cannot be read; give it a mode with read permission") from None
    except OSError as error:
        raise ArtifactRefused(f"cannot be read ({os.strerror(error.errno or 0)})") from None


def _resolve(root: int, path: str) -> int:
    """Opens a regular file, following every link on the way by hand, inside of ``root``."""
    parts = path.split("/")[::-1]
    stack = [os.dup(root)]
    links = 0
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(stack) == 1:
                    raise ArtifactRefused("is a link out of the workspace")
                os.close(stack.pop())
                continue
            mode = os.stat(part, dir_fd=stack[-1], follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                parts.extend(_link_parts(os.readlink(part, dir_fd=stack[-1]), links))
            elif parts:
                stack.append(os.open(part, _DIRECTORY, dir_fd=stack[-1]))
            else:
                return _open_regular(part, mode, stack[-1])
        raise ArtifactRefused("is a link to a directory, and these are not followed; name the directory itself")
    finally:
        for descriptor in stack:
            os.close(descriptor)


def _link_parts(target: str, links: int) -> list[str]:
    if links > LINKS_MAX:
        raise ArtifactRefused("is a link in a circle")
    if target.startswith("/"):
        raise ArtifactRefused("is a link with an absolute path, which may lead out of the workspace")
    return target.split("/")[::-1]


_KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISBLK, "is a block device"),
    (stat.S_ISCHR, "is a character device"),
)


def _open_regular(name: str, mode: int, directory: int) -> int:
    if not stat.S_ISREG(mode):  # Asked before the open: opening a device can do things.
        kind = next((text for test, text in _KINDS if test(mode)), "is no file")
        raise ArtifactRefused(f"{kind}; only regular files are kept")
    descriptor = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactRefused("was replaced while it was looked at")
    return descriptor


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace").encode("unicode_escape").decode()
