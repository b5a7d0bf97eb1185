"""Where things lie under the root of the repositories, and the configuration that holds for all of them.

<root>/<first two digits>/<project id>.git   the bare repositories
<root>/empty.git                             what a project advertises that does not exist yet
<root>/locks/<push id>                       a lock per push that is not settled
<root>/new/                                  repositories in the making, renamed when complete
<root>/shared/<digest>/                      configuration and hooks; a new release writes a new directory
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

_HOOK = Path(__file__).parent / "hooks" / "pre-receive"

# One file for all repositories, so that a change reaches the old ones too. What needs a reason:
_CONFIG = """\
[core]
    hooksPath = {hooks}
    logAllRefUpdates = always
    # What was acknowledged survives a power cut, also where git's own default would leave it to chance.
    fsync = committed
[safe]
    # The repositories are ours, whoever owns the files (a volume of a container).
    directory = *
[receive]
    advertisePushOptions = true
    # A push never waits for housekeeping; ``maintain`` does it.
    autogc = false
    fsckObjects = true
    # Every push stays the pack that came: unpacking a few large files and packing them again for each clone costs
    # minutes, and making many small files durable costs more than one. ``maintain`` joins the packs.
    unpackLimit = 1
    # Decided before git runs, with a reason that names the policy.
    denyDeleteCurrent = ignore
[receive "fsck"]
    # Found in old histories that are well known and whole.
    badTimezone = ignore
    missingSpaceBeforeDate = ignore
    zeroPaddedFilemode = ignore
[uploadpack]
    allowFilter = true
    allowAnySHA1InWant = true
[gc]
    auto = 0
[maintenance]
    auto = false
[init]
    defaultBranch = main
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under ``root``; ``prepare`` makes them."""

    root: Path
    config: Path

    @classmethod
    def prepare(cls, root: Path) -> "Layout":
        """Makes the directories, the configuration and the hooks; whatever is there already stays."""
        root = root.absolute()
        for directory in (root, root / "locks", root / "new", root / "shared"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        hook = _HOOK.read_bytes()
        digest = hashlib.sha256(_CONFIG.encode() + hook).hexdigest()[:16]
        shared = root / "shared" / digest
        if not shared.exists():
            making = root / "new" / str(uuid4())
            (making / "hooks").mkdir(parents=True)
            # Written with its mode here, because git passes over a hook that an installer made not executable.
            (making / "hooks" / "pre-receive").write_bytes(hook)
            (making / "hooks" / "pre-receive").chmod(0o755)
            (making / "gitconfig").write_text(_CONFIG.format(hooks=shared / "hooks"))
            rename_new(making, shared)
        return cls(root=root, config=shared / "gitconfig")

    def repository(self, project_id: UUID) -> Path:
        """The bare repository of a project."""
        return self.root / str(project_id)[:2] / f"{project_id}.git"

    @property
    def empty_repository(self) -> Path:
        """A repository without refs."""
        return self.root / "empty.git"

    def lock(self, push_id: UUID) -> Path:
        """The lock file of a push."""
        return self.root / "locks" / str(push_id)

    def repositories(self) -> list[Path]:
        """Every project's repository."""
        return [path for path in self.root.glob("[0-9a-f][0-9a-f]/*.git") if path.is_dir()]

    def locks(self) -> list[Path]:
        """Every lock file."""
        return list((self.root / "locks").iterdir())

    def new_directory(self) -> Path:
        """A name for something in the making."""
        return self.root / "new" / str(uuid4())


def rename_new(made: Path, target: Path) -> None:
    """Moves a complete directory to its place; if another was faster, theirs stays and ours goes."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(made)
        return
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class FilePushLock:
    """``adapters.repositories.base.PushLock`` by ``flock(2)``.

    The lock belongs to the open file, which the processes that inherit it share: it is free when the last of them is
    gone, however they ended.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def take(cls, path: Path) -> "FilePushLock | None":
        """Takes the lock, or returns ``None`` at once if it is held."""
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            # The holder before us may have removed the file between our opening and our locking of it.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    return cls(path, fd)
            os.close(fd)

    @property
    def fd(self) -> int:
        """See ``PushLock.fd``."""
        return self._fd

    def close(self) -> None:
        """See ``PushLock.close``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """See ``PushLock.remove``."""
        self._path.unlink(missing_ok=True)
        self.close()
