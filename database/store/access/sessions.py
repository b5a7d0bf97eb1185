"""Browser sessions."""

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import AuthSession
from database.store.audit import record
from database.store.clock import now
from domain.actors import Actor


async def open_session(session: AsyncSession, actor: Actor, secret_hash: str, lifetime: timedelta) -> Actor:
    """Opens a browser session that ends ``lifetime`` from now whatever happens; returns the actor with it."""
    row = AuthSession(
        user_id=actor.user_id,
        token_hash=secret_hash,
        ip_addr=actor.origin.ip,
        user_agent=actor.origin.user_agent,
        expires_at=(await now(session)) + lifetime,
    )
    session.add(row)
    await session.flush()
    signed_in = actor.model_copy(update={"session_id": row.id})
    await record(session, signed_in, "session:create", "session", row.id)
    return signed_in


async def close_session(session: AsyncSession, actor: Actor) -> None:
    """Ends the browser session that the actor uses; closing it twice is fine."""
    await session.execute(delete(AuthSession).where(AuthSession.id == actor.session_id))  # type: ignore[arg-type]  # as above
    await record(session, actor, "session:delete", "session", actor.session_id)
