"""Who somebody is and what they hold: the one SELECT of every request, sign-in, sessions and API tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.engine import Database
from database.models.access import ApiToken, AuthSession, User
from database.store.audit import record
from domain.actors import Actor, Origin
from domain.projects import ProjectView


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request proves itself with.

    Attributes:
        kind: An API token, or the cookie of a browser session.
        secret_hash: ``domain.access.tokens.hash_secret`` of it.
    """

    kind: Literal["token", "session"]
    secret_hash: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks, what their roles give them here, and the project that they asked for.

    Attributes:
        actor: With the narrowing of the credential.
        held: Permissions of the actor's global roles and of their roles on ``project``; not narrowed.
        project: ``None`` if none was asked for or there is none of that name. Nothing says yet that the actor may
            see it: that is ``domain.access.decide.require``'s to say.
    """

    actor: Actor
    held: frozenset[str]
    project: ProjectView | None


_CREDENTIALS = {
    "token": """
        SELECT user_id, id AS token_id, NULL::uuid AS session_id, scopes, project_id AS only_project_id
        FROM api_tokens
        WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())""",
    "session": """
        SELECT user_id, NULL::uuid AS token_id, id AS session_id, NULL::text[] AS scopes, NULL::uuid AS only_project_id
        FROM auth_sessions
        WHERE token_hash = $1 AND expires_at > now()""",
}

# The roles are looked up in the same statement, so a role that was taken away is gone with the next request.
_HELD = """
    ARRAY(
        SELECT pm.name FROM user_roles ur
        JOIN role_permissions rp ON rp.role_id = ur.role_id
        JOIN permissions pm ON pm.id = rp.permission_id
        WHERE ur.user_id = u.id AND (ur.project_id IS NULL{on_project})
    ) AS held"""

_WHO = """
    WITH credential AS ({credential})
    SELECT u.id AS user_id, u.name AS user_name, u.kind, c.token_id, c.session_id, c.scopes, c.only_project_id,{held}
    FROM credential c JOIN users u ON u.id = c.user_id AND u.is_active"""

_WHO_AND_PROJECT = """
    WITH credential AS ({credential})
    SELECT u.id AS user_id, u.name AS user_name, u.kind, c.token_id, c.session_id, c.scopes, c.only_project_id,{held},
        p.id, p.owner_id, o.name AS owner_name, p.name, p.display_name, p.description, p.visibility,
        p.default_branch, p.created_at, p.updated_at
    FROM credential c JOIN users u ON u.id = c.user_id AND u.is_active
    LEFT JOIN (projects p JOIN users o ON o.id = p.owner_id) ON o.name = $2 AND p.name = $3 AND p.is_active"""

_STATEMENTS = {
    kind: (
        _WHO.format(credential=credential, held=_HELD.format(on_project="")),
        _WHO_AND_PROJECT.format(credential=credential, held=_HELD.format(on_project=" OR ur.project_id = p.id")),
    )
    for kind, credential in _CREDENTIALS.items()
}


async def authorize(
    database: Database,
    credential: Credential,
    *,
    origin: Origin,
    owner: str | None = None,
    name: str | None = None,
) -> Grant | None:
    """Finds out who asks, what they hold, and the project ``owner``/``name``, in one SELECT.

    Expiry, revocation and deactivation are judged by the database's clock in the same statement.

    Args:
        credential: What the request carries.
        origin: Where it came from; handed on in the actor.
        owner: With ``name``: the project asked for; both or neither.

    Returns:
        ``None`` if the credential is unknown, expired or revoked, or its user was deactivated.

    Raises:
        Unavailable: The database does not answer.
    """
    who, who_and_project = _STATEMENTS[credential.kind]
    if owner is None:
        rows = await database.read(who, credential.secret_hash)
    else:
        rows = await database.read(who_and_project, credential.secret_hash, owner, name)
    if not rows:
        return None
    row = rows[0]
    scopes = row["scopes"]
    actor = Actor(
        user_id=row["user_id"],
        name=row["user_name"],
        kind=row["kind"],
        token_id=row["token_id"],
        session_id=row["session_id"],
        scopes=None if scopes is None else frozenset(scopes),
        project_id=row["only_project_id"],
        origin=origin,
    )
    project = view_of(row) if owner is not None and row["id"] is not None else None
    return Grant(actor, frozenset(row["held"]), project)


def view_of(row: Mapping[str, Any]) -> ProjectView:
    """A project of a row that names its columns as ``ProjectView`` does."""
    return ProjectView(
        id=row["id"],
        owner_id=row["owner_id"],
        owner_name=row["owner_name"],
        name=row["name"],
        display_name=row["display_name"],
        description=row["description"],
        visibility=row["visibility"],
        default_branch=row["default_branch"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def user_by_name(session: AsyncSession, name: str) -> User | None:
    """The identity that is called so, active or not."""
    return (await session.execute(select(User).where(User.name == name))).scalar_one_or_none()  # type: ignore[arg-type]  # SQLModel types columns as values


async def held_by(session: AsyncSession, user_id: UUID, project_id: UUID | None = None) -> frozenset[str]:
    """The permissions of the roles that an identity holds everywhere, and of those on ``project_id`` if it is given."""
    rows = await session.execute(
        text(
            "SELECT pm.name FROM user_roles ur JOIN role_permissions rp ON rp.role_id = ur.role_id "
            "JOIN permissions pm ON pm.id = rp.permission_id "
            "WHERE ur.user_id = :user AND (ur.project_id IS NULL OR ur.project_id = CAST(:project AS uuid))"
        ),
        {"user": user_id, "project": project_id},
    )
    return frozenset(rows.scalars())


async def replace_password_hash(session: AsyncSession, user_id: UUID, password_hash: str) -> None:
    """Stores a newer hash of the same password (its cost parameters changed)."""
    await session.execute(
        text("UPDATE users SET password_hash = :hash WHERE id = :id"), {"hash": password_hash, "id": user_id}
    )


async def open_session(session: AsyncSession, actor: Actor, secret_hash: str, lifetime: timedelta) -> Actor:
    """Opens a browser session that ends ``lifetime`` from now whatever happens; returns the actor with it."""
    row = AuthSession(
        user_id=actor.user_id,
        token_hash=secret_hash,
        ip_addr=actor.origin.ip,
        user_agent=actor.origin.user_agent,
        expires_at=(await _now(session)) + lifetime,
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
    expires_at = (await _now(session)) + new.lifetime
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


async def expire_access(session: AsyncSession) -> int:
    """Removes ended browser sessions, and answers kept for ``Idempotency-Key`` over a day old; returns how many."""
    removed = 0
    for statement in (
        "WITH gone AS (DELETE FROM auth_sessions WHERE expires_at < now() RETURNING 1) SELECT count(*) FROM gone",
        """WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day' RETURNING 1)
        SELECT count(*) FROM gone""",
    ):
        removed += int((await session.execute(text(statement))).scalar_one())
    return removed


async def _now(session: AsyncSession) -> datetime:
    moment: datetime = (await session.execute(select(func.now()))).scalar_one()
    return moment
