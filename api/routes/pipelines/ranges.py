"""Which bytes a reader asks for: ``Range`` (RFC 9110, 14.1.2)."""

import re
from dataclasses import dataclass

from domain.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes\s*=\s*(?:(?P<first>\d{1,18})\s*-\s*(?P<last>\d{0,18})|-\s*(?P<suffix>\d{1,18}))\s*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of something that is ``total_bytes`` long.

    Attributes:
        offset: The first.
        size_bytes: How many; 0 for nothing.
        partial: Whether ``Range`` chose them, so that the answer is 206.
    """

    offset: int
    size_bytes: int
    total_bytes: int
    partial: bool = False

    @property
    def status(self) -> int:
        """The status code of the answer."""
        return 206 if self.partial else 200

    def headers(self) -> dict[str, str]:
        """The headers that say which bytes follow."""
        headers = {"accept-ranges": "bytes", "content-length": str(self.size_bytes)}
        if self.partial:
            headers["content-range"] = f"bytes {self.offset}-{self.offset + self.size_bytes - 1}/{self.total_bytes}"
        return headers


def requested_range(header: str | None, total_bytes: int) -> ByteRange:
    """Reads a ``Range`` header.

    A header that is malformed, of another unit or of several ranges is ignored, as the RFC allows: the reader gets all.

    Raises:
        RangeNotSatisfiable: The range begins at or after the end.
    """
    whole = ByteRange(0, total_bytes, total_bytes)
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return whole
    if match["suffix"] is not None:
        size_bytes = min(int(match["suffix"]), total_bytes)
        first, last = total_bytes - size_bytes, total_bytes - 1
    else:
        first = int(match["first"])
        last = min(int(match["last"]), total_bytes - 1) if match["last"] else total_bytes - 1
        if match["last"] and int(match["last"]) < first:
            return whole
    if first >= total_bytes or last < first:
        raise beyond_end(first, total_bytes)
    return ByteRange(first, last - first + 1, total_bytes, partial=True)


def chosen_range(offset: int, limit: int | None, total_bytes: int) -> ByteRange:
    """The bytes that ``?offset=&limit=`` asks for; at the very end there are none, and that is no error.

    Raises:
        RangeNotSatisfiable: The offset is beyond the end.
    """
    if offset > total_bytes:
        raise beyond_end(offset, total_bytes)
    left_bytes = total_bytes - offset
    return ByteRange(offset, left_bytes if limit is None else min(limit, left_bytes), total_bytes)


def beyond_end(offset: int, total_bytes: int) -> RangeNotSatisfiable:
    """The refusal, naming both numbers."""
    return RangeNotSatisfiable(
        f"There is no byte {offset}: {total_bytes} bytes can be read. Ask from a smaller offset.",
        details={"offset": offset, "size_bytes": total_bytes},
    )
