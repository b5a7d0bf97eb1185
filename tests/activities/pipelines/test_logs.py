"""From a sandbox's output to the durable log, with every disturbance that can happen on the way."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from activities.pipelines.logs import OBJECT_BYTES, FinishedLog, LogPump, LogPumps, LogTaken
from adapters.bus.base import run_channel
from adapters.bus.memory import MemoryBus
from adapters.objects.base import LOG_SEGMENTS_PREFIX, PART_SIZE_BYTES_MIN
from adapters.objects.memory import MemoryObjects
from api.logs import read_log
from database.engine import Database
from database.store.pipelines.logs import read_plan
from domain.errors import NotFound, Unavailable
from tests.support.audit import AUDIT_KEYS
from tests.support.file_output import FileOutput
from tests.support.log_step import LogStep
from tests.support.stack import Stack, TestDatabase

MIB = 1024**2


@pytest.fixture(scope="module")
async def database(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    """One for all tests here: each has a run of its own."""
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


@pytest.fixture
def output(tmp_path: Path) -> FileOutput:
    return FileOutput(tmp_path)


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def pumps(database: Database, objects: MemoryObjects, output: FileOutput) -> LogPumps:
    return LogPumps(database=database, objects=objects, bus=MemoryBus(), sandboxes=output)


def noise(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)  # noqa: S311  # content, not a secret


async def attach(pumps: LogPumps, step: LogStep, attempt: int = 1) -> LogPump:
    return await pumps.attach(step.run, step.id, attempt, step.sandbox(attempt))


async def durable(pumps: LogPumps, step: LogStep) -> bytes:
    return b"".join([chunk async for chunk in read_log(pumps.database, pumps.objects, step.id)])


async def record(pumps: LogPumps, finished: FinishedLog) -> None:
    async with pumps.database.transaction() as session:
        await finished.record(session)
    await finished.clean_up()


async def test_a_pump_of_another_attempt_is_refused(pumps: LogPumps, step: LogStep) -> None:
    with pytest.raises(LogTaken):
        await attach(pumps, step, 1)  # It has not begun.
    await step.begin(1)
    with pytest.raises(LogTaken):
        await attach(pumps, step, 2)
    with pytest.raises(NotFound):
        await pumps.attach(step.run, step.run.id, 1, "nothing")


async def test_a_late_pump_of_the_attempt_before_changes_nothing(
    pumps: LogPumps, step: LogStep, output: FileOutput
) -> None:
    await step.begin(1)
    late = await attach(pumps, step, 1)
    output.write(step.sandbox(1), b"first\n")
    await late.drain()
    await step.begin(2, "attempt 2\n")
    output.write(step.sandbox(1), b"too late\n")
    output.write(step.sandbox(2), b"second\n")
    with pytest.raises(LogTaken):
        await late.drain()
    late_end = await late.finish(["late"])
    with pytest.raises(LogTaken):
        await record(pumps, late_end)
    pump = await attach(pumps, step, 2)
    await record(pumps, await pump.finish())
    assert await durable(pumps, step) == b"first\nattempt 2\nsecond\n"


async def test_two_pumps_of_one_attempt_never_double_a_byte(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    first, second = await attach(pumps, step), await attach(pumps, step)
    output.write(step.sandbox(), b"hello\n")
    await first.drain()
    with pytest.raises(LogTaken):
        await second.drain()
    with pytest.raises(LogTaken):
        await record(pumps, await second.finish(["from the second"]))
    assert await durable(pumps, step) == b"hello\n"
    await record(pumps, await first.finish())
    assert (await step.row()).log_size_bytes == 6


async def test_closing_twice_with_the_same_content_is_fine(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    output.write(step.sandbox(), b"hello\n")
    first, second = await attach(pumps, step), await attach(pumps, step)
    first_end, second_end = await first.finish(), await second.finish()
    await record(pumps, first_end)
    await record(pumps, second_end)
    assert await durable(pumps, step) == b"hello\n"
    with pytest.raises(LogTaken):
        await attach(pumps, step)
    output.write(step.sandbox(), b"more")
    with pytest.raises(LogTaken):
        await first.drain()


async def test_a_short_step_costs_one_put_and_no_segment(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    pump = await attach(pumps, step)
    output.write(step.sandbox(), b"hello\n")
    output.end(step.sandbox())
    await pump.advance()
    assert (await step.row()).log_size_bytes == 0, "the sandbox ended before the first flush"
    finished = await pump.finish(["perdure: the note"])
    await record(pumps, finished)
    content = b"hello\n\x1b[2mperdure: the note\x1b[0m\n"
    assert list(objects.content.values()) == [content]
    row = await step.row()
    assert (row.log_ref, row.log_sha256) == (finished.object_key, hashlib.sha256(content).hexdigest())
    assert (row.log_size_bytes, row.sandbox_log_offset) == (len(content), 6)
    assert await durable(pumps, step) == content


async def test_a_step_without_output_needs_no_object(pumps: LogPumps, step: LogStep, objects: MemoryObjects) -> None:
    await step.begin()
    await record(pumps, await (await attach(pumps, step)).finish())
    row = await step.row()
    assert (row.log_ref, row.log_sha256, row.log_size_bytes) == (None, hashlib.sha256(b"").hexdigest(), 0)
    assert objects.content == {}
    assert await durable(pumps, step) == b""


async def test_notes_begin_on_a_line_of_their_own(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    output.write(step.sandbox(), b"no newline")
    await (await attach(pumps, step)).drain()
    await record(pumps, await (await attach(pumps, step)).finish(["one", "two"]))
    assert await durable(pumps, step) == b"no newline\n\x1b[2mone\x1b[0m\n\x1b[2mtwo\x1b[0m\n"


async def test_the_first_bytes_are_durable_soon_and_the_bus_is_told(
    pumps: LogPumps, step: LogStep, output: FileOutput
) -> None:
    await step.begin()
    pump = await attach(pumps, step)
    async with pumps.bus.subscribe(run_channel(step.run.id)) as subscription:
        output.write(step.sandbox(), b"\x1b[31mred\x1b[0m\n")
        await pump.advance()
        assert await subscription.wait(timeout_seconds=1)
    assert await durable(pumps, step) == b"\x1b[31mred\x1b[0m\n"
    assert pump.sandbox_offset == 13


async def test_small_writes_are_collected(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    pump = await attach(pumps, step)

    async def chatter() -> None:
        for number in range(150):
            output.write(step.sandbox(), b"%d\n" % number)
            await asyncio.sleep(0.002)
        output.end(step.sandbox())

    writing = asyncio.create_task(chatter())
    while (await output.wait(step.sandbox(), log_offset=pump.sandbox_offset, timeout_seconds=5)).phase == "running":
        await pump.advance()
    await writing
    assert 1 <= len(await step.segments()) <= 20
    await record(pumps, await pump.finish())
    assert await durable(pumps, step) == b"".join(b"%d\n" % number for number in range(150))


async def test_a_backlog_becomes_objects_that_absorb_the_rows_before(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin(header="header\n")
    pump = await attach(pumps, step)
    data = noise(3 * OBJECT_BYTES + 1000)
    output.write(step.sandbox(), data[:300_000])
    await pump.advance()
    assert [segment.object_key for segment in await step.segments()] == [None, None, None]
    output.write(step.sandbox(), data[300_000:])
    await pump.advance()
    segments = await step.segments()
    assert [segment.object_key is not None for segment in segments] == [True, True, True] + [False] * (
        len(segments) - 3
    )
    assert all(segment.size_bytes >= PART_SIZE_BYTES_MIN for segment in segments[:3])
    assert await durable(pumps, step) == b"header\n" + data
    await record(pumps, await pump.finish())
    assert await durable(pumps, step) == b"header\n" + data
    assert await step.segments() == []
    assert [key for key in objects.content if key.startswith(LOG_SEGMENTS_PREFIX)] == []


async def test_many_rows_are_folded_into_an_object(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    pump = await attach(pumps, step)
    data = noise(7 * 900_000)
    for number in range(7):
        output.write(step.sandbox(), data[number * 900_000 : (number + 1) * 900_000])
        await pump.drain()
    segments = await step.segments()
    assert segments[0].object_key is not None
    assert segments[0].size_bytes >= PART_SIZE_BYTES_MIN
    assert await durable(pumps, step) == data


async def test_every_range_reads_right_while_the_log_grows_and_after(
    pumps: LogPumps, step: LogStep, output: FileOutput
) -> None:
    await step.begin(header="begin\n")
    data = noise(OBJECT_BYTES + 700_000)
    output.write(step.sandbox(), data)
    pump = await attach(pumps, step)
    await pump.drain()
    whole = b"begin\n" + data
    ranges = [(0, 1), (0, len(whole)), (5, 2), (OBJECT_BYTES, 20), (len(whole) - 1, 10), (len(whole), 10), (10**12, 1)]
    ranges += [(OBJECT_BYTES + 6 + 262_144 * k - 1, 3) for k in range(3)]
    for _ in range(2):
        for offset, size in ranges:
            part = b"".join([c async for c in read_log(pumps.database, pumps.objects, step.id, offset, size)])
            assert part == whole[offset : offset + size], (offset, size)
        if (await step.row()).log_sha256 is None:
            await record(pumps, await pump.finish())


async def test_a_reader_is_not_disturbed_by_the_closing(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    await step.begin()
    data = noise(2 * OBJECT_BYTES + 12_345)
    output.write(step.sandbox(), data)
    pump = await attach(pumps, step)
    await pump.drain()
    reader = read_log(pumps.database, pumps.objects, step.id)
    read = await anext(reader)
    await record(pumps, await pump.finish(["end"]))
    read += b"".join([chunk async for chunk in reader])
    assert read == data + b"\n\x1b[2mend\x1b[0m\n"


async def test_an_object_that_is_really_missing_is_an_error_and_no_loop(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    output.write(step.sandbox(), b"hello\n")
    await record(pumps, await (await attach(pumps, step)).finish())
    objects.content.clear()
    with pytest.raises(NotFound):
        await durable(pumps, step)


async def test_an_outage_of_the_store_is_passed_on_and_costs_no_byte(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    data = noise(OBJECT_BYTES + 100)
    pump = await attach(pumps, step)
    output.write(step.sandbox(), data)
    objects.is_away = True
    with pytest.raises(Unavailable):
        await pump.advance()
    with pytest.raises(Unavailable):
        await pump.finish()
    output.write(step.sandbox(), b"small")
    objects.is_away = False
    await record(pumps, await pump.finish(["end"]))
    assert await durable(pumps, step) == data + b"small\n\x1b[2mend\x1b[0m\n"


async def test_small_output_stays_live_while_the_object_store_is_away(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    objects.is_away = True
    pump = await attach(pumps, step)
    output.write(step.sandbox(), b"hello\n")
    await pump.advance()
    assert await durable(pumps, step) == b"hello\n"


async def test_a_clean_up_that_fails_is_left_to_the_sweep(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    output.write(step.sandbox(), noise(OBJECT_BYTES))
    finished = await (await attach(pumps, step)).finish()
    async with pumps.database.transaction() as session:
        await finished.record(session)
    objects.is_away = True
    await finished.clean_up()
    objects.is_away = False
    assert len(objects.content) == 2
    await finished.clean_up()
    assert list(objects.content) == [finished.object_key]


class Stars:
    """Masks one word and holds back what could be its beginning."""

    word = b"s3cr3t"

    def __init__(self) -> None:
        self._held = b""

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        masked = (self._held + data).replace(self.word, b"***")
        keep = next((n for n in range(len(self.word) - 1, 0, -1) if masked.endswith(self.word[:n])), 0)
        self._held = masked[len(masked) - keep :]
        return masked[: len(masked) - keep]

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return held


async def test_a_secret_is_masked_across_every_border(pumps: LogPumps, step: LogStep, output: FileOutput) -> None:
    pumps = replace(pumps, masker=Stars)
    raw = b"begin s3cr3t, s3cr3ts3cr3t s3cr s3cr3x end s3cr3t s3c"
    await step.begin()
    pump = await attach(pumps, step)
    for position, byte in enumerate(raw):
        output.write(step.sandbox(), bytes([byte]))
        await pump.advance()
        assert pump.sandbox_offset == position + 1
        if position % 3 == 0:
            pump = await attach(pumps, step)  # Another worker goes on, in the middle of a secret too.
        assert b"s3cr3t" not in await durable(pumps, step)
    await record(pumps, await pump.finish())
    assert await durable(pumps, step) == raw.replace(b"s3cr3t", b"***")
    assert (await step.row()).sandbox_log_offset == len(raw)


async def test_a_log_that_masking_makes_small_is_closed_all_the_same(
    pumps: LogPumps, step: LogStep, output: FileOutput
) -> None:
    pumps = replace(pumps, masker=Stars)
    raw = b"s3cr3t" * (2 * OBJECT_BYTES // 6)
    await step.begin()
    output.write(step.sandbox(), raw)
    pump = await attach(pumps, step)
    await pump.drain()
    await record(pumps, await pump.finish())
    assert await durable(pumps, step) == raw.replace(b"s3cr3t", b"***")


async def test_a_log_left_open_is_closed_later(
    pumps: LogPumps, step: LogStep, output: FileOutput, objects: MemoryObjects
) -> None:
    await step.begin()
    data = noise(OBJECT_BYTES + 10)
    output.write(step.sandbox(), data)
    await (await attach(pumps, step)).drain()
    await pumps.compact(await step.row())
    await pumps.compact(await step.row())
    row = await step.row()
    assert (row.log_size_bytes, row.log_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(objects.content) == [row.log_ref]
    assert await durable(pumps, step) == data


async def test_a_plan_of_a_step_that_is_gone_says_so(pumps: LogPumps, step: LogStep) -> None:
    with pytest.raises(NotFound):
        async with pumps.database.transaction() as session:
            await read_plan(session, step.run.id, 0, 10)
