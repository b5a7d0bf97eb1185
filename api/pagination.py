"""Cursor pagination: a page of a list, and a signed, opaque place where the next one begins.

A cursor names the last item's sort key, not an offset: rows that come or go meanwhile shift nothing.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from domain.errors import InvalidInput

T = TypeVar("T")

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
_MAC_SIZE_BYTES = 16

LimitQuery = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX, description="How many items at most")]
CursorQuery = Annotated[str | None, Query(max_length=1024, description="The place from `next` of the page before")]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(default=None, description="Address of the next page; null on the last")


def encode_cursor(secret_key: bytes, purpose: str, place: Sequence[str]) -> str:
    """Makes a cursor.

    Args:
        secret_key: Signs it.
        purpose: Which list; a cursor of one list is no cursor of another.
        place: The sort key of the last item, as strings.
    """
    body = json.dumps(list(place), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(secret_key, purpose, body) + body).rstrip(b"=").decode()


def decode_cursor(secret_key: bytes, purpose: str, cursor: str) -> list[str]:
    """The place that ``encode_cursor`` was given.

    Raises:
        InvalidInput: The cursor was not made here for this list (code ``invalid_cursor``).
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    mac, body = raw[:_MAC_SIZE_BYTES], raw[_MAC_SIZE_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret_key, purpose, body)):
        raise InvalidInput(
            "The cursor is not one of this list. Use `next` as it was given, or begin without a cursor.",
            code="invalid_cursor",
        )
    place: list[str] = json.loads(body)
    return place


def next_url(request: Request, secret_key: bytes, purpose: str, place: Sequence[str]) -> str:
    """The address of the page after ``place``, with all other query parameters kept."""
    return str(request.url.include_query_params(cursor=encode_cursor(secret_key, purpose, place)))


def _mac(secret_key: bytes, purpose: str, body: bytes) -> bytes:
    message = b"cursor/" + purpose.encode() + b"\0" + body
    return hmac.new(secret_key, message, hashlib.sha256).digest()[:_MAC_SIZE_BYTES]
