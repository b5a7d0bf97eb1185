"""The repositories through the ``git`` binary; implements ``adapters.repositories.base.Repositories``."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from adapters.repositories import reading
from adapters.repositories.base import Branch, Commit, PushLock
from adapters.repositories.checkout import checkout
from adapters.repositories.evidence import push_identity, was_moved
from adapters.repositories.git_process import GitProcess, git_environment, run_git
from adapters.repositories.layout import FilePushLock, Layout, rename_new
from adapters.repositories.reading import CatFile, open_reader
from domain.errors import InvalidInput, NotFound
from domain.git.receive_pack import RefUpdate

SERVICES = ("git-upload-pack", "git-receive-pack")
_MAINTENANCE_TIMEOUT_SECONDS = 3600.0
_LEFT_BEHIND_SECONDS = 24 * 3600.0


class GitRepositories:
    """All repositories under one directory.

    Args:
        root: Where they lie; made if missing.
        object_size_bytes_max: A push with a larger object is refused.
        push_size_bytes_max: A push with a larger pack is refused.
    """

    def __init__(self, root: Path, *, object_size_bytes_max: int, push_size_bytes_max: int) -> None:
        self._layout = Layout.prepare(root)
        self._object_size_bytes_max = object_size_bytes_max
        self._push_size_bytes_max = push_size_bytes_max

    def path(self, project_id: UUID) -> Path:
        """Where the project's repository lies, whether it is there or not."""
        return self._layout.repository(project_id)

    def exists(self, project_id: UUID) -> bool:
        """See ``Repositories.exists``."""
        return (self.path(project_id) / "HEAD").exists()

    async def ensure(self, project_id: UUID, *, default_branch: str) -> None:
        """See ``Repositories.ensure``."""
        repository = self.path(project_id)
        head = repository / "HEAD"
        wanted = f"ref: refs/heads/{default_branch}\n"
        if not head.exists():
            await self._make(repository)
        if head.read_text(encoding="utf-8") != wanted:
            await self._git(repository, "symbolic-ref", "HEAD", f"refs/heads/{default_branch}")

    async def remove(self, project_id: UUID) -> None:
        """See ``Repositories.remove``."""
        gone = self._layout.new_directory()
        try:
            self.path(project_id).rename(gone)
        except FileNotFoundError:
            return
        await asyncio.to_thread(shutil.rmtree, gone)

    async def advertise(self, project_id: UUID | None, service: str, *, protocol: str | None) -> GitProcess:
        """See ``Repositories.advertise``."""
        if service not in SERVICES:
            raise InvalidInput(f"There is no git service {service[:80]!r}.")
        if project_id is None:
            repository = self._layout.empty_repository
            if not repository.exists():
                await self._make(repository)
        else:
            repository = self._repository(project_id)
        arguments = [service.removeprefix("git-"), "--stateless-rpc", "--advertise-refs", str(repository)]
        return GitProcess(arguments, environment=self._environment(_protocol(protocol)))

    def serve_fetch(self, project_id: UUID, *, protocol: str | None) -> GitProcess:
        """See ``Repositories.serve_fetch``."""
        arguments = ["upload-pack", "--stateless-rpc", "--strict", str(self._repository(project_id))]
        return GitProcess(arguments, environment=self._environment(_protocol(protocol)))

    def serve_push(
        self, project_id: UUID, *, push_id: UUID, lock: PushLock, protected_refs: Sequence[str]
    ) -> GitProcess:
        """See ``Repositories.serve_push``."""
        limit = f"receive.maxInputSize={self._push_size_bytes_max}"
        environment = self._environment(
            {
                **push_identity(push_id),
                "PERDURE_PROTECTED_REFS": " ".join(protected_refs),
                "PERDURE_OBJECT_SIZE_BYTES_MAX": str(self._object_size_bytes_max),
            }
        )
        return GitProcess(
            ["-c", limit, "receive-pack", "--stateless-rpc", str(self._repository(project_id))],
            environment=environment,
            inherited_fds=(lock.fd,),
        )

    def lock_push(self, push_id: UUID) -> FilePushLock | None:
        """See ``Repositories.lock_push``."""
        return FilePushLock.take(self._layout.lock(push_id))

    def discard_locks(self, *, unused_seconds: float, keep: frozenset[UUID]) -> None:
        """See ``Repositories.discard_locks``."""
        before = time.time() - unused_seconds
        for path in self._layout.locks():
            push_id = UUID(path.name)
            with contextlib.suppress(FileNotFoundError):  # settled just now
                if push_id in keep or path.stat().st_mtime > before:
                    continue
                lock = self.lock_push(push_id)
                if lock is not None:
                    lock.remove()

    def moved_updates(self, project_id: UUID, push_id: UUID, updates: Sequence[RefUpdate]) -> list[bool]:
        """See ``Repositories.moved_updates``."""
        repository = self.path(project_id)
        return [was_moved(repository, push_id, update) for update in updates]

    @contextlib.asynccontextmanager
    async def reader(self, project_id: UUID) -> AsyncIterator[CatFile]:
        """See ``Repositories.reader``."""
        async with open_reader(self._repository(project_id), self._environment()) as reader:
            yield reader

    async def branches(self, project_id: UUID, *, limit: int = 200) -> list[Branch]:
        """See ``Repositories.branches``."""
        return await reading.branches(self._repository(project_id), self._environment(), limit=limit)

    async def commits(self, project_id: UUID, commit_sha: str, *, skip: int = 0, limit: int = 50) -> list[Commit]:
        """See ``Repositories.commits``."""
        repository = self._repository(project_id)
        return await reading.commits(repository, self._environment(), commit_sha, skip=skip, limit=limit)

    async def changed_paths(
        self, project_id: UUID, old_sha: str, new_sha: str, *, limit: int = 3000
    ) -> tuple[str, ...] | None:
        """See ``Repositories.changed_paths``."""
        repository = self._repository(project_id)
        return await reading.changed_paths(repository, self._environment(), old_sha, new_sha, limit=limit)

    async def is_ancestor(self, project_id: UUID, older_sha: str, newer_sha: str) -> bool:
        """See ``Repositories.is_ancestor``."""
        return await reading.is_ancestor(self._repository(project_id), self._environment(), older_sha, newer_sha)

    async def checkout(self, project_id: UUID, commit_sha: str, into: Path) -> None:
        """See ``Repositories.checkout``."""
        await checkout(self._repository(project_id), self._environment(), commit_sha, into)

    async def packed_size_bytes(self, project_id: UUID) -> int:
        """See ``Repositories.packed_size_bytes``."""
        packs = self._repository(project_id) / "objects" / "pack"
        return await asyncio.to_thread(lambda: sum(path.stat().st_size for path in packs.glob("*.pack")))

    async def crowded(self, *, packs_min: int, limit: int) -> list[UUID]:
        """See ``Repositories.crowded``."""
        return await asyncio.to_thread(self._crowded, packs_min, limit)

    def _crowded(self, packs_min: int, limit: int) -> list[UUID]:
        counted = [
            (sum(1 for _ in path.glob("objects/pack/*.pack")), path.name) for path in self._layout.repositories()
        ]
        counted.sort(reverse=True)
        return [UUID(name.removesuffix(".git")) for count, name in counted[:limit] if count >= packs_min]

    async def maintain(self, project_id: UUID) -> None:
        """See ``Repositories.maintain``."""
        repository = self._repository(project_id)
        slow = {"timeout_seconds": _MAINTENANCE_TIMEOUT_SECONDS}
        await self._git(repository, "pack-refs", "--all", "--prune", **slow)
        # Geometric: each run rewrites only as much as came in since, so the cost of many pushes stays linear.
        repack = ("repack", "-q", "-d", "-l", "--geometric=2", "--write-midx", "--write-bitmap-index")
        await self._git(repository, *repack, **slow)
        await self._git(repository, "prune", "--expire=2.weeks.ago", **slow)
        await asyncio.to_thread(self._remove_left_behind, repository)

    def _remove_left_behind(self, repository: Path) -> None:
        """Quarantines whose git was killed. One day old: no push lives that long."""
        before = time.time() - _LEFT_BEHIND_SECONDS
        for quarantine in (repository / "objects").glob("*incoming-*"):
            if quarantine.stat().st_mtime < before:
                shutil.rmtree(quarantine)

    async def _make(self, target: Path) -> None:
        making = self._layout.new_directory()
        await run_git(["init", "-q", "--bare", "--template=", str(making)], environment=self._environment())
        await asyncio.to_thread(rename_new, making, target)

    async def _git(self, repository: Path, *arguments: str, timeout_seconds: float = 60.0) -> None:
        await run_git(
            ["--git-dir", str(repository), *arguments],
            environment=self._environment(),
            timeout_seconds=timeout_seconds,
        )

    def _repository(self, project_id: UUID) -> Path:
        if not self.exists(project_id):
            raise NotFound("The project has no repository yet; push to it first.")
        return self.path(project_id)

    def _environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return git_environment(self._layout.config, extra)


def _protocol(header: str | None) -> dict[str, str]:
    """``Git-Protocol`` as git wants it; anything but the known versions is not handed on."""
    if header is None:
        return {}
    versions = [part for part in header.split(":") if part in ("version=0", "version=1", "version=2")]
    return {"GIT_PROTOCOL": ":".join(versions)} if versions else {}
