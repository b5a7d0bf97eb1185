"""What the stream of a run's events sends."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

from api.sse import ServerSentEvent
from database.engine import Database
from database.store.pipelines.events import STEP_STATUS
from database.store.pipelines.following import FollowedEvent, FollowedStep, followed_events, followed_run
from domain.pipelines.status import RUN_ENDED

EVENTS_READ_MAX = 200


class RunFeed:
    """The events of a run: ``status`` with the event's number as its id, and ``log`` hints without one.

    Args:
        after: The number of the last event that the reader has seen; 0 for all.
    """

    def __init__(self, database: Database, run_id: UUID, *, after: int) -> None:
        self._database = database
        self._run_id = run_id
        self._seen = after
        self._log_sizes: dict[UUID, int] = {}
        self._end: ServerSentEvent | None = None

    @property
    def end(self) -> ServerSentEvent | None:
        """Set when the run has ended and every event was given."""
        return self._end

    async def news(self) -> AsyncGenerator[ServerSentEvent, None]:
        """New events in their order, then one hint for each log that grew."""
        run = await followed_run(self._database, self._run_id)
        steps = {step.id: step for step in run.steps}
        while self._seen < run.event_seq:
            events = await followed_events(self._database, self._run_id, after=self._seen, limit=EVENTS_READ_MAX)
            if not events:  # They were deleted with their project since; the next look finds no run.
                return
            for event in events:
                self._seen = event.seq
                yield ServerSentEvent("status", _describe(event, steps), id=str(event.seq))
        for step in run.steps:
            if step.log_size_bytes != self._log_sizes.get(step.id, 0):
                self._log_sizes[step.id] = step.log_size_bytes
                yield ServerSentEvent("log", {"step": step.name, "log_size_bytes": step.log_size_bytes})
        # An end becomes visible together with its event, so whoever saw the run as ended has sent them all by now.
        if run.status in RUN_ENDED:
            self._end = ServerSentEvent("end", {"status": run.status})


def _describe(event: FollowedEvent, steps: dict[UUID, FollowedStep]) -> dict[str, Any]:
    data = {"seq": event.seq, "tag": event.tag, "at": event.created_at.isoformat(), **event.payload}
    if event.tag == STEP_STATUS:
        step = steps.get(UUID(event.payload["step"]))
        data["step"] = None if step is None else step.name
    return data
