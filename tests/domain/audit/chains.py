"""A small audit log made by hand, with what somebody who owns the database could do to it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from adapters.signing.ed25519 import SigningKey
from domain.audit.canonical import canonical, utc
from domain.audit.checkpoints import NO_HASH, Checkpoint, Head, SignedCheckpoint, read_statement
from domain.audit.export_file import Header, end_line, row_line
from domain.audit.merkle import root_of
from domain.audit.rows import Row
from domain.audit.verification import Report, verify

KEY = SigningKey(b"a seed for tests, of 32 bytes ..")
OTHER_KEY = SigningKey(b"another seed for tests, 32 bytes")
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def row(log: int, seq: int, prev: str, action: str = "test:act", *, number: int | None = None) -> Row:
    """A row with a good hash."""
    act = {
        "action": action,
        "actor": {"id": str(UUID(int=1)), "kind": "user"},
        "id": str(UUID(int=number or log * 1000 + seq)),
        "outcome": "success",
        "target": {"kind": "test"},
    }
    at = utc(BEGAN + timedelta(seconds=seq))
    content = canonical({"act": act, "log": log, "prev": prev, "seq": seq, "time": at, "v": 1})
    return Row(content, Row(content, "").computed_hash)


@dataclass
class Chains:
    """Logs and their checkpoints; ``rows`` is what a file or a database shows of them."""

    rows: dict[int, list[Row]] = field(default_factory=lambda: {3: [], 5: []})
    checkpoints: list[SignedCheckpoint] = field(default_factory=list)

    def write(self, count: int = 1, log: int = 3) -> "Chains":
        for _ in range(count):
            rows = self.rows[log]
            rows.append(row(log, len(rows) + 1, rows[-1].hash if rows else NO_HASH))
        return self

    def checkpoint(self, key: SigningKey = KEY) -> "Chains":
        before = read_statement(self.checkpoints[-1].statement) if self.checkpoints else None
        leaves = [
            bytes.fromhex(one.hash)
            for log in sorted(self.rows)
            for one in self.rows[log][before.head(log).seq if before else 0 :]
        ]
        made = Checkpoint(
            number=before.number + 1 if before else 1,
            at=BEGAN + timedelta(hours=len(self.checkpoints) + 1),
            previous=self.checkpoints[-1].hash if self.checkpoints else NO_HASH,
            heads={log: Head(len(rows), rows[-1].hash if rows else NO_HASH) for log, rows in self.rows.items()},
            root=root_of(leaves).hex(),
            rows=len(leaves),
            key_id=key.public.id,
        )
        statement = made.statement()
        self.checkpoints.append(SignedCheckpoint(statement, key.sign(statement.encode()), b"".join(leaves)))
        return self

    def recompute(self, log: int, begin: int) -> None:
        """Numbers and hashes computed anew from the row at index ``begin`` on: a log that is whole in itself."""
        rows = self.rows[log]
        for index in range(begin, len(rows)):
            facts = json.loads(rows[index].content)
            facts |= {"seq": index + 1, "prev": rows[index - 1].hash if index else NO_HASH}
            content = canonical(facts)
            rows[index] = Row(content, Row(content, "").computed_hash)

    def report(self) -> Report:
        return verify(
            self.checkpoints, [one for log in sorted(self.rows) for one in self.rows[log]], KEY.public.is_signed
        )


def edited(before: Row, *, action: str = "test:forged", rehash: bool = False) -> Row:
    """The row saying something else, with the hash of before or a fitting one."""
    facts = json.loads(before.content)
    facts["act"]["action"] = action
    content = canonical(facts)
    return Row(content, Row(content, "").computed_hash if rehash else before.hash)


def lines_of(chains: Chains) -> list[str]:
    """The file of an export."""
    rows = [one for log in sorted(chains.rows) for one in chains.rows[log]]
    header = Header(is_whole=True, made_at=BEGAN)
    return [
        header.line(),
        *(one.to_json() for one in chains.checkpoints),
        *(row_line(one) for one in rows),
        end_line(len(rows), len(chains.checkpoints)),
    ]
