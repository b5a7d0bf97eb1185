"""Keeps the files that a step asks to keep, and removes them when their time is over."""

import asyncio
import hashlib
import mimetypes
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from activities.pipelines.logs import LogPumps
from adapters.objects.base import LOG_SEGMENTS_PREFIX, Objects, artifact_key, step_id_of_segment
from adapters.sandbox.artifacts import (
    FILES_MAX,
    SIZE_BYTES_MAX,
    ArtifactRefused,
    FoundFile,
    find_artifacts,
    open_artifact,
)
from database.engine import Database
from database.models.pipelines import Pipeline
from database.store.pipelines.artifacts import (
    NewArtifact,
    artifact_id,
    artifacts_of_step,
    expired_artifacts,
    forget_artifacts,
    record_artifacts,
)
from database.store.pipelines.logs import unreferenced_steps
from domain.pipelines.plan import ArtifactRule, artifact_name

# Many small files are bound by the store's latency, large ones by its throughput; each open one costs a part of 8 MiB.
UPLOADS_AT_ONCE = 4
# A download that began before an artifact expired may take so long.
GRACE_SECONDS = 3600.0
EXPIRED_AT_ONCE = 500


@dataclass(frozen=True)
class Collected:
    """What came of the artifact rules of a step.

    Attributes:
        kept: Names of what is stored.
        refused: What was meant but cannot be kept, each with its reason.
        messages: All that the step's log should say, a line each.
    """

    kept: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    name: str
    file: FoundFile
    rule: ArtifactRule


@dataclass(frozen=True)
class ArtifactCollector:
    """Stores the artifacts of ended steps.

    Attributes:
        files_max: Per step.
        size_bytes_max: Per file.
    """

    database: Database
    objects: Objects
    files_max: int = FILES_MAX
    size_bytes_max: int = SIZE_BYTES_MAX

    async def collect(self, run: Pipeline, step_id: UUID, rules: Sequence[ArtifactRule], workspace: Path) -> Collected:
        """Stores what the rules mean. Again after a crash: the same rows, and nothing is uploaded twice.

        Raises:
            Unavailable: A store is away; what was stored so far is found again by the next call.
        """
        found = await asyncio.to_thread(
            find_artifacts,
            workspace,
            [rule.pattern for rule in rules],
            files_max=self.files_max,
            size_bytes_max=self.size_bytes_max,
        )
        wanted, refused = _named(found.files, rules)
        refused += [f"{file.path} was refused: it {file.reason}" for file in found.refused]
        async with self.database.transaction() as session:
            known = {artifact.name: artifact.sha256 for artifact in await artifacts_of_step(session, step_id)}
        places = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def store(one: _Wanted) -> NewArtifact | str:
            async with places:
                try:
                    return await self._store(run, step_id, one, workspace, known.get(one.name))
                except ArtifactRefused as refusal:
                    return f"{one.file.path} was refused: it {refusal}"

        # Each upload comes to its end before the first error is raised: none is left behind with an open file.
        outcomes = await asyncio.gather(*(store(one) for one in wanted), return_exceptions=True)
        stored: list[NewArtifact | str] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            stored.append(outcome)
        kept = [artifact for artifact in stored if isinstance(artifact, NewArtifact)]
        refused += [refusal for refusal in stored if isinstance(refusal, str)]
        async with self.database.transaction() as session:
            replaced = await record_artifacts(session, run.id, step_id, kept)
        await self.objects.delete(replaced)
        return Collected(
            kept=tuple(artifact.name for artifact in kept),
            refused=tuple(refused),
            messages=tuple(_messages(kept, refused, rules, [file.path for file in found.files])),
        )

    async def _store(
        self, run: Pipeline, step_id: UUID, wanted: _Wanted, workspace: Path, known_sha256: str | None
    ) -> NewArtifact:
        """Uploads one file under a key made of its content, so that what is recorded can never change."""
        content_type = mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
        with open_artifact(workspace, wanted.file.path) as file:
            sha256 = (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
            size_bytes = file.tell()
            key = artifact_key(run.project_id, run.id, artifact_id(step_id, wanted.name), sha256)
            if sha256 != known_sha256:
                file.seek(0)
                try:
                    ref = await self.objects.put_file(key, file, size_bytes=size_bytes, content_type=content_type)
                except OSError:
                    raise ArtifactRefused("became shorter while it was stored") from None
                if ref.sha256 != sha256:
                    await self.objects.delete([key])
                    raise ArtifactRefused("was changed while it was stored")
        return NewArtifact(
            name=wanted.name,
            object_key=key,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=sha256,
            expires_seconds=wanted.rule.expires_seconds,
        )


@dataclass(frozen=True)
class ArtifactExpiry:
    """Removes what nobody needs any more; safe to run again, and beside another of its kind."""

    database: Database
    objects: Objects
    logs: LogPumps

    async def expire(self) -> None:
        """Removes artifacts past their time, closes logs that were left open, removes pieces of closed logs.

        Raises:
            Unavailable: A store is away; the rest is done next time.
        """
        while await self._expire_artifacts() == EXPIRED_AT_ONCE:
            pass
        await self.logs.compact_left_open()
        await self._remove_segments()

    async def _expire_artifacts(self) -> int:
        async with self.database.transaction() as session:
            expired = await expired_artifacts(session, grace_seconds=GRACE_SECONDS, limit=EXPIRED_AT_ONCE)
        # Objects first: a row without its object is found again, an object without a row never would be.
        await self.objects.delete([artifact.minio_path for artifact in expired])
        async with self.database.transaction() as session:
            await forget_artifacts(session, expired)
        return len(expired)

    async def _remove_segments(self) -> None:
        """Objects of logs that are closed: the worker that closed them died before it could remove them."""
        keys = await self.objects.list_keys(LOG_SEGMENTS_PREFIX)
        steps = {key: step_id_of_segment(key) for key in keys}
        async with self.database.transaction() as session:
            unreferenced = await unreferenced_steps(session, set(steps.values()))
        await self.objects.delete([key for key in keys if steps[key] in unreferenced])


def _named(files: Sequence[FoundFile], rules: Sequence[ArtifactRule]) -> tuple[list[_Wanted], list[str]]:
    """Under which name each file is kept: that of the first rule that means it; each name once."""
    wanted: list[_Wanted] = []
    for file in files:
        names = ((artifact_name(rule, file.path), rule) for rule in rules)
        wanted += [_Wanted(name, file, rule) for name, rule in names if name is not None][:1]
    times = Counter(one.name for one in wanted)
    refused = [
        f"{one.file.path} was refused: it would be stored as {one.name!r}, like another file"
        for one in wanted
        if times[one.name] > 1
    ]
    return [one for one in wanted if times[one.name] == 1], refused


def _messages(
    kept: Sequence[NewArtifact], refused: Sequence[str], rules: Sequence[ArtifactRule], paths: Sequence[str]
) -> Iterable[str]:
    if kept:
        size_bytes = sum(artifact.size_bytes for artifact in kept)
        noun = "artifact" if len(kept) == 1 else "artifacts"
        yield f"perdure: kept {len(kept):,} {noun}, {size_bytes:,} bytes"
    for rule in rules:
        if not refused and not any(artifact_name(rule, path) is not None for path in paths):
            yield f"perdure: no file matches the artifact pattern {rule.pattern!r}"
    for refusal in refused:
        yield f"perdure: artifact {refusal}"


__all__ = ["ArtifactCollector", "ArtifactExpiry", "Collected"]
