"""Reads objects and history through git processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from adapters.repositories.base import Branch, Commit, Resolved, TreeEntry
from adapters.repositories.git_process import TIMEOUT_SECONDS, GitFailed, GitProcess, run_git
from domain.errors import InvalidInput, NotFound, TooLarge
from domain.git.refs import BRANCH_PREFIX, TAG_PREFIX, ZERO_SHA, is_sha, revision_problem

_KINDS = {"40000": "tree", "120000": "link", "160000": "submodule"}
_OBJECT_SIZE_BYTES_MAX = 4 * 1024**2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RAW_SHA_SIZE_BYTES = 20


def _checked(sha: str) -> str:
    if not is_sha(sha):
        raise InvalidInput(f"{sha[:80]!r} is not the full id of an object (40 hex digits).")
    return sha


class CatFile:
    """``adapters.repositories.base.ObjectReader`` over ``git cat-file --batch``."""

    def __init__(self, process: GitProcess) -> None:
        self._process = process
        self._buffer = bytearray()

    async def commit(self, sha: str) -> Commit | None:
        """See ``ObjectReader.commit``."""
        return await self._commit(_checked(sha))

    async def resolve(self, revision: str) -> Resolved:
        """See ``ObjectReader.resolve``."""
        problem = revision_problem(revision)
        if problem is not None:
            raise InvalidInput(f"{revision[:200]!r} is no branch, tag or commit: it {problem}.")
        refs: tuple[str | None, ...]
        if is_sha(revision):
            refs = (None,)
        elif revision.startswith("refs/"):
            refs = (revision,)
        else:
            refs = (BRANCH_PREFIX + revision, TAG_PREFIX + revision)
        for ref in refs:
            commit = await self._commit(ref or revision)
            if commit is not None:
                return Resolved(ref, commit)
        raise NotFound(f"There is no branch, tag or commit {revision[:200]!r}.")

    async def tree(self, commit_sha: str, directory: str = "") -> list[TreeEntry]:
        """See ``ObjectReader.tree``."""
        if "\n" in directory:
            raise InvalidInput("The name of a directory may not hold a line break.")
        name = f"{_checked(commit_sha)}:{directory}"
        found = await self._ask(name, size_bytes_max=_OBJECT_SIZE_BYTES_MAX, kind="tree")
        return [] if found is None else list(_parse_tree(found[1]))

    async def blob(self, sha: str, *, size_bytes_max: int) -> bytes:
        """See ``ObjectReader.blob``."""
        found = await self._ask(_checked(sha), size_bytes_max=size_bytes_max, kind="blob")
        if found is None:
            raise NotFound(f"There is no file with the id {sha}.")
        return found[1]

    async def _commit(self, name: str) -> Commit | None:
        found = await self._ask(f"{name}^{{commit}}", size_bytes_max=_OBJECT_SIZE_BYTES_MAX)
        return None if found is None else _parse_commit(found[0], found[1])

    async def _ask(self, name: str, *, size_bytes_max: int, kind: str | None = None) -> tuple[str, bytes] | None:
        """One object's id and content. One that is too large is read past, so that the next question works."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._process.write(name.encode() + b"\n")
            header = await self._line()
            parts = header.rsplit(" ", 2)
            if len(parts) != 3 or not parts[2].isdigit():  # noqa: PLR2004  # "id kind size", else "name missing"
                return None
            sha, found_kind, size_bytes = parts[0], parts[1], int(parts[2])
            if size_bytes > size_bytes_max:
                await self._skip(size_bytes + 1)
                raise TooLarge(f"The {found_kind} {sha} has {size_bytes} bytes; the limit here is {size_bytes_max}.")
            content = (await self._take(size_bytes + 1))[:-1]
        return None if kind is not None and found_kind != kind else (sha, content)

    async def _more(self) -> None:
        data = await self._process.read()
        if not data:
            await self._process.wait()
            raise GitFailed(f"git cat-file ended early: {self._process.complaint or 'no message'}")
        self._buffer += data

    async def _line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            await self._more()
        return (await self._take(end + 1))[:-1].decode("utf-8", "replace")

    async def _take(self, size_bytes: int) -> bytes:
        while len(self._buffer) < size_bytes:
            await self._more()
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken

    async def _skip(self, size_bytes: int) -> None:
        while len(self._buffer) < size_bytes:
            size_bytes -= len(self._buffer)
            self._buffer.clear()
            await self._more()
        del self._buffer[:size_bytes]


@asynccontextmanager
async def open_reader(repository: Path, environment: Mapping[str, str]) -> AsyncIterator[CatFile]:
    """A reader, with its process ended at the end of the block."""
    process = GitProcess(["--git-dir", str(repository), "cat-file", "--batch"], environment=environment)
    try:
        yield CatFile(process)
    finally:
        await process.stop()


def _moment(seconds: str, zone: str) -> datetime:
    """A date of git; one that no calendar has (there are such commits) is shown as the epoch."""
    try:
        offset = datetime.strptime(zone, "%z").tzinfo
        return datetime.fromtimestamp(int(seconds), tz=offset)
    except (ValueError, OverflowError, OSError):
        return _EPOCH


def _parse_commit(sha: str, raw: bytes) -> Commit:
    # A NUL, which git lets pass with a warning, can neither be stored nor shown.
    head, _, message = raw.decode("utf-8", "replace").replace("\0", " ").partition("\n\n")
    parents: list[str] = []
    author = ""
    for line in head.split("\n"):
        if line.startswith("parent "):
            parents.append(line.removeprefix("parent "))
        elif line.startswith("author "):
            author = line.removeprefix("author ")
    name, _, rest = author.partition(" <")
    email, _, dated = rest.partition("> ")
    seconds, _, zone = dated.partition(" ")
    return Commit(
        sha=sha,
        title=message.split("\n", 1)[0].strip(),
        message=message,
        author_name=name,
        author_email=email,
        authored_at=_moment(seconds, zone),
        parents=tuple(parents),
    )


def _parse_tree(raw: bytes) -> Iterator[TreeEntry]:
    position = 0
    while position < len(raw):
        end = raw.index(b"\0", position)
        mode, _, name = raw[position:end].partition(b" ")
        sha = raw[end + 1 : end + 1 + _RAW_SHA_SIZE_BYTES].hex()
        kind = _KINDS.get(mode.decode("ascii", "replace"), "blob")
        yield TreeEntry(name=name.decode("utf-8", "replace"), kind=kind, sha=sha)
        position = end + 1 + _RAW_SHA_SIZE_BYTES


async def commits(
    repository: Path, environment: Mapping[str, str], commit_sha: str, *, skip: int, limit: int
) -> list[Commit]:
    """See ``Repositories.commits``."""
    arguments = [
        "--git-dir",
        str(repository),
        "rev-list",
        f"--skip={skip}",
        f"--max-count={limit}",
        _checked(commit_sha),
    ]
    _, output = await run_git(arguments, environment=environment)
    async with open_reader(repository, environment) as reader:
        found = [await reader.commit(sha) for sha in output.decode("ascii").split()]
    return [commit for commit in found if commit is not None]


async def branches(repository: Path, environment: Mapping[str, str], *, limit: int) -> list[Branch]:
    """See ``Repositories.branches``."""
    arguments = ["--git-dir", str(repository), "for-each-ref", "--sort=-committerdate", f"--count={limit}"]
    arguments += ["--format=%(objectname) %(refname)", BRANCH_PREFIX]
    _, output = await run_git(arguments, environment=environment)
    found: list[Branch] = []
    async with open_reader(repository, environment) as reader:
        for line in output.decode("utf-8", "replace").splitlines():
            sha, _, ref = line.partition(" ")
            commit = await reader.commit(sha)
            if commit is not None:
                found.append(Branch(name=ref.removeprefix(BRANCH_PREFIX), commit=commit))
    return found


async def changed_paths(
    repository: Path, environment: Mapping[str, str], old_sha: str, new_sha: str, *, limit: int
) -> tuple[str, ...] | None:
    """See ``Repositories.changed_paths``; stops reading as soon as there are too many."""
    if ZERO_SHA in (old_sha, new_sha):
        return None
    arguments = ["--git-dir", str(repository), "diff-tree", "-r", "-z", "--name-only", "--no-renames"]
    process = GitProcess([*arguments, _checked(old_sha), _checked(new_sha)], environment=environment)
    output = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while piece := await process.read():
                output += piece
                if output.count(b"\0") > limit:
                    return None
            code = await process.wait()
    except TimeoutError:
        return None
    finally:
        await process.stop()
    if code != 0:
        raise GitFailed(f"git diff-tree failed: {process.complaint or 'no message'}", details={"exit_code": code})
    return tuple(name.decode("utf-8", "replace") for name in bytes(output).split(b"\0")[:-1])


async def is_ancestor(repository: Path, environment: Mapping[str, str], older_sha: str, newer_sha: str) -> bool:
    """See ``Repositories.is_ancestor``."""
    arguments = ["--git-dir", str(repository), "merge-base", "--is-ancestor", _checked(older_sha), _checked(newer_sha)]
    code, _ = await run_git(arguments, environment=environment, exit_codes=(0, 1))
    return code == 0
