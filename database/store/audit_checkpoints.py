"""Checkpoints of the audit log: made, and read again with the hashes of the rows that they are over."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit.checkpoints import NO_HASH, Checkpoint, Head, SignedCheckpoint, read_statement, statement_hash
from domain.audit.merkle import root_of
from domain.errors import Conflict

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
        Conflict: What the checkpoint before signed is not there any more, or rows since then are not as they were
            appended (code ``audit_log_damaged``).
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    before = await _last(session)
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


async def _last(session: AsyncSession) -> Checkpoint | None:
    rows = await session.execute(text("SELECT statement FROM audit_checkpoints ORDER BY number DESC LIMIT 1"))
    statement = rows.scalar_one_or_none()
    return None if statement is None else read_statement(statement)


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
        Conflict: The rows are not those that it signed (code ``audit_log_damaged``).
    """
    rows = await session.execute(
        text("SELECT number, statement, signature FROM audit_checkpoints WHERE number IN (:number, :before)"),
        {"number": number, "before": number - 1},
    )
    found = {row.number: row for row in rows}
    checkpoint = read_statement(found[number].statement)
    known = read_statement(found[number - 1].statement).heads if number - 1 in found else {}
    leaves = await _leaves(session, known, checkpoint.heads)
    if root_of(leaves).hex() != checkpoint.root:
        raise damaged(f"the rows under checkpoint {number} are not those that it signed")
    return SignedCheckpoint(found[number].statement, found[number].signature, b"".join(leaves))


async def statements(session: AsyncSession) -> dict[int, str]:
    """What the database has of every checkpoint, to be compared with the object store."""
    rows = await session.execute(text("SELECT number, statement FROM audit_checkpoints ORDER BY number"))
    return {row.number: row.statement for row in rows}
