"""Browser sessions: opened, seen, given a new secret, listed and ended.

``expires_at`` is when the session ends if nobody uses it from now on: the earlier of its absolute end (``created_at``
plus the lifetime) and of its idle end. Each use moves the second on (``note_session_uses``), so that a request only
compares one column with the clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import AuthSession
from database.store.audit import record
from database.store.clock import now
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class SessionView:
    """A browser session as its user sees it.

    Attributes:
        factor: What its user last proved themselves by, at ``proved_at``.
        expires_at: When it ends if it is not used from now on.
    """

    id: UUID
    ip_addr: str | None
    user_agent: str | None
    factor: str
    proved_at: datetime
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


async def open_session(
    session: AsyncSession,
    actor: Actor,
    secret_hash: str,
    lifetime: timedelta,
    *,
    idle: timedelta | None = None,
    factor: str = "password",
    replaces: str | None = None,
) -> Actor:
    """Opens a browser session; returns the actor with it.

    Args:
        secret_hash: Of a secret that was never used before.
        lifetime: After which it ends whatever happens.
        idle: After which without a use it ends; ``None`` for no such limit.
        factor: What the user proved themselves by.
        replaces: The hash of the secret that the browser brought along: its session, whoever's it was, ends here.
    """
    if replaces is not None:
        await _replace(session, actor, replaces)
    row = AuthSession(
        user_id=actor.user_id,
        token_hash=secret_hash,
        ip_addr=actor.origin.ip,
        user_agent=actor.origin.user_agent,
        factor=factor,
        expires_at=(await now(session)) + (lifetime if idle is None else min(lifetime, idle)),
    )
    session.add(row)
    await session.flush()
    await session.refresh(row, ["proved_at"])
    signed_in = actor.model_copy(update={"session_id": row.id, "proved_at": row.proved_at})
    await record(session, signed_in, AuditAction.SESSION_CREATE, "session", row.id, detail={"factor": factor})
    return signed_in


async def _replace(session: AsyncSession, actor: Actor, secret_hash: str) -> None:
    found = await session.execute(
        text("SELECT id FROM auth_sessions WHERE token_hash = :hash FOR UPDATE"), {"hash": secret_hash}
    )
    old: UUID | None = found.scalar_one_or_none()
    if old is not None:
        await _end(session, actor, [old], reason="the browser signed in anew")


async def rotate_session(session: AsyncSession, actor: Actor, secret_hash: str, *, factor: str) -> Actor:
    """Gives the actor's session a new secret after its user proved themselves once more; the old secret is dead.

    The session stays the same one: its id, its absolute end and its CSRF token are kept.

    Returns:
        The actor, proven now.

    Raises:
        Unauthenticated: The session ended meanwhile (code ``invalid_credential``).
    """
    changed = await session.execute(
        text(
            "UPDATE auth_sessions SET token_hash = :hash, factor = :factor, proved_at = now() "
            "WHERE id = :id AND expires_at > now() RETURNING proved_at"
        ),
        {"hash": secret_hash, "factor": factor, "id": actor.session_id},
    )
    proved_at: datetime | None = changed.scalar_one_or_none()
    if proved_at is None:
        raise Unauthenticated("The session ended meanwhile. Sign in again.", code="invalid_credential")
    await record(session, actor, AuditAction.SESSION_ELEVATE, "session", actor.session_id, detail={"factor": factor})
    return actor.model_copy(update={"proved_at": proved_at})


async def sessions_of(
    session: AsyncSession, user_id: UUID, *, before: tuple[datetime, UUID] | None = None, limit: int
) -> list[SessionView]:
    """The sessions of a user that are open, newest first."""
    place = "AND (created_at, id) < (:created_at, :id)" if before else ""
    values: dict[str, object] = {"user": user_id, "limit": limit}
    if before:
        values |= {"created_at": before[0], "id": before[1]}
    rows = await session.execute(
        text(
            "SELECT id, host(ip_addr) AS ip_addr, user_agent, factor, proved_at, created_at, last_seen_at, expires_at "  # noqa: S608  # constants
            f"FROM auth_sessions WHERE user_id = :user AND expires_at > now() {place} "
            "ORDER BY created_at DESC, id DESC LIMIT :limit"
        ),
        values,
    )
    return [SessionView(**row) for row in rows.mappings()]


async def session_owner(session: AsyncSession, session_id: UUID) -> UUID | None:
    """Whose session it is; ``None`` if there is none of that id, or it ended."""
    rows = await session.execute(
        text("SELECT user_id FROM auth_sessions WHERE id = :id AND expires_at > now()"), {"id": session_id}
    )
    found: UUID | None = rows.scalar_one_or_none()
    return found


async def end_session(session: AsyncSession, actor: Actor, session_id: UUID) -> bool:
    """Ends a session at once, and every token that was exchanged from it; ``False`` if it had ended before.

    Whether the actor may is decided before.
    """
    return await _end(session, actor, [session_id]) == 1


async def close_session(session: AsyncSession, actor: Actor) -> None:
    """Ends the browser session that the actor uses; closing it twice is fine."""
    if actor.session_id is not None:
        await _end(session, actor, [actor.session_id])


async def end_sessions_of(
    session: AsyncSession, actor: Actor, user_id: UUID, *, but: UUID | None = None, reason: str | None = None
) -> int:
    """Ends all sessions of a user, with the tokens exchanged from them; returns how many.

    Args:
        but: A session that stays: the one that asks.
        reason: For the audit log.
    """
    rows = await session.execute(
        text(
            "SELECT id FROM auth_sessions WHERE user_id = :user AND id IS DISTINCT FROM CAST(:but AS uuid) "
            "ORDER BY id FOR UPDATE"
        ),
        {"user": user_id, "but": but},
    )
    return await _end(session, actor, list(rows.scalars()), reason=reason)


async def _end(session: AsyncSession, actor: Actor, ids: list[UUID], *, reason: str | None = None) -> int:
    # The tokens that were exchanged from them, and from those, go with the row by their foreign keys.
    ended = await session.execute(
        text("DELETE FROM auth_sessions WHERE id = ANY(CAST(:ids AS uuid[])) RETURNING id, user_id"), {"ids": ids}
    )
    rows = list(ended)
    for row in rows:
        detail: dict[str, object] = {"user_id": str(row.user_id)} if row.user_id != actor.user_id else {}
        if reason is not None:
            detail["reason"] = reason
        await record(session, actor, AuditAction.SESSION_DELETE, "session", row.id, detail=detail or None)
    return len(rows)


async def note_session_uses(
    session: AsyncSession, seen_at: Mapping[UUID, datetime], *, lifetime: timedelta, idle: timedelta
) -> None:
    """Moves ``last_seen_at`` of many sessions forward, and their idle end with it, in one statement.

    A session that ended meanwhile stays ended, and none outlives its absolute end.
    """
    await session.execute(
        text(
            "UPDATE auth_sessions s SET last_seen_at = v.seen_at, "
            "expires_at = LEAST(s.created_at + CAST(:lifetime AS interval), v.seen_at + CAST(:idle AS interval)) "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:moments AS timestamptz[])) AS v(id, seen_at) "
            "WHERE s.id = v.id AND s.last_seen_at < v.seen_at AND s.expires_at > now()"
        ),
        {"ids": list(seen_at), "moments": list(seen_at.values()), "lifetime": lifetime, "idle": idle},
    )
