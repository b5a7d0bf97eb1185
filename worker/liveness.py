"""Is this worker alive? It is if, for each of its queues, a poll was answered a short while ago.

A process that exists, and an event loop that turns, say nothing about work: a worker whose connection hangs, or whose
pollers died, would sit there for ever. What counts is an answer of the server to a long poll, also an empty one (an
idle poll is answered after about a minute). The SDK's core counts exactly that: each ended poll adds to
``temporal_long_request_latency``, and right after it to ``temporal_long_request_failure`` if it ended badly. A queue
all of whose slots are taken does not poll, and is alive by doing what it polled for.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    MetricBuffer,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

BUFFER_UPDATES = 200_000
"""A three-step run makes some two hundred updates, and they are drained every second."""
DRAIN_SECONDS = 1.0

LATENCY = "temporal_long_request_latency"
FAILURE = "temporal_long_request_failure"
SLOTS = "temporal_worker_task_slots_available"
POLLS = {"PollWorkflowTaskQueue": "workflows", "PollActivityTaskQueue": "activities"}
SLOT_KINDS = {"WorkflowWorker": "workflows", "ActivityWorker": "activities"}


class Metric(Protocol):
    """What an update is of."""

    @property
    def name(self) -> str:
        """With the prefix ``temporal_``."""
        ...


class Update(Protocol):
    """One change of a metric, as the SDK's buffer hands it out."""

    @property
    def metric(self) -> Metric:
        """Of what."""
        ...

    @property
    def value(self) -> int | float:
        """The new value of a gauge, the step of a counter, or one sample of a histogram."""
        ...

    @property
    def attributes(self) -> Mapping[str, object]:
        """Which queue, which operation."""
        ...


@dataclass(frozen=True)
class Poll:
    """What is polled: a queue, for ``workflows`` or for ``activities``."""

    queue: str
    kind: str


class PollWatch:
    """Remembers when each poll was answered last.

    Args:
        expected: The polls that this worker makes.
        silence_seconds: After so long without an answer it is not alive.
        now: The clock, in seconds.
    """

    def __init__(
        self, expected: Iterable[Poll], *, silence_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._silence_seconds = silence_seconds
        self._now = now
        # At the start everything counts as answered: a first poll may take its minute.
        self._answered = dict.fromkeys(expected, now())
        self._undecided: Counter[Poll] = Counter()
        self._slots: dict[Poll, float] = {}

    def take(self, updates: Iterable[Update]) -> None:
        """Takes what happened since the last call.

        A failure is counted right after its latency, but a drain may fall between the two; so an ended poll counts as
        answered only when one more drain brought no failure for it.
        """
        ended: Counter[Poll] = Counter()
        failed: Counter[Poll] = Counter()
        for update in updates:
            name = update.metric.name
            if name == LATENCY:
                ended[_poll(update)] += 1
            elif name == FAILURE:
                failed[_poll(update)] += 1
            elif name == SLOTS:
                self._slots[_slots(update)] = update.value
        now = self._now()
        for poll in self._answered:
            answered = self._undecided[poll] - failed[poll]
            if answered > 0 or self._slots.get(poll, 1) <= 0:
                self._answered[poll] = now
            self._undecided[poll] = ended[poll] + min(answered, 0)

    def silent(self) -> dict[str, float]:
        """The polls without an answer for too long, as ``queue/kind``, and for how many seconds; empty if alive."""
        now = self._now()
        return {
            f"{poll.queue}/{poll.kind}": round(now - at, 1)
            for poll, at in self._answered.items()
            if now - at > self._silence_seconds
        }


def _poll(update: Update) -> Poll:
    attributes = update.attributes
    return Poll(str(attributes.get("task_queue", "")), POLLS.get(str(attributes.get("operation", "")), ""))


def _slots(update: Update) -> Poll:
    attributes = update.attributes
    return Poll(str(attributes.get("task_queue", "")), SLOT_KINDS.get(str(attributes.get("worker_type", "")), ""))


def watched_runtime() -> tuple[Runtime, MetricBuffer]:
    """A runtime of the SDK whose metrics go into a buffer; drain it with ``drain_forever``, or it runs over.

    What its core has to say goes through our log: its own lines on stderr are of another form.
    """
    buffer = MetricBuffer(BUFFER_UPDATES)
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporal_core"))
    core_log = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding=forwarding)
    return Runtime(telemetry=TelemetryConfig(metrics=buffer, logging=core_log)), buffer


async def drain_forever(buffer: MetricBuffer, watch: PollWatch) -> None:
    """Feeds the watch until cancelled."""
    while True:
        watch.take(buffer.retrieve_updates())
        await asyncio.sleep(DRAIN_SECONDS)
