"""API tokens that were good once."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class Ended:
    """A token that is not good any more.

    Attributes:
        actor: Who acts with it; whoever used it may be somebody else.
        why: ``revoked``, ``expired``, ``deactivated``, or ``origin ended``: what it was exchanged for is gone.
    """

    actor: Actor
    why: str


async def ended_token(session: AsyncSession, secret_hash: str) -> Ended | None:
    """Whose a token was that is refused now; ``None`` if there never was one."""
    rows = await session.execute(
        text(
            "SELECT u.id, u.name, u.kind, t.id AS token_id, u.is_active, t.revoked_at IS NOT NULL AS is_revoked, "
            "COALESCE(t.expires_at <= now(), false) AS is_expired FROM api_tokens t "
            "JOIN users u ON u.id = COALESCE(t.acting_id, t.user_id) WHERE t.token_hash = :secret_hash"
        ),
        {"secret_hash": secret_hash},
    )
    row = rows.one_or_none()
    if row is None:
        return None
    actor = Actor(user_id=row.id, name=row.name, kind=row.kind, token_id=row.token_id)
    if row.is_revoked or row.is_expired:
        return Ended(actor, "revoked" if row.is_revoked else "expired")
    return Ended(actor, "origin ended" if row.is_active else "deactivated")
