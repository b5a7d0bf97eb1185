"""What is removed some time after it ended."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def expire_access(session: AsyncSession) -> int:
    """Removes what has ended: browser sessions, spent proofs, answers kept for ``Idempotency-Key``; returns how many."""
    removed = 0
    for statement in (
        "WITH gone AS (DELETE FROM auth_sessions WHERE expires_at < now() RETURNING 1) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM spent_proofs WHERE expires_at < now() RETURNING 1) SELECT count(*) FROM gone",
        """WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day' RETURNING 1)
        SELECT count(*) FROM gone""",
    ):
        removed += int((await session.execute(text(statement))).scalar_one())
    return removed
