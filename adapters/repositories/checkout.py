"""Puts a commit's files into a workspace with a ``.git`` of its own.

Two git processes instead of the five of ``init``, ``fetch --depth=1`` and ``checkout``: the objects of the one commit
are packed straight into the new ``.git``, without the search for deltas, and then read from there. Nothing is linked
to or borrowed from our repository, which a step could otherwise corrupt.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from adapters.repositories.git_process import run_git
from adapters.threads import run_in_thread
from domain.errors import InvalidInput
from domain.git.refs import is_sha

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""
_TIMEOUT_SECONDS = 600.0


def _lay_out(into: Path, commit_sha: str) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for entry in into.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    git = into / ".git"
    # What git itself asks for and what scripts write into; git makes the others when it needs them.
    for directory in ("objects/pack", "refs", "info"):
        (git / directory).mkdir(parents=True)
    (git / "config").write_text(_CONFIG)
    (git / "HEAD").write_text(f"{commit_sha}\n")
    # The commit is where history ends here (gitformat-shallow): its parents are not expected.
    (git / "shallow").write_text(f"{commit_sha}\n")


async def checkout(repository: Path, environment: Mapping[str, str], commit_sha: str, into: Path) -> None:
    """See ``Repositories.checkout``.

    Raises:
        InvalidInput: Not a commit's id.
        GitFailed: There is no such commit, or the disk is full.
    """
    if not is_sha(commit_sha):
        raise InvalidInput(f"{commit_sha[:80]!r} is not the full id of a commit (40 hex digits).")
    await run_in_thread(_lay_out, into, commit_sha)
    # A workspace is made again if it is lost, so nothing waits for the disk.
    pack = [
        "--git-dir",
        str(repository),
        "-c",
        "core.fsync=none",
        "-c",
        "pack.compression=1",
        "-c",
        "pack.writeReverseIndex=false",
        "pack-objects",
        "-q",
        "--revs",
        "--shallow",
    ]
    await run_git(
        [*pack, "--window=0", "--threads=1", str(into / ".git" / "objects" / "pack" / "pack")],
        environment=environment,
        stdin=f"--shallow {commit_sha}\n{commit_sha}\n".encode(),
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    await run_git(
        ["--git-dir", str(into / ".git"), "--work-tree", str(into), "read-tree", "--reset", "-u", "HEAD"],
        environment=environment,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
