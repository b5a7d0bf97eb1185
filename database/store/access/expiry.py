"""What is removed some time after it ended."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def expire_access(session: AsyncSession) -> int:
    """Removes what has ended and returns how many rows.

    Browser sessions, spent proofs, mailed links, notices, failed sign-ins, bindings, answers kept for
    ``Idempotency-Key``.
    """
    removed = 0
    for statement in (
        "WITH gone AS (DELETE FROM auth_sessions WHERE expires_at < now() RETURNING 1) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM spent_proofs WHERE expires_at < now() RETURNING 1) SELECT count(*) FROM gone",
        """WITH gone AS (DELETE FROM email_tokens WHERE expires_at < now() - interval '7 days' RETURNING 1)
        SELECT count(*) FROM gone""",
        # Also those that could not be sent: whoever reads one later can do nothing any more that the log does not tell.
        """WITH gone AS (DELETE FROM security_notices WHERE created_at < now() - interval '7 days' RETURNING 1)
        SELECT count(*) FROM gone""",
        # No ban is remembered for longer (the setting's limit).
        """WITH gone AS (DELETE FROM sign_in_bans WHERE last_failure_at < now() - interval '30 days'
            AND (banned_until IS NULL OR banned_until < now()) RETURNING 1) SELECT count(*) FROM gone""",
        """WITH gone AS (DELETE FROM user_roles WHERE expires_at < now() - interval '7 days' RETURNING 1)
        SELECT count(*) FROM gone""",
        """WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day' RETURNING 1)
        SELECT count(*) FROM gone""",
    ):
        removed += int((await session.execute(text(statement))).scalar_one())
    return removed
