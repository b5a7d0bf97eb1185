"""API tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import ApiToken
from database.store.audit import record
from database.store.clock import now
from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class NewToken:
    """What an API token is made of.

    Attributes:
        scopes: The permissions that it narrows its user's rights to; not empty.
        lifetime: From now, by the database's clock.
        not_after: Where the credential that asks for it ends earlier, that end; the token ends there too.
    """

    name: str
    secret_hash: str
    scopes: frozenset[str]
    project_id: UUID | None
    lifetime: timedelta
    not_after: datetime | None = None


async def create_token(session: AsyncSession, actor: Actor, new: NewToken) -> ApiToken:
    """Stores a token of the actor's; only its hash is kept."""
    expires_at = (await now(session)) + new.lifetime
    if new.not_after is not None:
        expires_at = min(expires_at, new.not_after)
    row = ApiToken(
        user_id=actor.user_id,
        name=new.name,
        token_hash=new.secret_hash,
        scopes=sorted(new.scopes),
        project_id=new.project_id,
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
    await record(session, actor, "token:create", "token", row.id, new.project_id, detail=detail)
    return row


_OWN = """user_id = :user AND revoked_at IS NULL
    AND (CAST(:scopes AS text[]) IS NULL OR scopes <@ CAST(:scopes AS text[]))
    AND (CAST(:project AS uuid) IS NULL OR project_id = CAST(:project AS uuid))"""
# The narrowing of a credential holds for tokens too: one token never sees or ends a wider one.


def _own(actor: Actor) -> dict[str, object]:
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


async def tokens_of(
    session: AsyncSession, actor: Actor, *, before: tuple[datetime, UUID] | None, limit: int
) -> list[ApiToken]:
    """The actor's tokens that are not revoked and not wider than the credential used, newest first."""
    place = "AND (created_at, id) < (:created_at, :id)" if before else ""
    statement = select(ApiToken).from_statement(
        text(f"SELECT * FROM api_tokens WHERE {_OWN} {place} ORDER BY created_at DESC, id DESC LIMIT :limit")  # noqa: S608  # constants
    )
    values = _own(actor) | {"limit": limit}
    if before:
        values |= {"created_at": before[0], "id": before[1]}
    return list((await session.execute(statement, values)).scalars())


async def revoke_token(session: AsyncSession, actor: Actor, token_id: UUID) -> bool:
    """Ends a token of the actor's own, at once; ``False`` if there is none of that id that ``tokens_of`` would show."""
    done = await session.execute(
        text(f"UPDATE api_tokens SET revoked_at = now() WHERE id = :id AND {_OWN} RETURNING name, project_id"),  # noqa: S608  # constants
        _own(actor) | {"id": token_id},
    )
    row = done.one_or_none()
    if row is None:
        return False
    await record(session, actor, "token:revoke", "token", token_id, row.project_id, detail={"name": row.name})
    return True


async def note_token_uses(session: AsyncSession, used_at: Mapping[UUID, datetime]) -> None:
    """Moves ``last_used_at`` of many tokens forward in one statement; never backward."""
    await session.execute(
        text(
            "UPDATE api_tokens t SET last_used_at = v.used_at "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:moments AS timestamptz[])) AS v(id, used_at) "
            "WHERE t.id = v.id AND (t.last_used_at IS NULL OR t.last_used_at < v.used_at)"
        ),
        {"ids": list(used_at), "moments": list(used_at.values())},
    )
