"""Tokens of a token exchange (RFC 8693): stored with where they came from, with which they end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import ApiToken
from database.store.access.origins import EXCHANGES_MAX
from database.store.audit import record
from database.store.clock import now
from domain.access.exchange import ExchangeRefused, chain_of
from domain.actors import Actor
from domain.audit.actions import AuditAction

# A token ends with whatever ends first of what it is made of.
_ENDS = text(
    """
    WITH RECURSIVE up AS (
        SELECT id, parent_id FROM api_tokens WHERE id = CAST(:token AS uuid)
        UNION ALL
        SELECT p.id, p.parent_id FROM up JOIN api_tokens p ON p.id = up.parent_id
    )
    SELECT (SELECT count(*) FROM up) AS steps, LEAST(
        (SELECT min(t.expires_at) FROM api_tokens t WHERE t.id = ANY(CAST(:tokens AS uuid[]))),
        (SELECT min(s.expires_at) FROM auth_sessions s WHERE s.id = ANY(CAST(:sessions AS uuid[])))
    ) AS first_end
    """
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a token is exchanged for.

    Attributes:
        subject: Who the subject token says acts, and with whose rights.
        acting: Who the actor token says will act; ``None``: who acted before.
        scopes: Not wider than the subject token's.
        project_id: The only project that it is good for; that of the subject token, if that has one.
        lifetime: From now at most.
    """

    subject: Actor
    acting: Actor | None
    secret_hash: str
    scopes: frozenset[str]
    project_id: UUID | None
    lifetime: timedelta


async def exchange_token(session: AsyncSession, new: Exchange) -> ApiToken:
    """Stores the token; only its hash is kept. It is good while all that it came from is (``origins``).

    Raises:
        ExchangeRefused: Too many exchanges in a row, or the subject token ended meanwhile (``invalid_request``).
    """
    subject, chain = new.subject, chain_of(new.subject, new.acting)
    sources = [one for one in (new.subject, new.acting) if one is not None]
    ends = await session.execute(
        _ENDS,
        {
            "token": subject.token_id,
            "tokens": [one.token_id for one in sources if one.token_id is not None],
            "sessions": [one.session_id for one in sources if one.session_id is not None],
        },
    )
    row = ends.one()
    if row.steps > EXCHANGES_MAX:
        raise ExchangeRefused("invalid_request", f"A token is exchanged {EXCHANGES_MAX} times in a row at most.")
    moment = await now(session)
    expires_at = moment + new.lifetime if row.first_end is None else min(moment + new.lifetime, row.first_end)
    if expires_at <= moment:
        raise ExchangeRefused("invalid_request", "The subject token or the actor token has ended.")
    token = ApiToken(
        user_id=chain.rights_of,
        name="exchanged" if new.acting is None else f"exchanged for {new.acting.name}",
        token_hash=new.secret_hash,
        scopes=sorted(new.scopes),
        project_id=new.project_id,
        acting_id=None if chain.acting_id == chain.rights_of else chain.acting_id,
        on_behalf_of=list(chain.on_behalf_of),
        parent_id=subject.token_id,
        parent_session_id=subject.session_id,
        created_by=chain.acting_id,
        expires_at=expires_at,
    )
    session.add(token)
    await session.flush()
    detail: dict[str, object] = {
        "scopes": token.scopes,
        "project_id": None if new.project_id is None else str(new.project_id),
        "expires_at": expires_at.isoformat(),
        "rights_of": str(chain.rights_of),
        "acting": str(chain.acting_id),
        "on_behalf_of": [str(one) for one in chain.on_behalf_of],
    }
    await record(session, subject, AuditAction.TOKEN_EXCHANGE, "token", token.id, new.project_id, detail=detail)
    return token


async def names_of(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, str]:
    """What identities are called."""
    rows = await session.execute(
        text("SELECT id, name FROM users WHERE id = ANY(CAST(:ids AS uuid[]))"), {"ids": list(ids)}
    )
    return {row.id: row.name for row in rows}
