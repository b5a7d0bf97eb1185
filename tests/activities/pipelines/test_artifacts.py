"""From the files of a workspace to artifacts, and to their end."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest
from sqlalchemy import text

from activities.pipelines.artifacts import ArtifactCollector, ArtifactExpiry
from activities.pipelines.logs import LogPumps
from adapters.bus.memory import MemoryBus
from adapters.objects.base import ObjectRef, log_segment_key
from adapters.objects.memory import MemoryObjects
from adapters.sandbox.dummy import DummySandboxes
from database.engine import Database
from database.models.pipelines import Artifact
from database.store.pipelines.artifacts import artifact_of, artifacts_of_run, artifacts_of_step
from database.store.pipelines.steps import end_step
from domain.errors import Unavailable
from domain.pipelines.plan import ArtifactRule
from domain.pipelines.status import StepStatus
from tests.support.audit import AUDIT_KEYS
from tests.support.eventually import eventually
from tests.support.log_step import LogStep
from tests.support.stack import Stack, TestDatabase

DAY = 86_400


@pytest.fixture(scope="module")
async def database(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    """One for all tests here: each has a run of its own."""
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def collector(database: Database, objects: MemoryObjects) -> ArtifactCollector:
    return ArtifactCollector(database=database, objects=objects)


@pytest.fixture
def expiry(database: Database, objects: MemoryObjects, tmp_path: Path) -> ArtifactExpiry:
    pumps = LogPumps(database=database, objects=objects, bus=MemoryBus(), sandboxes=DummySandboxes(tmp_path))
    return ArtifactExpiry(database=database, objects=objects, logs=pumps)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def rule(pattern: str, name: str | None = None, expires_seconds: int = DAY) -> ArtifactRule:
    return ArtifactRule(pattern=pattern, name=name, expires_seconds=expires_seconds)


async def rows(step: LogStep) -> list[Artifact]:
    async with step.database.transaction() as session:
        return await artifacts_of_step(session, step.id)


async def age(step: LogStep, seconds: float) -> None:
    """Lets the artifacts of a step be older."""
    statement = text("UPDATE artifacts SET expires_at = expires_at - make_interval(secs => :s) WHERE step_id = :id")
    async with step.database.transaction() as session:
        await session.execute(statement, {"s": seconds, "id": step.id})


async def test_what_is_refused_is_named_and_the_rest_is_kept(
    collector: ArtifactCollector, step: LogStep, workspace: Path
) -> None:
    (workspace / "good").write_bytes(b"good")
    (workspace / "bad").symlink_to("/etc/passwd")
    await asyncio.to_thread(os.mkfifo, workspace / "fifo")
    collected = await collector.collect(step.run, step.id, [rule("*")], workspace)
    assert collected.kept == ("good",)
    assert [refusal.partition(" was refused: it is a")[0] for refusal in collected.refused] == ["bad", "fifo"]
    assert collected.messages == (
        "perdure: kept 1 artifact, 4 bytes",
        *(f"perdure: artifact {refusal}" for refusal in collected.refused),
    )


async def test_two_files_for_one_name_are_both_refused(
    collector: ArtifactCollector, step: LogStep, workspace: Path
) -> None:
    (workspace / "a").mkdir()
    (workspace / "b").mkdir()
    (workspace / "a" / "x").write_bytes(b"1")
    (workspace / "b" / "x").write_bytes(b"2")
    collected = await collector.collect(step.run, step.id, [rule("a/*", "out"), rule("b/*", "out")], workspace)
    assert collected.kept == ()
    assert len(collected.refused) == 2
    assert await rows(step) == []


async def test_a_pattern_without_files_is_said_but_is_no_refusal(
    collector: ArtifactCollector, step: LogStep, workspace: Path
) -> None:
    collected = await collector.collect(step.run, step.id, [rule("dist/*.whl")], workspace)
    assert collected.refused == ()
    assert collected.messages == ("perdure: no file matches the artifact pattern 'dist/*.whl'",)
    missing = await collector.collect(step.run, step.id, [rule("dist/*.whl")], workspace / "missing")
    assert missing == collected


async def test_files_are_stored_with_what_a_download_needs(
    collector: ArtifactCollector, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    (workspace / "dist").mkdir()
    (workspace / "dist" / "report.html").write_bytes(b"<p>report</p>")
    (workspace / "empty").write_bytes(b"")
    collected = await collector.collect(step.run, step.id, [rule("dist", "site"), rule("empty")], workspace)
    assert (collected.kept, collected.refused) == (("site/report.html", "empty"), ())
    empty, report = await rows(step)
    assert (report.name, report.content_type, report.size_bytes) == ("site/report.html", "text/html", 13)
    assert report.sha256 == hashlib.sha256(b"<p>report</p>").hexdigest()
    assert objects.content[report.minio_path] == b"<p>report</p>"
    assert (empty.name, empty.content_type, empty.size_bytes) == ("empty", "application/octet-stream", 0)
    assert report.expires_at is not None
    assert (report.expires_at - report.created_at).total_seconds() == DAY
    async with step.database.transaction() as session:
        assert [artifact.id for artifact in await artifacts_of_run(session, step.run.id)] == [empty.id, report.id]
        assert await artifact_of(session, step.run.id, report.id) == report
        assert await artifact_of(session, step.id, report.id) is None


async def test_collecting_again_makes_no_second_artifact_and_uploads_nothing(
    collector: ArtifactCollector, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    (workspace / "a").write_bytes(b"a")
    first = await collector.collect(step.run, step.id, [rule("a")], workspace)
    before = await rows(step)
    objects.content[before[0].minio_path] = b"not touched"
    assert await collector.collect(step.run, step.id, [rule("a")], workspace) == first
    assert [row.model_dump() for row in await rows(step)] == [row.model_dump() for row in before]
    assert list(objects.content.values()) == [b"not touched"]


async def test_a_later_attempt_replaces_the_file_and_its_object(
    collector: ArtifactCollector, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    (workspace / "a").write_bytes(b"first")
    await collector.collect(step.run, step.id, [rule("a")], workspace)
    first = await rows(step)
    (workspace / "a").write_bytes(b"second")
    await collector.collect(step.run, step.id, [rule("a")], workspace)
    second = await rows(step)
    assert [row.id for row in second] == [row.id for row in first]
    assert second[0].sha256 == hashlib.sha256(b"second").hexdigest()
    assert objects.content == {second[0].minio_path: b"second"}


async def test_a_crash_between_upload_and_row_is_made_good_by_the_next_call(
    collector: ArtifactCollector, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    for number in range(10):
        (workspace / str(number)).write_bytes(b"%d" % number)
    collecting = asyncio.create_task(collector.collect(step.run, step.id, [rule("*")], workspace))
    await eventually(lambda: objects.content, interval_seconds=0)
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert await rows(step) == []
    collected = await collector.collect(step.run, step.id, [rule("*")], workspace)
    assert len(collected.kept) == 10
    assert sorted(objects.content) == sorted(row.minio_path for row in await rows(step))


async def test_an_outage_is_passed_on(
    collector: ArtifactCollector, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    (workspace / "a").write_bytes(b"a")
    objects.is_away = True
    with pytest.raises(Unavailable):
        await collector.collect(step.run, step.id, [rule("a")], workspace)
    objects.is_away = False
    assert (await collector.collect(step.run, step.id, [rule("a")], workspace)).kept == ("a",)


class WritingObjects(MemoryObjects):
    """Somebody writes to the file while it is uploaded."""

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__()
        self.path, self.new_content = path, content

    async def put_file(
        self, key: str, file: BinaryIO, *, size_bytes: int, content_type: str = "application/octet-stream"
    ) -> ObjectRef:
        self.path.write_bytes(self.new_content)
        return await super().put_file(key, file, size_bytes=size_bytes, content_type=content_type)


@pytest.mark.parametrize("content", [b"fresh", b"", b"much longer than before"])
async def test_a_file_that_changes_while_it_is_stored_is_refused(
    database: Database, step: LogStep, workspace: Path, content: bytes
) -> None:
    (workspace / "a").write_bytes(b"stale")
    objects = WritingObjects(workspace / "a", content)
    collector = ArtifactCollector(database=database, objects=objects)
    collected = await collector.collect(step.run, step.id, [rule("a")], workspace)
    assert collected.kept == ()
    assert "while it was stored" in collected.refused[0]
    assert objects.content == {}
    assert await rows(step) == []


async def test_what_has_expired_goes_after_a_grace_and_nothing_else(
    collector: ArtifactCollector, expiry: ArtifactExpiry, step: LogStep, workspace: Path, objects: MemoryObjects
) -> None:
    (workspace / "old").write_bytes(b"old")
    (workspace / "new").write_bytes(b"new")
    rules = [rule("old", expires_seconds=60), rule("new", expires_seconds=10 * DAY)]
    await collector.collect(step.run, step.id, rules, workspace)
    await age(step, 120)
    await expiry.expire()
    assert len(await rows(step)) == 2, "a download that began before may be under way"
    await age(step, DAY)
    objects.is_away = True
    with pytest.raises(Unavailable):
        await expiry.expire()
    objects.is_away = False
    assert len(await rows(step)) == 2, "a row goes after its object, so none is forgotten"
    await expiry.expire()
    await expiry.expire()
    assert [row.name for row in await rows(step)] == ["new"]
    assert list(objects.content.values()) == [b"new"]


async def test_pieces_of_closed_logs_are_swept_and_those_of_growing_ones_stay(
    expiry: ArtifactExpiry, step: LogStep, objects: MemoryObjects
) -> None:
    await step.begin(header="hello\n")
    orphan = log_segment_key(step.id, 0, "0" * 64)
    gone = log_segment_key(step.run.id, 0, "0" * 64)
    objects.content |= {orphan: b"orphan", gone: b"of a step that was deleted"}
    await expiry.expire()
    assert list(objects.content) == [orphan]
    async with step.database.transaction() as session:
        assert await end_step(session, step.id, StepStatus.CANCELLED)
        await session.execute(
            text("UPDATE pipeline_steps SET finished_at = now() - interval '1 hour' WHERE id = :id"), {"id": step.id}
        )
    await expiry.expire()
    row = await step.row()
    assert objects.content == {row.log_ref: b"hello\n"}
