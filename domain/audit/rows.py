"""What one row of the audit log says, as text, and where it stands in its chain.

``content`` is canonical JSON: ``{"act":{...},"log":3,"prev":"<hex>","seq":17,"time":"...","v":1}``. The platform writes
``act``; the database adds the place and the time when it appends the row. ``hash`` is SHA-256 over the bytes of
``content``; because ``prev`` is the hash of the row before, it covers everything before as well.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.audit.canonical import is_canonical, moment

VERSION = 1
LOGS = 16
"""How many chains there are. A transaction writes to one of them, so that those at once seldom wait for each other."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands.

    Attributes:
        log: Which chain, from 0.
        seq: From 1, without gaps.
        prev: The hash (hex) of row ``seq - 1`` of that chain.
    """

    log: int
    seq: int
    prev: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read somewhere.

    Attributes:
        content: Canonical JSON.
        hash: What is claimed to be its SHA-256 (hex).
    """

    content: str
    hash: str

    @property
    def computed_hash(self) -> str:
        """What the hash really is."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def read_content(content: str) -> tuple[Place, dict[str, Any]]:
    """The place and the act of a row.

    Raises:
        ValueError: It is not canonical, lacks something, or is of a version that is not known here.
    """
    if not is_canonical(content):
        raise ValueError("its content is not canonical JSON")
    found = json.loads(content)
    if not isinstance(found, dict) or found.get("v") != VERSION:
        raise ValueError("its content is not of a version that is known here")
    try:
        place = Place(int(found["log"]), int(found["seq"]), str(found["prev"]), moment(found["time"]))
        act = dict(found["act"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"its content lacks {error}") from error
    return place, act
