"""Checkpoints of the audit log: made, and read again with the hashes of the rows that they are over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit.checkpoints import NO_HASH, Checkpoint, Head, SignedCheckpoint, read_statement, statement_hash
from domain.audit.merkle import root_of
from domain.errors import Conflict

NUMBER_MAX = 2**63 - 1
"""What PostgreSQL's bigint holds."""
_LOCK = 0x7065_7266  # one checkpoint at a time; next to the migrator's and the bootstrap's


class Signer(Protocol):
    """Signs statements."""

    @property
    def key_id(self) -> str:
        """Names the key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature."""
        ...

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether it is a signature of this key."""
        ...


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as the database has it.

    Attributes:
        statement: What was signed, to the byte. Whoever can write to the table can write nonsense into it.
    """

    number: int
    statement: str
    signature: bytes

    def read(self) -> Checkpoint | None:
        """What it says; ``None`` where that is not a checkpoint of this number."""
        try:
            found = read_statement(self.statement)
        except ValueError:
            return None
        return found if found.number == self.number else None


def damaged(text_: str) -> Conflict:
    """The log is not what was signed. Nobody signs it again, and somebody has to look."""
    return Conflict(
        f"The audit log was tampered with: {text_}. No checkpoint was made; run `perdure audit verify` and keep the "
        "database and the checkpoints in the object store as they are.",
        code="audit_log_damaged",
    )


async def make_checkpoint(session: AsyncSession, signer: Signer) -> Checkpoint:
    """Signs where every log stands, after a look at the rows since the checkpoint before.

    Raises:
        Conflict: What the checkpoint before signed is not there any more, rows since then are not as they were
            appended, or that checkpoint is forged (code ``audit_log_damaged``).
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    before = await _last(session, signer)
    heads = await heads_of(session)
    known = before.heads if before else {}
    leaves = await _leaves(session, known, heads)
    made = Checkpoint(
        number=before.number + 1 if before else 1,
        at=await _now(session),
        previous=statement_hash(before.statement()) if before else NO_HASH,
        heads=heads,
        root=root_of(leaves).hex(),
        rows=len(leaves),
        key_id=signer.key_id,
    )
    statement = made.statement()
    await session.execute(
        text("INSERT INTO audit_checkpoints (number, statement, signature) VALUES (:number, :statement, :signature)"),
        {"number": made.number, "statement": statement, "signature": signer.sign(statement.encode())},
    )
    return made


async def _now(session: AsyncSession) -> datetime:
    # Not now(), the beginning of the transaction: rows that were waited for may be younger.
    moment: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return moment


async def _last(session: AsyncSession, signer: Signer) -> Checkpoint | None:
    found = await checkpoints(session, limit=1)
    if not found:
        return None
    [stored] = found
    checkpoint = stored.read()
    if checkpoint is None:
        raise damaged(f"what the database has as checkpoint {stored.number} is none")
    # One of a key of before cannot be looked at here; `perdure audit verify` does, with every key that it is given.
    is_ours = checkpoint.key_id == signer.key_id
    if is_ours and not signer.is_signed(stored.statement.encode(), stored.signature):
        raise damaged(f"checkpoint {stored.number} in the database is forged")
    return checkpoint


async def checkpoints(session: AsyncSession, *, before: int | None = None, limit: int) -> list[StoredCheckpoint]:
    """Checkpoints of the database, newest first.

    Args:
        before: Only those with a smaller number.
        limit: At most.
    """
    rows = await session.execute(
        text(
            "SELECT number, statement, signature FROM audit_checkpoints "
            "WHERE number < :before ORDER BY number DESC LIMIT :limit"
        ),
        {"before": NUMBER_MAX if before is None else before, "limit": limit},
    )
    return [StoredCheckpoint(*row) for row in rows]


async def checkpoint_by_number(session: AsyncSession, number: int) -> StoredCheckpoint | None:
    """One checkpoint, if there is one of that number."""
    rows = await session.execute(
        text("SELECT number, statement, signature FROM audit_checkpoints WHERE number = :number"), {"number": number}
    )
    row = rows.one_or_none()
    return None if row is None else StoredCheckpoint(*row)


async def heads_of(session: AsyncSession) -> dict[int, Head]:
    """Where every log stands."""
    rows = await session.execute(text("SELECT log, seq, hash FROM audit_heads ORDER BY log"))
    return {log: Head(seq, digest.hex()) for log, seq, digest in rows}


async def _leaves(session: AsyncSession, known: Mapping[int, Head], heads: Mapping[int, Head]) -> list[bytes]:
    """The hashes of the rows after ``known`` up to ``heads``, by log and number."""
    found: list[bytes] = []
    for log, head in sorted(heads.items()):
        found += await _leaves_of(session, log, known.get(log, Head(0, NO_HASH)), head)
    return found


async def _leaves_of(session: AsyncSession, log: int, known: Head, head: Head) -> list[bytes]:
    if head.seq < known.seq:
        raise damaged(f"log {log} ends at row {head.seq}, and had {known.seq}")
    rows = await session.execute(
        text(
            "SELECT hash, prev_hash, hash = sha256(convert_to(content, 'UTF8')) AS is_good FROM audit_log "
            "WHERE log = :log AND seq BETWEEN :first AND :last ORDER BY seq"
        ),
        {"log": log, "first": max(known.seq, 1), "last": head.seq},
    )
    found = rows.all()
    if len(found) != head.seq - max(known.seq, 1) + 1:
        raise damaged(f"rows of log {log} between {known.seq} and {head.seq} are missing")
    before = known.hash
    for seq, row in enumerate(found, start=max(known.seq, 1)):
        is_known = seq == known.seq
        if not row.is_good or (row.hash if is_known else row.prev_hash).hex() != before:
            raise damaged(f"row {seq} of log {log} is not what was appended")
        before = row.hash.hex()
    if before != head.hash:
        raise damaged(f"the last row of log {log} is not what was appended")
    return [row.hash for row in found[1 if known.seq else 0 :]]


async def checkpoint_numbers(session: AsyncSession) -> list[int]:
    """Every checkpoint of the database."""
    rows = await session.execute(text("SELECT number FROM audit_checkpoints ORDER BY number"))
    return list(rows.scalars())


async def signed_checkpoint(session: AsyncSession, number: int) -> SignedCheckpoint:
    """A checkpoint as it belongs into the object store.

    Raises:
        Conflict: It is none, or the rows are not those that it signed (code ``audit_log_damaged``).
    """
    signed, before = await checkpoint_by_number(session, number), await checkpoint_by_number(session, number - 1)
    checkpoint = signed.read() if signed is not None else None
    if signed is None or checkpoint is None:
        raise damaged(f"what the database has as checkpoint {number} is none")
    known = before.read() if before is not None else None
    leaves = await _leaves(session, known.heads if known is not None else {}, checkpoint.heads)
    if root_of(leaves).hex() != checkpoint.root:
        raise damaged(f"the rows under checkpoint {number} are not those that it signed")
    return SignedCheckpoint(signed.statement, signed.signature, b"".join(leaves))


async def all_checkpoints(session: AsyncSession) -> list[StoredCheckpoint]:
    """What the database has of every checkpoint, in order, to be compared with the object store."""
    rows = await session.execute(text("SELECT number, statement, signature FROM audit_checkpoints ORDER BY number"))
    return [StoredCheckpoint(*row) for row in rows]
