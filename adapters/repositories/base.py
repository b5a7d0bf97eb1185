"""The protocol of the repositories on disk: one bare git repository per project, found by the project's id.

Writes are made by ``git receive-pack`` alone, which ``serve_push`` starts; everything else reads. Git itself keeps the
evidence of a push: the reflog entry of every ref that it moved carries the id of the push (see ``moved_updates``), so
what happened can be told at any later time, whoever was killed meanwhile.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from domain.git.receive_pack import RefUpdate


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit.

    Attributes:
        title: The first line of the message.
        message: The whole message, its title included.
        authored_at: By the author's clock, with the author's offset.
    """

    sha: str
    title: str
    message: str
    author_name: str
    author_email: str
    authored_at: datetime
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch and its newest commit."""

    name: str
    commit: Commit


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name in a directory of a commit; ``kind`` is ``blob``, ``tree``, ``link`` or ``submodule``."""

    name: str
    kind: str
    sha: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name for a revision stands for; ``ref`` is ``None`` where a commit's id was given."""

    ref: str | None
    commit: Commit


class ObjectReader(Protocol):
    """Reads objects of one repository through one git process."""

    async def commit(self, sha: str) -> Commit | None:
        """The commit, also through an annotated tag; ``None`` if there is none of this id."""
        ...

    async def resolve(self, revision: str) -> Resolved:
        """Finds a branch, tag, full ref or full commit id (a branch before a tag of the same name).

        Raises:
            InvalidInput: ``revision`` is an option or an expression, not a name.
            NotFound: There is nothing of this name.
        """
        ...

    async def tree(self, commit_sha: str, directory: str = "") -> list[TreeEntry]:
        """The names in a directory, sorted as git does; empty if there is no such directory."""
        ...

    async def blob(self, sha: str, *, size_bytes_max: int) -> bytes:
        """A file's content.

        Raises:
            NotFound: There is no such file.
            TooLarge: It is longer than ``size_bytes_max``.
        """
        ...


class PushLock(Protocol):
    """The lock of one push. While any copy of it is open (ours, git's, its children's) nobody else gets it."""

    @property
    def fd(self) -> int:
        """To be inherited by git."""
        ...

    def close(self) -> None:
        """Closes our copy. Closing twice is fine."""
        ...

    def remove(self) -> None:
        """Removes the lock for good, for a push that is settled, and closes it."""
        ...


class GitStream(Protocol):
    """A git process that speaks over two pipes.

    Whoever gets one must end it with ``stop`` in every case, when no ``read`` or ``write`` is under way any more.
    """

    async def write(self, data: bytes) -> bool:
        """Hands bytes to git and waits while it is busy; ``False`` if git no longer listens."""
        ...

    def close_input(self) -> None:
        """Tells git that nothing more comes."""
        ...

    async def read(self) -> bytes:
        """What git says next, at most 1 MiB; empty at the end."""
        ...

    def terminate(self) -> None:
        """Asks the whole process group to end now; ``read`` then comes to its end. ``stop`` is still needed."""
        ...

    async def wait(self) -> int:
        """Waits for the end: the exit code, negative for a signal."""
        ...

    async def stop(self) -> None:
        """Ends the whole process group if it still runs, and waits for that. Stopping twice is fine."""
        ...

    @property
    def complaint(self) -> str:
        """The end of what git wrote to standard error."""
        ...


class Repositories(Protocol):
    """The repositories. Methods raise ``NotFound`` for a project without one, and ``GitFailed`` if git fails."""

    async def ensure(self, project_id: UUID, *, default_branch: str) -> None:
        """Makes the repository if it is missing and points ``HEAD`` at the default branch.

        Idempotent and safe to be killed: a repository appears complete or not at all.
        """
        ...

    def exists(self, project_id: UUID) -> bool:
        """Whether the project has a repository."""
        ...

    async def remove(self, project_id: UUID) -> None:
        """Removes the repository; one that is not there is fine."""
        ...

    async def advertise(self, project_id: UUID | None, service: str, *, protocol: str | None) -> GitStream:
        """Starts the listing of refs and capabilities for ``git-upload-pack`` or ``git-receive-pack``.

        Args:
            project_id: ``None`` for a project that does not exist yet: an empty repository's advertisement.
            service: ``git-upload-pack`` or ``git-receive-pack``.
            protocol: The client's ``Git-Protocol`` header, for instance ``version=2``.
        """
        ...

    def serve_fetch(self, project_id: UUID, *, protocol: str | None) -> GitStream:
        """Starts ``git upload-pack`` for one request."""
        ...

    def serve_push(
        self, project_id: UUID, *, push_id: UUID, lock: PushLock, protected_refs: Sequence[str]
    ) -> GitStream:
        """Starts ``git receive-pack`` for one request; it and its children inherit the lock."""
        ...

    def lock_push(self, push_id: UUID) -> PushLock | None:
        """Takes the lock of a push; ``None`` if somebody (a ``git receive-pack`` for instance) has it."""
        ...

    def discard_locks(self, *, unused_seconds: float, keep: frozenset[UUID]) -> None:
        """Removes locks that were left by pushes which never came to be; never one that is held or in ``keep``."""
        ...

    def moved_updates(self, project_id: UUID, push_id: UUID, updates: Sequence[RefUpdate]) -> list[bool]:
        """For each update, whether this push really moved the ref. To be asked with the push's lock in hand.

        The evidence is the reflog. A deletion takes the reflog along, so a deletion counts as moved when the ref is
        gone, and what a push did to a ref must be noted before a later push may delete it.
        """
        ...

    def reader(self, project_id: UUID) -> AbstractAsyncContextManager[ObjectReader]:
        """Opens a reader of objects."""
        ...

    async def branches(self, project_id: UUID, *, limit: int = 200) -> list[Branch]:
        """Branches, the one with the newest commit first."""
        ...

    async def commits(self, project_id: UUID, commit_sha: str, *, skip: int = 0, limit: int = 50) -> list[Commit]:
        """History from a commit on, newest first."""
        ...

    async def changed_paths(
        self, project_id: UUID, old_sha: str, new_sha: str, *, limit: int = 3000
    ) -> tuple[str, ...] | None:
        """Paths that differ between two commits; ``None`` (unknown) for more than ``limit`` or no old commit."""
        ...

    async def is_ancestor(self, project_id: UUID, older_sha: str, newer_sha: str) -> bool:
        """Whether ``newer_sha`` was reached from ``older_sha`` by going forward."""
        ...

    async def checkout(self, project_id: UUID, commit_sha: str, into: Path) -> None:
        """Puts the files of a commit into ``into`` with a ``.git`` of its own (depth 1), sharing nothing with us.

        Repeating it starts over: what is in ``into`` is replaced.
        """
        ...

    async def packed_size_bytes(self, project_id: UUID) -> int:
        """What its packs take on disk, which bounds the work of a checkout.

        Raises:
            NotFound: The project has no repository.
        """
        ...

    async def crowded(self, *, packs_min: int, limit: int) -> list[UUID]:
        """Projects whose repository has at least ``packs_min`` packs, the most crowded first."""
        ...

    async def maintain(self, project_id: UUID) -> None:
        """Packs what pushes left loose, removes what dead pushes left behind. For a schedule; never during a push."""
        ...
