"""What of the host's ``/etc`` a step sees: copies in one directory, bound as a whole.

Each bind mount costs bubblewrap a third of a millisecond, because it reads the list of all mounts again. A host has
some two dozen files and directories in ``/etc`` that programs of ``/usr`` need: bound one by one, they took half of the
time that a sandbox needs to come up.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from adapters.sandbox.local.workspaces import remove

ETC = Path("/etc")
VISIBLE_FILES = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "java-*-openjdk",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "maven", "mime.types",
    "nsswitch.conf", "pki", "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""Below /etc; what programs of /usr need and holds no secret. Names that do not exist here are left out."""

FILES_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""More than ten times what a host has there: a directory that somebody keeps their data in is not copied on and on."""

LOOK_SECONDS = 60.0
"""So long a step may see what the host's files were before they were changed."""

FORGET_SECONDS = 3600.0
"""Copies that no process has looked at for so long are nobody's present ones."""

MOUNT_POINT = "work"
"""An empty directory beside the copies, where the workspace is bound for bubblewrap (``supervisor/stage.py``)."""


class SystemFiles:
    """The copies, renewed when the host's files change.

    A directory that was made is never changed, because running sandboxes have it mounted; another one takes its place.

    Attributes:
        path: The present copies: ``etc`` and an empty ``MOUNT_POINT`` are in it.
    """

    def __init__(self, root: Path, made: dict[str, bytes], further: Iterable[Path] = (), *, etc: Path = ETC) -> None:
        """Copies what is there now.

        Args:
            root: Where the directories of copies are kept.
            made: Files below ``/etc`` that are not the host's but a sandbox's own.
            further: More of ``/etc`` that is to be seen.
            etc: The host's ``/etc``.
        """
        self._root = root
        self._etc = etc
        self._made = made
        self._patterns = [*VISIBLE_FILES, *(str(path.relative_to(etc)) for path in further)]
        self.path = Path()
        self.renew()

    def is_due(self) -> bool:
        """Whether it is time to look whether the host's files have changed."""
        return time.monotonic() - self._looked_at > LOOK_SECONDS

    def renew(self) -> None:
        """Looks at the host's files and copies them if they are others than before; blocks."""
        self._looked_at = time.monotonic()
        visible = [path for pattern in self._patterns for path in sorted(self._etc.glob(pattern))]
        path = self._root / _fingerprint(visible, self._made)
        if not path.exists():
            self._copy(visible, path)
        os.utime(path)
        self.path = path

    def _copy(self, visible: list[Path], path: Path) -> None:
        draft = self._root / f"draft-{uuid4()}"
        etc = draft / "etc"
        etc.mkdir(parents=True)
        (draft / MOUNT_POINT).mkdir()
        copy = _copier(FILES_SIZE_BYTES_MAX)
        for source in visible:
            target = etc / source.relative_to(self._etc)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                # What this user may not read, a step may not either.
                with suppress(shutil.Error):
                    shutil.copytree(source, target, symlinks=True, copy_function=copy)
            else:
                copy(str(source.resolve()), str(target))
        for name, content in self._made.items():
            (etc / name).write_bytes(content)
            (etc / name).chmod(0o644)
        # Steps run as another user, whatever our umask is.
        for directory in (
            draft,
            draft / MOUNT_POINT,
            etc,
            *{etc / source.relative_to(self._etc).parent for source in visible},
        ):
            directory.chmod(0o755)
        try:
            draft.rename(path)
        except OSError:
            remove(draft)
            # Else another process was faster.
            if not path.exists():
                raise

    def forget_old(self) -> None:
        """Removes copies that are no process's present ones; call it only while no sandbox runs, which uses them."""
        for other in self._root.iterdir():
            if other != self.path and time.time() - other.stat().st_mtime > FORGET_SECONDS:
                remove(other)


def _copier(size_bytes_left: int) -> Callable[[str, str], object]:
    """A copy function that takes regular files that it may read, up to a total size."""

    def copy(source: str, target: str) -> object:
        nonlocal size_bytes_left
        path = Path(source)
        if not path.is_file() or not os.access(path, os.R_OK) or path.stat().st_size > size_bytes_left:
            return target
        size_bytes_left -= path.stat().st_size
        return shutil.copy2(path, target)

    return copy


def _fingerprint(visible: list[Path], made: dict[str, bytes]) -> str:
    """Another one as soon as a file was added, removed, replaced or written."""
    digest = hashlib.sha256(repr(sorted(made.items())).encode())
    for path in visible:
        for entry in _walk(path):
            with suppress(FileNotFoundError):
                found = entry.lstat()
                digest.update(f"{entry} {found.st_mode} {found.st_mtime_ns} {found.st_size} {found.st_ino}\n".encode())
    return digest.hexdigest()[:16]


def _walk(path: Path) -> Iterator[Path]:
    yield path.resolve() if path.is_symlink() else path
    for directory, names, files in os.walk(path):
        names.sort()
        for name in sorted(names) + sorted(files):
            yield Path(directory) / name
