"""A worker that does nothing but pump one log, as a process of its own, so that it can be killed."""

import asyncio
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from uuid import UUID

from activities.pipelines.logs import LogPumps
from adapters.bus.valkey import ValkeyBus
from adapters.objects.s3 import S3Objects
from database.engine import Database
from database.store.pipelines.runs import run_by_id
from settings.values import ObjectsConnection
from tests.support.audit import AUDIT_KEYS
from tests.support.file_output import FileOutput
from tests.support.forked import fork


@dataclass(frozen=True)
class PumpOrder:
    """What a pumping process needs to know."""

    database_url: str
    bus_url: str
    objects: ObjectsConnection
    directory: Path
    run_id: UUID
    step_id: UUID
    sandbox_id: str


async def pump_to_the_end(order: PumpOrder) -> None:
    """What ``run_step`` does with a log."""
    objects = S3Objects(**order.objects)
    output, bus = FileOutput(order.directory), ValkeyBus(order.bus_url)
    async with Database(order.database_url, pool_size=2, audit_keys=AUDIT_KEYS) as database:
        pumps = LogPumps(database=database, objects=objects, bus=bus, sandboxes=output)
        async with database.transaction() as session:
            run = await run_by_id(session, order.run_id)
        pump = await pumps.attach(run, order.step_id, 1, order.sandbox_id)
        while True:
            state = await output.wait(order.sandbox_id, log_offset=pump.sandbox_offset, timeout_seconds=5)
            if state.phase == "ended":
                break
            await pump.advance()
        finished = await pump.finish(["the end"])
        async with database.transaction() as session:
            await finished.record(session)
        await finished.clean_up()
    await bus.close()
    await objects.close()


def _main(order: PumpOrder) -> None:
    asyncio.run(pump_to_the_end(order))


def start_pumping(order: PumpOrder) -> ForkServerProcess:
    """A process that pumps until it is done or killed."""
    return fork(_main, order)
