"""Checkpoints: signed statements of where every log of the audit stood.

A checkpoint says, at a time: for each log the number and the hash of its last row; the Merkle root over the hashes of
all rows since the checkpoint before (by log, then by number); and the hash of that checkpoint. What was signed and
kept elsewhere cannot be unsaid by whoever rewrites the database.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from domain.audit.canonical import canonical, is_canonical, moment, utc

KIND = "perdure-audit-checkpoint"
VERSION = 1
HASH_SIZE_BYTES = 32
NO_HASH = "0" * 64
"""What the first row of a log, and the first checkpoint, name as the one before."""

CheckSignature = Callable[[bytes, bytes], bool]
"""Whether the signature (second) is one of the message (first) by the expected key."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stood: the number of its last row (0: empty) and that row's hash (hex)."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One statement.

    Attributes:
        number: From 1, without gaps.
        at: When it was made, by the database's clock.
        previous: SHA-256 (hex) of the statement before; ``NO_HASH`` for the first.
        heads: By log.
        root: The Merkle root (hex) over the rows since the checkpoint before.
        rows: How many those are.
        key_id: Which key signs.
    """

    number: int
    at: datetime
    previous: str
    heads: Mapping[int, Head]
    root: str
    rows: int
    key_id: str

    def statement(self) -> str:
        """The canonical text that is signed."""
        return canonical(
            {
                "at": utc(self.at),
                "heads": [{"hash": head.hash, "log": log, "seq": head.seq} for log, head in sorted(self.heads.items())],
                "key": self.key_id,
                "kind": KIND,
                "number": self.number,
                "previous": self.previous,
                "root": self.root,
                "rows": self.rows,
                "v": VERSION,
            }
        )

    def head(self, log: int) -> Head:
        """Where that log stood; one that it does not name did not exist."""
        return self.heads.get(log, Head(0, NO_HASH))


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it is kept in the object store.

    Attributes:
        statement: The text that was signed, to the byte.
        signature: Ed25519 (RFC 8032), 64 bytes.
        leaves: The hashes of the rows that ``root`` is over, 32 bytes each. With them the first row that was rewritten
            is named, also where everything after it was computed anew.
    """

    statement: str
    signature: bytes
    leaves: bytes

    def to_json(self) -> str:
        """As an object, and as a line of an export."""
        return canonical(
            {
                "leaves": self.leaves.hex(),
                "signature": self.signature.hex(),
                "statement": self.statement,
                "type": "checkpoint",
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "SignedCheckpoint":
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
        """
        found = json.loads(text)
        try:
            return cls(found["statement"], bytes.fromhex(found["signature"]), bytes.fromhex(found["leaves"]))
        except (KeyError, TypeError) as error:
            raise ValueError("this is no checkpoint") from error

    @property
    def hash(self) -> str:
        """What the next checkpoint names as its ``previous``."""
        return statement_hash(self.statement)


def statement_hash(statement: str) -> str:
    """SHA-256 (hex) of a statement."""
    return hashlib.sha256(statement.encode()).hexdigest()


def read_statement(statement: str) -> Checkpoint:
    """The checkpoint of a statement.

    Raises:
        ValueError: It is not canonical, not of this kind, or of a version that is not known here.
    """
    if not is_canonical(statement):
        raise ValueError("the statement is not canonical")
    found = json.loads(statement)
    if not isinstance(found, dict) or found.get("kind") != KIND or found.get("v") != VERSION:
        raise ValueError("the statement is not of a checkpoint of this version")
    try:
        return Checkpoint(
            number=int(found["number"]),
            at=moment(found["at"]),
            previous=str(found["previous"]),
            heads={int(one["log"]): Head(int(one["seq"]), str(one["hash"])) for one in found["heads"]},
            root=str(found["root"]),
            rows=int(found["rows"]),
            key_id=str(found["key"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the statement lacks {error}") from error
