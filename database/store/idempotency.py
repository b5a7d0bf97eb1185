"""Answers to unsafe POSTs that carried ``Idempotency-Key``, kept for a day in the transaction of the change itself.

Because the answer is committed with the change there is no instant at which one exists without the other: a client
that lost the answer to a crash asks again and gets it, or the change never happened and happens now.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import Conflict


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered.

    Attributes:
        request_hash: Of the request that it answered.
        body: JSON text.
    """

    request_hash: str
    status: int
    body: str


async def claim(session: AsyncSession, user_id: UUID, key: str) -> KeptAnswer | None:
    """Takes the key for this transaction.

    Returns:
        The answer that was kept for it, or ``None`` if the request is to be carried out.

    Raises:
        Conflict: A request with this key is being carried out now (code ``idempotency_in_progress``).
    """
    taken = await session.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"idempotency/{user_id}/{key}"}
    )
    if not taken.scalar_one():
        raise Conflict(
            "A request with this Idempotency-Key is being carried out. Ask again in a moment for its answer.",
            code="idempotency_in_progress",
        )
    await session.execute(
        text(
            "DELETE FROM idempotency_keys WHERE user_id = :user AND key = :key "
            "AND created_at < now() - interval '1 day'"
        ),
        {"user": user_id, "key": key},
    )
    rows = await session.execute(
        text("SELECT request_hash, status, body FROM idempotency_keys WHERE user_id = :user AND key = :key"),
        {"user": user_id, "key": key},
    )
    row = rows.one_or_none()
    return None if row is None else KeptAnswer(row.request_hash, row.status, row.body)


async def keep(session: AsyncSession, user_id: UUID, key: str, answer: KeptAnswer) -> None:
    """Keeps the answer; it is committed with the change, or not at all."""
    await session.execute(
        text(
            "INSERT INTO idempotency_keys (user_id, key, request_hash, status, body) "
            "VALUES (:user, :key, :hash, :status, :body)"
        ),
        {"user": user_id, "key": key, "hash": answer.request_hash, "status": answer.status, "body": answer.body},
    )
