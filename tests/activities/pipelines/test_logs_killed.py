"""Pumping processes are killed, servers too; the log is the output, byte for byte (promise D2)."""

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from activities.pipelines.logs import LogPumps
from adapters.bus.memory import MemoryBus
from adapters.bus.valkey import ValkeyBus
from adapters.objects.base import LOG_SEGMENTS_PREFIX
from adapters.objects.s3 import S3Objects
from api.logs import read_log
from database.engine import Database
from domain.errors import Unavailable
from tests.support.eventually import eventually
from tests.support.file_output import FileOutput
from tests.support.forked import ended
from tests.support.log_step import LogStep
from tests.support.objects import s3_objects
from tests.support.pump_process import PumpOrder, pump_to_the_end, start_pumping
from tests.support.stack import Stack, TestDatabase

MIB = 1024**2
KILLS_WHILE_PRINTING = 15
KILLS_WHILE_CLOSING = 4
END = b"\x1b[2mthe end\x1b[0m\n"


@pytest.fixture
async def objects(idle_stack: Stack) -> AsyncIterator[S3Objects]:
    objects = await s3_objects(idle_stack)
    yield objects
    await objects.close()


@pytest.fixture
async def step(step: LogStep) -> LogStep:
    await step.begin(header="the beginning\n")
    return step


async def digest_of(database: Database, objects: S3Objects, step: LogStep) -> str:
    digest = hashlib.sha256()
    async for chunk in read_log(database, objects, step.id):
        digest.update(chunk)
    return digest.hexdigest()


async def test_killed_at_many_points_the_log_is_whole(
    idle_stack: Stack, migrated: TestDatabase, objects: S3Objects, step: LogStep, tmp_path: Path
) -> None:
    await idle_stack.start("valkey")
    output, chance = FileOutput(tmp_path), random.Random(7)  # noqa: S311  # a test's dice
    order = PumpOrder(
        migrated.url, idle_stack.bus_url, idle_stack.objects, tmp_path, step.run.id, step.id, step.sandbox()
    )
    digest, kills = hashlib.sha256(b"the beginning\n"), 0

    async def print_on(size_bytes: int) -> None:
        data = chance.randbytes(size_bytes - 1) + b"\n"
        digest.update(data)
        await asyncio.to_thread(output.write, step.sandbox(), data)

    async def kill_soon(process: ForkServerProcess, *, at_progress: bool) -> None:
        """At any moment, or right after (or in the middle of what follows) something became durable."""
        before = (await step.row()).log_size_bytes

        async def has_moved() -> bool:
            return (await step.row()).log_size_bytes > before

        if at_progress:
            await eventually(has_moved, timeout_seconds=30)
        await asyncio.sleep(chance.uniform(0, 0.05 if at_progress else 0.6))
        process.kill()
        await ended(process)

    for number in range(KILLS_WHILE_PRINTING):
        process = await asyncio.to_thread(start_pumping, order)
        for size_bytes in (chance.randrange(1, 100), chance.randrange(1, 600_000), 9 * MIB * (number % 4 == 1) + 1):
            await print_on(size_bytes)
        await kill_soon(process, at_progress=number % 2 == 0)
        kills += process.exitcode == -signal.SIGKILL
    output.end(step.sandbox())
    for _ in range(KILLS_WHILE_CLOSING):
        process = await asyncio.to_thread(start_pumping, order)
        await kill_soon(process, at_progress=False)
        kills += process.exitcode == -signal.SIGKILL
    if (await step.row()).log_sha256 is None:
        await pump_to_the_end(order)
    digest.update(END)
    assert kills >= KILLS_WHILE_PRINTING
    assert (await step.row()).log_sha256 == digest.hexdigest()
    assert await digest_of(step.database, objects, step) == digest.hexdigest()
    await objects.delete(await objects.list_keys(f"{LOG_SEGMENTS_PREFIX}{step.id}/"))


async def test_servers_that_are_killed_meanwhile_cost_time_only(
    idle_stack: Stack, database: Database, objects: S3Objects, step: LogStep, tmp_path: Path
) -> None:
    await idle_stack.start("valkey")
    output, bus = FileOutput(tmp_path), ValkeyBus(idle_stack.bus_url)
    pumps = LogPumps(database=database, objects=objects, bus=bus, sandboxes=output)
    data = random.Random(8).randbytes(20 * MIB) + b"\n"  # noqa: S311  # content, not a secret
    pump = await pumps.attach(step.run, step.id, 1, step.sandbox())
    output.write(step.sandbox(), data[: 9 * MIB])
    await pump.drain()
    await asyncio.gather(idle_stack.kill("s3"), idle_stack.kill("valkey"))
    output.write(step.sandbox(), data[9 * MIB : 9 * MIB + 1000])
    await pump.drain()  # Rows need neither.
    output.write(step.sandbox(), data[9 * MIB + 1000 :])
    with pytest.raises(Unavailable):
        await pump.advance()
    await asyncio.gather(idle_stack.start("s3"), idle_stack.start("valkey"))
    finished = await pump.finish(["the end"])
    async with database.transaction() as session:
        await finished.record(session)
    await finished.clean_up()
    assert await digest_of(database, objects, step) == hashlib.sha256(b"the beginning\n" + data + END).hexdigest()
    await bus.close()


@pytest.mark.timeout(300)  # 300 MB through an S3 server that may have to share two cores
async def test_a_large_log_needs_little_memory(
    database: Database, objects: S3Objects, step: LogStep, tmp_path: Path
) -> None:
    output = FileOutput(tmp_path)
    pumps = LogPumps(database=database, objects=objects, bus=MemoryBus(), sandboxes=output)
    block = random.Random(9).randbytes(10 * MIB)  # noqa: S311  # content, not a secret
    for _ in range(10):
        output.write(step.sandbox(), block)
    pump = await pumps.attach(step.run, step.id, 1, step.sandbox())
    before_kib = peak_kib(forget=True)
    await pump.advance()
    finished = await pump.finish()
    async with database.transaction() as session:
        await finished.record(session)
    await finished.clean_up()
    digest = await digest_of(database, objects, step)
    grown_kib = peak_kib() - before_kib
    assert finished.size_bytes == 100 * MIB + len(b"the beginning\n")
    assert digest == finished.sha256
    assert grown_kib < 50 * 1024, f"{grown_kib} KiB more at the peak"
    await eventually(lambda: _no_segments(objects, step))


def peak_kib(*, forget: bool = False) -> int:
    """The most memory that this process had at once; from now on, if what other tests needed is forgotten (proc(5))."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


async def _no_segments(objects: S3Objects, step: LogStep) -> bool:
    return not await objects.list_keys(f"{LOG_SEGMENTS_PREFIX}{step.id}/")
