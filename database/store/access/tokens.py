"""API tokens: made, listed, renewed, revoked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import ApiToken
from database.store.access.notices import order_notice
from database.store.audit import record
from database.store.clock import now
from domain.access.notices import Notice
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict


@dataclass(frozen=True, slots=True)
class NewToken:
    """What an API token is made of.

    Attributes:
        scopes: The permissions that it narrows its user's rights to; not empty.
        lifetime: From now, by the database's clock.
        not_after: Where the credential that asks for it ends earlier, that end; the token ends there too.
        user_id: Whose it is; ``None`` for the actor's own.
        is_renewable: Whether it may renew itself by rotation.
    """

    name: str
    secret_hash: str
    scopes: frozenset[str]
    project_id: UUID | None
    lifetime: timedelta
    not_after: datetime | None = None
    user_id: UUID | None = None
    is_renewable: bool = False


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a token is replaced by a new one.

    Attributes:
        secret_hash: Of the new one.
        overlap: How long the old one still works.
        not_after: The new one ends then at the latest; ``None`` for the same span of time as the old one had.
    """

    secret_hash: str
    overlap: timedelta
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class Use:
    """That a credential was used.

    Attributes:
        ip: From where; ``None`` if the connection tells no address.
    """

    moment: datetime
    ip: str | None


async def create_token(session: AsyncSession, actor: Actor, new: NewToken) -> ApiToken:
    """Stores a token of the actor's, or of the identity that it manages; only its hash is kept."""
    expires_at = (await now(session)) + new.lifetime
    if new.not_after is not None:
        expires_at = min(expires_at, new.not_after)
    row = ApiToken(
        user_id=new.user_id or actor.user_id,
        name=new.name,
        token_hash=new.secret_hash,
        scopes=sorted(new.scopes),
        project_id=new.project_id,
        is_renewable=new.is_renewable,
        created_by=actor.user_id,
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    detail: dict[str, object] = {
        "name": new.name,
        "scopes": row.scopes,
        "project_id": str(new.project_id) if new.project_id else None,
        "expires_at": expires_at.isoformat(),
    }
    if row.user_id != actor.user_id:
        detail["user_id"] = str(row.user_id)
    await record(session, actor, AuditAction.TOKEN_CREATE, "token", row.id, new.project_id, detail=detail)
    await order_notice(session, actor, row.user_id, Notice.TOKEN_MADE, about=row.name)
    return row


_NARROWED = """user_id = :user AND revoked_at IS NULL
    AND (CAST(:scopes AS text[]) IS NULL OR scopes <@ CAST(:scopes AS text[]))
    AND (CAST(:project AS uuid) IS NULL OR project_id = CAST(:project AS uuid))"""
# The narrowing of a credential holds for tokens too: one token never sees or ends a wider one of the same owner.
# Whoever manages the owner was asked for that right instead.


def _narrowed(actor: Actor, owner_id: UUID | None) -> dict[str, object]:
    if owner_id is not None and owner_id != actor.user_id:
        return {"user": owner_id, "scopes": None, "project": None}
    return {
        "user": actor.user_id,
        "scopes": None if actor.scopes is None else sorted(actor.scopes),
        "project": actor.project_id,
    }


async def token_expiry(session: AsyncSession, token_id: UUID) -> datetime | None:
    """When a token ends; ``None`` if it does not."""
    rows = await session.execute(text("SELECT expires_at FROM api_tokens WHERE id = :id"), {"id": token_id})
    moment: datetime | None = rows.scalar_one_or_none()
    return moment


async def token_by_id(session: AsyncSession, token_id: UUID) -> ApiToken | None:
    """The token, if it is good at this moment."""
    statement = select(ApiToken).from_statement(
        text(
            "SELECT * FROM api_tokens WHERE id = :id AND revoked_at IS NULL "
            "AND (expires_at IS NULL OR expires_at > now())"
        )
    )
    return (await session.execute(statement, {"id": token_id})).scalar_one_or_none()


async def tokens_of(
    session: AsyncSession,
    actor: Actor,
    *,
    owner_id: UUID | None = None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[ApiToken]:
    """Tokens that are not revoked, newest first; of the actor's own only those not wider than the credential used.

    Args:
        owner_id: Whose; ``None`` for the actor's own.
        before: The ``created_at`` and ``id`` at which the page before ended.
    """
    place = "AND (created_at, id) < (:created_at, :id)" if before else ""
    statement = select(ApiToken).from_statement(
        text(f"SELECT * FROM api_tokens WHERE {_NARROWED} {place} ORDER BY created_at DESC, id DESC LIMIT :limit")  # noqa: S608  # constants
    )
    values = _narrowed(actor, owner_id) | {"limit": limit}
    if before:
        values |= {"created_at": before[0], "id": before[1]}
    return list((await session.execute(statement, values)).scalars())


async def revoke_token(session: AsyncSession, actor: Actor, token_id: UUID, *, owner_id: UUID | None = None) -> bool:
    """Ends a token at once, and what was exchanged from it; ``False`` if ``tokens_of`` would not show it.

    Args:
        owner_id: Whose; ``None`` for the actor's own.
    """
    found = await session.execute(
        text(f"SELECT name, project_id FROM api_tokens WHERE id = :id AND {_NARROWED} FOR UPDATE"),  # noqa: S608  # constants
        _narrowed(actor, owner_id) | {"id": token_id},
    )
    row = found.one_or_none()
    if row is None:
        return False
    ended = await end_tokens(session, [token_id])
    detail: dict[str, object] = {"name": row.name}
    if ended > 1:
        detail["exchanged"] = ended - 1
    await record(session, actor, AuditAction.TOKEN_REVOKE, "token", token_id, row.project_id, detail=detail)
    return True


async def end_tokens(session: AsyncSession, ids: Sequence[UUID]) -> int:
    """Revokes tokens and all that were exchanged from them, step by step; returns how many. The caller audits."""
    return await _over_descendants(session, "SET revoked_at = now()", {"ids": list(ids)})


async def _over_descendants(session: AsyncSession, change: str, values: dict[str, object]) -> int:
    done = await session.execute(
        text(
            "WITH RECURSIVE family AS ("  # noqa: S608  # constants of this module
            "SELECT id FROM api_tokens WHERE id = ANY(CAST(:ids AS uuid[])) "
            "UNION SELECT t.id FROM family f JOIN api_tokens t ON t.parent_id = f.id), "
            f"changed AS (UPDATE api_tokens t {change} FROM family f WHERE t.id = f.id AND t.revoked_at IS NULL "
            "RETURNING t.id) SELECT count(*) FROM changed"
        ),
        values,
    )
    return int(done.scalar_one())


async def rotate_token(session: AsyncSession, actor: Actor, token: ApiToken, rotation: Rotation) -> ApiToken:
    """Makes a token that is good for what ``token`` is, and lets that one end after the overlap.

    Whether the actor may is decided before.

    Returns:
        The new token.

    Raises:
        Conflict: It was rotated before (code ``already_rotated``), or is one of a token exchange
            (``exchanged_token``).
    """
    if token.acting_id or token.parent_id or token.parent_session_id:
        raise Conflict(
            "This token was exchanged for another credential and ends with it; it cannot be rotated. Exchange again "
            "instead.",
            code="exchanged_token",
        )
    # Of two rotations at once the second waits here and then sees the first one's token.
    await session.execute(text("SELECT 1 FROM api_tokens WHERE id = :id FOR UPDATE"), {"id": token.id})
    successor = await session.execute(text("SELECT id FROM api_tokens WHERE rotated_from = :id"), {"id": token.id})
    if successor.first() is not None:
        raise Conflict(
            "This token was rotated before; nothing was changed. Use the token that was made then, or rotate that one. "
            "If nobody knows it, revoke both and make a new one.",
            code="already_rotated",
        )
    moment = await now(session)
    ends = [] if token.expires_at is None else [moment + (token.expires_at - token.created_at)]
    if rotation.not_after is not None:
        ends.append(rotation.not_after)
    row = ApiToken(
        user_id=token.user_id,
        name=token.name,
        token_hash=rotation.secret_hash,
        scopes=token.scopes,
        project_id=token.project_id,
        is_renewable=token.is_renewable,
        rotated_from=token.id,
        created_by=actor.user_id,
        expires_at=min(ends, default=None),
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    if rotation.overlap:
        await _over_descendants(
            session,
            "SET expires_at = LEAST(t.expires_at, now() + CAST(:overlap AS interval))",
            {"ids": [token.id], "overlap": rotation.overlap},
        )
    else:
        await end_tokens(session, [token.id])
    detail: dict[str, object] = {
        "name": token.name,
        "new_token_id": str(row.id),
        "overlap_seconds": int(rotation.overlap.total_seconds()),
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
    }
    await record(session, actor, AuditAction.TOKEN_ROTATE, "token", token.id, token.project_id, detail=detail)
    # Whoever stole a token keeps it by rotating it.
    await order_notice(session, actor, row.user_id, Notice.TOKEN_MADE, about=row.name)
    return row


async def note_token_uses(session: AsyncSession, uses: Mapping[UUID, Use]) -> None:
    """Moves ``last_used_at`` and ``last_used_ip`` of many tokens forward in one statement; never backward."""
    await session.execute(
        text(
            "UPDATE api_tokens t SET last_used_at = v.used_at, last_used_ip = v.ip "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:moments AS timestamptz[]), CAST(:ips AS inet[])) "
            "AS v(id, used_at, ip) "
            "WHERE t.id = v.id AND (t.last_used_at IS NULL OR t.last_used_at < v.used_at)"
        ),
        {
            "ids": list(uses),
            "moments": [use.moment for use in uses.values()],
            "ips": [use.ip for use in uses.values()],
        },
    )
