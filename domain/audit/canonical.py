"""The one way to write a statement of the audit log down as bytes: JSON Canonicalization Scheme (RFC 8785), a subset.

No floating point numbers (RFC 8785's hardest part, and nothing that an audit log needs), integers within what every
JSON reader keeps exactly, keys sorted by UTF-16 code units, no white space, UTF-8. Times are UTC with microseconds.
"""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

INTEGER_MAX = 2**53 - 1
"""RFC 8785, 3.2.2.3, by way of RFC 7493: integers beyond it are not exact in every reader."""

Json = None | bool | int | str | list[Any] | dict[str, Any]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNKEEPABLE = {0: _REPLACEMENT, **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT)}


def canonical(value: Json) -> str:
    """The canonical text of a value.

    Raises:
        ValueError: It holds a floating point number, an integer that is too large, or something that is not JSON.
    """
    return json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _sorted(value: Any) -> Json:  # noqa: ANN401  # whatever JSON may nest
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"{value} is not exact in every JSON reader")
        return value
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=_utf16)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    raise ValueError(f"{type(value).__name__} has no canonical form here")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def is_canonical(text: str) -> bool:
    """Whether ``text`` is exactly the canonical text of what it says."""
    try:
        return canonical(json.loads(text)) == text
    except (ValueError, RecursionError):
        return False


def plain(value: object) -> Json:
    """What a caller hands over, as JSON that has a canonical form: ids, times, enums and sets become text and lists.

    An audit row must not be lost over a value, so what has no form is written as its text, and characters that
    PostgreSQL or UTF-8 cannot keep (a NUL, half a surrogate pair) are replaced by U+FFFD.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= INTEGER_MAX:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key).translate(_UNKEEPABLE): plain(one) for key, one in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((plain(one) for one in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [plain(one) for one in value]
    shown = utc(value) if isinstance(value, datetime) else str(value)
    return shown.translate(_UNKEEPABLE)


def utc(at: datetime) -> str:
    """A moment as ``2026-01-02T03:04:05.000006Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """The moment of a text made by ``utc``.

    Raises:
        ValueError: It is none.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def uuid_or_none(text: object) -> UUID | None:
    """An id that a statement names, if it names one."""
    return UUID(text) if isinstance(text, str) else None
