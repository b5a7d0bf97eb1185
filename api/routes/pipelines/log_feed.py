"""What the stream of a step's log sends."""

import codecs
from collections.abc import AsyncGenerator
from uuid import UUID

from adapters.objects.base import Objects
from api.logs import read_log
from api.sse import ServerSentEvent
from database.engine import Database
from database.store.pipelines.following import followed_step
from domain.pipelines.status import STEP_ENDED

# Small enough that a reader shows the first lines of a long log at once.
EVENT_BYTES_MAX = 64 * 1024


class LogFeed:
    """The log of a step from an offset: ``log`` with ``{"offset", "text"}``, whose id is the offset of what follows.

    A character whose bytes have not all come yet is held back, so it is never broken and an id never points into
    one. Bytes that are no UTF-8 become U+FFFD in the text; the raw ones are in the log itself.
    """

    def __init__(self, database: Database, objects: Objects, step_id: UUID, *, offset: int) -> None:
        self._database = database
        self._objects = objects
        self._step_id = step_id
        self._taken = offset
        self._told = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._end: ServerSentEvent | None = None

    @property
    def end(self) -> ServerSentEvent | None:
        """Set when the step has ended and its whole log was given."""
        return self._end

    async def news(self) -> AsyncGenerator[ServerSentEvent, None]:
        """The text that has become durable since the last call."""
        step = await followed_step(self._database, self._step_id)
        async for data in read_log(
            self._database, self._objects, self._step_id, self._taken, step.log_size_bytes - self._taken
        ):
            for start in range(0, len(data), EVENT_BYTES_MAX):
                piece = data[start : start + EVENT_BYTES_MAX]
                self._taken += len(piece)
                for event in self._tell(self._decoder.decode(piece)):
                    yield event
        if step.status in STEP_ENDED:
            for event in self._tell(self._decoder.decode(b"", final=True)):
                yield event
            self._end = ServerSentEvent(
                "end", {"offset": self._taken, "status": step.status, "reason": step.reason}, id=str(self._taken)
            )

    def _tell(self, text: str) -> list[ServerSentEvent]:
        held_back_bytes = len(self._decoder.getstate()[0])
        start, self._told = self._told, self._taken - held_back_bytes
        return [ServerSentEvent("log", {"offset": start, "text": text}, id=str(self._told))] if text else []
