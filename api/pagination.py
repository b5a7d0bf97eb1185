"""Cursor pagination: a page of a list, and a signed, opaque place where the next one begins.

A cursor names the last item's sort key, not an offset: rows that come or go meanwhile shift nothing.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from domain.errors import InvalidInput

T = TypeVar("T")
Row = TypeVar("Row")
Place = TypeVar("Place")

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
_MAC_SIZE_BYTES = 16

LimitQuery = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX, description="How many items at most")]
CursorQuery = Annotated[str | None, Query(max_length=1024, description="The place from `next` of the page before")]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(default=None, description="Address of the next page; null on the last")


class Dated(Protocol):
    """A row of a list that is sorted by time."""

    @property
    def id(self) -> UUID:
        """Tells rows of the same moment apart."""
        ...

    @property
    def created_at(self) -> datetime:
        """The moment."""
        ...


DatedRow = TypeVar("DatedRow", bound=Dated)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row, Place]):
    """The order of one list, and the cursors of its pages.

    Attributes:
        name: A cursor of one list is no cursor of another.
        written: The sort key of a row, as strings.
        read: From there to what the store asks for.
    """

    name: str
    written: Callable[[Row], tuple[str, ...]]
    read: Callable[[Sequence[str]], Place]

    def place(self, secret_key: bytes, cursor: str | None) -> Place | None:
        """Where the page before ended; ``None`` for the first page.

        Raises:
            InvalidInput: The cursor was not made here for this list (code ``invalid_cursor``).
        """
        return None if cursor is None else self.read(_decode(secret_key, self.name, cursor))

    def cut(self, secret_key: bytes, rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
        """One page of at most ``limit`` rows, and the cursor of the next page.

        Args:
            secret_key: Signs the cursor.
            rows: As many as there are from the page's beginning on, but at most ``limit + 1``.
            limit: At least 1.
        """
        shown = rows[:limit]
        return shown, _encode(secret_key, self.name, self.written(shown[-1])) if len(rows) > limit else None


def newest_first(name: str) -> Listing[DatedRow, tuple[datetime, UUID]]:
    """The order by ``created_at`` and ``id``, both downwards."""
    return Listing(
        name,
        written=lambda row: (row.created_at.isoformat(), str(row.id)),
        read=lambda place: (datetime.fromisoformat(place[0]), UUID(place[1])),
    )


def next_url(request: Request, cursor: str | None) -> str | None:
    """The address of the page that begins at ``cursor``, with all other query parameters kept."""
    return None if cursor is None else str(request.url.include_query_params(cursor=cursor))


def _encode(secret_key: bytes, name: str, place: Sequence[str]) -> str:
    body = json.dumps(list(place), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(secret_key, name, body) + body).rstrip(b"=").decode()


def _decode(secret_key: bytes, name: str, cursor: str) -> list[str]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    mac, body = raw[:_MAC_SIZE_BYTES], raw[_MAC_SIZE_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret_key, name, body)):
        raise InvalidInput(
            "The cursor is not one of this list. Use `next` as it was given, or begin without a cursor.",
            code="invalid_cursor",
        )
    place: list[str] = json.loads(body)
    return place


def _mac(secret_key: bytes, name: str, body: bytes) -> bytes:
    message = b"cursor/" + name.encode() + b"\0" + body
    return hmac.new(secret_key, message, hashlib.sha256).digest()[:_MAC_SIZE_BYTES]
