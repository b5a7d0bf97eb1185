"""``python -m worker.main``: settings to activities to two polling workers in one process.

It waits for its neighbours, says so, and is of use as soon as they are there. SIGTERM stops the polling; activities
get a moment to end, and those that watch sandboxes are cancelled, which leaves the sandboxes running: the next worker
takes them up (promise D2).
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client
from temporalio.worker import Worker

from domain.errors import Unavailable
from settings.program import run_program
from settings.values import Settings, WorkerSettings
from temporal.client import BACK_OFF_SECONDS_MAX, connect_patiently
from temporal.names import EXECUTION_QUEUE
from temporal.namespace import ensure_namespace
from temporal.schedules import reconcile
from worker.assembly import Tuning, build_worker
from worker.health import ALIVE, SILENT, STARTING, health_endpoint
from worker.liveness import Poll, PollWatch, drain_forever, watched_runtime
from worker.logs import log_to_stderr
from worker.registry import Registration, registrations
from worker.wiring import Neighbours, built_neighbours

T = TypeVar("T")

# What an activity did is reported through an outage of Temporal of this length; after a longer one it is done again.
PATIENCE = timedelta(minutes=2)
# The supervisor sends SIGKILL after 10 s.
SHUTDOWN_SECONDS = 8.0

logger = logging.getLogger("worker")


class Status:
    """What the health endpoint tells.

    Attributes:
        missing_protections: A line for each kind of isolation that steps lack here.
    """

    def __init__(self) -> None:
        self.waiting_for = "the start"
        self.watch: PollWatch | None = None
        self.missing_protections: list[str] = []

    def report(self) -> dict[str, object]:
        """Alive if every queue was polled with success lately."""
        return {**self._state(), "missing_protections": self.missing_protections}

    def _state(self) -> dict[str, object]:
        if self.watch is None:
            return {"status": STARTING, "waiting_for": self.waiting_for}
        silent = self.watch.silent()
        return {"status": SILENT, "seconds_without_an_answered_poll": silent} if silent else {"status": ALIVE}


async def serve(settings: Settings) -> None:
    """Works until SIGTERM or SIGINT.

    Raises:
        InvalidInput: A setting cannot be used, or the health port is taken.
        RuntimeError: A worker failed for good (Temporal refused it); the supervisor starts the process anew.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    status = Status()
    async with health_endpoint(settings.worker.health_port, status.report), built_neighbours(settings) as neighbours:
        status.missing_protections = _missing_protections(neighbours)
        for missing in status.missing_protections:
            logger.warning("Steps run without a protection: %s", missing)
        working = asyncio.create_task(_work(settings, neighbours, status, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if status.watch is None:
            working.cancel()
        _, unfinished = await asyncio.wait((working,), timeout=SHUTDOWN_SECONDS)
        stopping.cancel()
        if unfinished:
            logger.warning("Temporal did not let us go in %.0f s; leaving without its goodbye.", SHUTDOWN_SECONDS)
            working.cancel()
            return
        with suppress(asyncio.CancelledError):
            working.result()


async def _work(settings: Settings, neighbours: Neighbours, status: Status, stop: asyncio.Event) -> None:
    runtime, buffer = watched_runtime()
    status.waiting_for = "the database"
    await _patiently(neighbours.database.ping)
    status.waiting_for = "the object store"
    await _patiently(neighbours.objects.ensure_bucket)
    status.waiting_for = "Temporal"
    client = await connect_patiently(
        settings.temporal.address,
        settings.temporal.namespace,
        neighbours.converter,
        program="worker",
        patience=PATIENCE,
        say=logger.warning,
        runtime=runtime,
    )
    await _patiently(lambda: ensure_namespace(client))
    reconciled = await _patiently(lambda: reconcile(client))
    if reconciled.created or reconciled.updated or reconciled.deleted:
        logger.info("schedules: %s", reconciled)
    served = registrations(neighbours.activities(client))
    workers = [build_worker(client, one, _tuning(one, settings.worker)) for one in served]
    status.watch = PollWatch(_polls(served), silence_seconds=settings.worker.poll_silence.total_seconds())
    draining = asyncio.create_task(drain_forever(buffer, status.watch))
    # What lives now lives for ever; out of the collector's sight it costs nothing.
    gc.collect()
    gc.freeze()
    try:
        await run_until(workers, stop, told=lambda: _tell_started(client, served))
    finally:
        draining.cancel()


async def run_until(workers: list[Worker], stop: asyncio.Event, *, told: Callable[[], None]) -> None:
    """Runs workers until ``stop`` is set or one of them fails; then shuts all of them down.

    Args:
        told: Called once they poll.

    Raises:
        Exception: What made one fail.
    """
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    told()
    try:
        await asyncio.wait((*running, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await asyncio.gather(*(worker.shutdown() for worker in workers if worker.is_running))
        ends = await asyncio.gather(*running, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats an attempt until the neighbour is there; says so each time."""
    delay_seconds = 0.2
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            logger.warning("%s Next attempt in %.1f s.", error.message, delay_seconds)
        await asyncio.sleep(delay_seconds)
        delay_seconds = min(delay_seconds * 2, BACK_OFF_SECONDS_MAX)


def _tuning(registration: Registration, settings: WorkerSettings) -> Tuning:
    steps = registration.queue == EXECUTION_QUEUE
    return Tuning(activities=settings.steps_at_once if steps else settings.activities_at_once)


def _polls(served: tuple[Registration, ...]) -> list[Poll]:
    polls = [Poll(one.queue, "activities") for one in served if one.activities]
    return polls + [Poll(one.queue, "workflows") for one in served if one.workflows]


def _missing_protections(neighbours: Neighbours) -> list[str]:
    protections = neighbours.sandboxes.protections()
    return [f"{protection.name}: {protection.detail}" for protection in protections if not protection.active]


def _tell_started(client: Client, served: tuple[Registration, ...]) -> None:
    queues = ", ".join(one.queue for one in served)
    logger.info("polling %s of the namespace %s", queues, client.namespace)


def main() -> int:
    """Runs the worker; returns the exit status."""
    log_to_stderr()
    return run_program("The worker", serve)


if __name__ == "__main__":
    sys.exit(main())
