"""Pieces of a log as numbered lines, for the page of a run.

A log is only ever appended to, so what was counted once stays true: the number of line feeds before some offsets is
remembered for the logs that were looked at last.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import UUID

from api.logs import read_log, read_log_part
from api.services import Services

TAIL_BYTES = 1024**2
WINDOW_BYTES = 256 * 1024
# A place is remembered about every so many bytes, for so many logs: a few hundred KiB in all.
CHECKPOINT_BYTES = 1024**2
LOGS_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class Window:
    """Whole lines of a log.

    Attributes:
        first_line: The number of the first one; 1-based.
        offset: Where it begins.
        end_offset: Where what follows begins.
        text: UTF-8 with U+FFFD for what is none.
    """

    first_line: int
    offset: int
    end_offset: int
    text: str

    @property
    def next_line(self) -> int:
        """The number of the line that follows."""
        complete = self.text.count("\n")
        return self.first_line + complete + (1 if self.text and not self.text.endswith("\n") else 0)


class LineIndex:
    """Finds offsets of lines and lines of offsets; remembers places that it has passed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._places: OrderedDict[UUID, list[tuple[int, int]]] = OrderedDict()

    async def line_feeds_before(self, step_id: UUID, offset: int) -> int:
        """How many line feeds the first ``offset`` bytes have."""
        place, count = self._nearest(step_id, lambda known: known[0] <= offset)
        async for data in self._read(step_id, place, offset - place):
            place, count = place + len(data), count + data.count(b"\n")
            self._remember(step_id, place, count)
        return count

    async def offset_of(self, step_id: UUID, line: int, size_bytes: int) -> int:
        """Where a line (1-based) begins; the end for one that is beyond it."""
        place, count = self._nearest(step_id, lambda known: known[1] < line)
        if line <= 1:
            return 0
        async for data in self._read(step_id, place, size_bytes - place):
            found = count + data.count(b"\n")
            if found >= line - 1:
                start = -1
                for _ in range(line - 1 - count):
                    start = data.index(b"\n", start + 1)
                return place + start + 1
            place, count = place + len(data), found
            self._remember(step_id, place, count)
        return size_bytes

    def _read(self, step_id: UUID, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        return read_log(self._services.database, self._services.objects, step_id, offset, size_bytes)

    def _nearest(self, step_id: UUID, fits: Callable[[tuple[int, int]], bool]) -> tuple[int, int]:
        return max((known for known in self._places.get(step_id, ()) if fits(known)), default=(0, 0))

    def _remember(self, step_id: UUID, offset: int, count: int) -> None:
        places = self._places.setdefault(step_id, [])
        self._places.move_to_end(step_id)
        if all(abs(offset - known) >= CHECKPOINT_BYTES for known, _ in places[-2:]):
            places.append((offset, count))
        while len(self._places) > LOGS_REMEMBERED:
            self._places.popitem(last=False)


async def tail(index: LineIndex, services: Services, step_id: UUID, size_bytes: int, *, ended: bool) -> Window:
    """The last lines of a log, at most ``TAIL_BYTES``; of a growing one without the line that is not complete yet."""
    start = max(0, size_bytes - TAIL_BYTES)
    data = await read_log_part(services.database, services.objects, step_id, start, size_bytes - start)
    if start > 0:
        cut = data.find(b"\n") + 1
        start, data = start + cut, data[cut:]
    if not ended:
        data = data[: data.rfind(b"\n") + 1]
    first_line = 1 + await index.line_feeds_before(step_id, start)
    return Window(first_line, start, start + len(data), data.decode("utf-8", "replace"))


async def window_before(index: LineIndex, services: Services, step_id: UUID, line: int, size_bytes: int) -> Window:
    """The lines right before ``line``, at most ``WINDOW_BYTES``."""
    end = await index.offset_of(step_id, line, size_bytes)
    start = max(0, end - WINDOW_BYTES)
    data = await read_log_part(services.database, services.objects, step_id, start, end - start)
    cut = data.find(b"\n") + 1 if start > 0 and b"\n" in data[:-1] else 0
    start, data = start + cut, data[cut:]
    first_line = 1 + await index.line_feeds_before(step_id, start)
    return Window(first_line, start, end, data.decode("utf-8", "replace"))


async def window_from(index: LineIndex, services: Services, step_id: UUID, line: int, size_bytes: int) -> Window:
    """``line`` and what follows, at most ``WINDOW_BYTES``."""
    start = await index.offset_of(step_id, line, size_bytes)
    length = min(WINDOW_BYTES, size_bytes - start)
    data = await read_log_part(services.database, services.objects, step_id, start, length)
    if start + len(data) < size_bytes and b"\n" in data:
        data = data[: data.rfind(b"\n") + 1]
    return Window(line, start, start + len(data), data.decode("utf-8", "replace"))
