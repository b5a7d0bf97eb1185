"""Passwords: only their hashes are kept, and whoever knew the old one is shown out when a new one is set."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.notices import order_notice
from database.store.access.sessions import end_sessions_of
from database.store.audit import record
from domain.access.notices import Notice
from domain.actors import Actor
from domain.audit.actions import AuditAction


async def renew_password_hash(session: AsyncSession, user_id: UUID, *, before: str, after: str) -> None:
    """Stores a newer hash of the same password (its cost parameters changed), unless it was changed meanwhile."""
    await session.execute(
        text("UPDATE users SET password_hash = :after WHERE id = :id AND password_hash = :before"),
        {"after": after, "before": before, "id": user_id},
    )


async def set_password(
    session: AsyncSession, actor: Actor, user_id: UUID, password_hash: str, *, by_link: bool = False
) -> int:
    """Sets a new password and ends every browser session of its user but the one that asks, and links that set one.

    API tokens stay: they were made on purpose, have scopes and an end, and programs hold them that nobody watches.

    Args:
        actor: Who sets it: the user, or whoever followed a link that was made for the user.
        by_link: Whether such a link was followed.

    Returns:
        How many sessions ended.
    """
    await session.execute(
        text("UPDATE users SET password_hash = :hash, updated_at = now() WHERE id = :id"),
        {"hash": password_hash, "id": user_id},
    )
    ended = await end_sessions_of(session, actor, user_id, but=actor.session_id, reason="password_changed")
    await session.execute(
        text(
            "UPDATE email_tokens SET used_at = now() WHERE user_id = :user AND used_at IS NULL "
            "AND purpose IN ('reset','invite')"
        ),
        {"user": user_id},
    )
    await record(session, actor, AuditAction.PASSWORD_CHANGE, "user", user_id, detail={"sessions_ended": ended})
    await order_notice(session, actor, user_id, Notice.PASSWORD_SET_BY_LINK if by_link else Notice.PASSWORD_CHANGED)
    return ended
