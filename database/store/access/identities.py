"""Identities: found, made, changed, taken out of use and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.access import User
from database.store.access.admins import keep_an_admin, one_at_a_time
from database.store.access.notices import order_notice
from database.store.access.sessions import end_sessions_of
from database.store.access.tokens import end_tokens
from database.store.audit import record
from domain.access.identities import Identity, check_user_name
from domain.access.notices import Notice
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, NotFound

_COLUMNS = """u.id, u.name, u.kind, u.display_name, u.email, u.email_verified_at, u.is_active,
    u.password_hash IS NOT NULL AS has_password, u.responsible_id, r.name AS responsible_name,
    u.created_at, u.updated_at"""
_FROM = "FROM users u LEFT JOIN users r ON r.id = u.responsible_id"

Verb = Literal["create", "update", "deactivate", "reactivate"]
_ACTIONS: dict[str, dict[Verb, AuditAction]] = {
    "organization": {
        "create": AuditAction.ORGANIZATION_CREATE,
        "update": AuditAction.ORGANIZATION_UPDATE,
        "deactivate": AuditAction.ORGANIZATION_DEACTIVATE,
        "reactivate": AuditAction.ORGANIZATION_REACTIVATE,
    },
    "user": {
        "create": AuditAction.USER_CREATE,
        "update": AuditAction.USER_UPDATE,
        "deactivate": AuditAction.USER_DEACTIVATE,
        "reactivate": AuditAction.USER_REACTIVATE,
    },
}


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """What an identity is made of; the rules of ``domain.access.identities`` were looked at before.

    Attributes:
        password_hash: ``None`` for whom a link in a mail, or another provider, will let in, and for who is no person.
    """

    name: str
    kind: str
    display_name: str | None = None
    email: str | None = None
    password_hash: str | None = None
    responsible_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class IdentityFilter:
    """Which identities a list shows.

    Attributes:
        kinds: Of these kinds.
        is_active: ``None`` for both.
        prefix: How the name begins.
        managed_by: Only this identity itself and those that it answers for.
    """

    kinds: Sequence[str]
    is_active: bool | None = None
    prefix: str = ""
    managed_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What ended with a deactivation.

    Attributes:
        tokens: Of the identity, of others that acted as it or for it, and what was exchanged from them.
        delegations: Given and received, with what was lent on of them.
        answers_for: Names of the agents and services that are still in use and need another responsible person.
    """

    sessions: int
    tokens: int
    delegations: int
    answers_for: tuple[str, ...]


async def user_by_name(session: AsyncSession, name: str) -> User | None:
    """The identity that is called so, active or not."""
    return (await session.execute(select(User).where(User.name == name))).scalar_one_or_none()  # type: ignore[arg-type]  # SQLModel types columns as values


async def identity_by_name(session: AsyncSession, name: str) -> Identity | None:
    """The person, agent, service or organisation that is called so, active or not."""
    return await _identity(session, "u.name = :name", {"name": name})


async def identity_by_id(session: AsyncSession, user_id: UUID) -> Identity | None:
    """The identity, active or not."""
    return await _identity(session, "u.id = :id", {"id": user_id})


async def _identity(session: AsyncSession, condition: str, values: dict[str, object]) -> Identity | None:
    rows = await session.execute(text(f"SELECT {_COLUMNS} {_FROM} WHERE {condition}"), values)
    row = rows.mappings().one_or_none()
    return None if row is None else Identity(**row)


async def identities(
    session: AsyncSession, which: IdentityFilter, *, after: str | None = None, limit: int
) -> list[Identity]:
    """Identities sorted by name.

    Args:
        after: The name at which the page before ended.
    """
    rows = await session.execute(
        text(
            f"SELECT {_COLUMNS} {_FROM} WHERE u.kind = ANY(CAST(:kinds AS text[])) "
            "AND (CAST(:is_active AS boolean) IS NULL OR u.is_active = :is_active) "
            "AND starts_with(u.name, :prefix) "
            "AND (CAST(:managed_by AS uuid) IS NULL OR :managed_by IN (u.id, u.responsible_id)) "
            "AND (CAST(:after AS text) IS NULL OR u.name > :after) ORDER BY u.name LIMIT :limit"
        ),
        {
            "kinds": list(which.kinds),
            "is_active": which.is_active,
            "prefix": which.prefix,
            "managed_by": which.managed_by,
            "after": after,
            "limit": limit,
        },
    )
    return [Identity(**row) for row in rows.mappings()]


async def create_identity(session: AsyncSession, actor: Actor, new: NewIdentity) -> Identity:
    """Makes an identity; it holds nothing until somebody gives it a role or lends it something.

    Raises:
        InvalidInput: The name breaks a rule.
        Conflict: The name or the e-mail address is somebody's (codes ``name_taken``, ``email_taken``).
    """
    check_user_name(new.name)
    made = await session.execute(
        text(
            "INSERT INTO users (name, kind, display_name, email, password_hash, responsible_id) "
            "VALUES (:name, :kind, :display_name, :email, :password_hash, :responsible_id) "
            "ON CONFLICT DO NOTHING RETURNING id"
        ),
        {
            "name": new.name,
            "kind": new.kind,
            "display_name": new.display_name,
            "email": new.email,
            "password_hash": new.password_hash,
            "responsible_id": new.responsible_id,
        },
    )
    user_id: UUID | None = made.scalar_one_or_none()
    if user_id is None:
        if await identity_by_name(session, new.name) is not None:
            raise Conflict(
                f"{new.name!r} is taken: people, agents, services and organisations share their names, and that of a "
                "deactivated one stays theirs. Choose another.",
                code="name_taken",
            )
        raise _email_taken()
    detail: dict[str, object] = {"name": new.name, "kind": new.kind, "has_password": new.password_hash is not None}
    if new.responsible_id is not None:
        detail["responsible_id"] = str(new.responsible_id)
    made_identity = await _surely(session, user_id)
    await _record(session, actor, made_identity, "create", detail=detail)
    return made_identity


def _email_taken() -> Conflict:
    return Conflict(
        "Another identity has this e-mail address; each address belongs to one. Nothing was changed.",
        code="email_taken",
    )


async def _surely(session: AsyncSession, user_id: UUID) -> Identity:
    found = await identity_by_id(session, user_id)
    if found is None:
        raise NotFound("The identity is gone.")
    return found


async def change_identity(
    session: AsyncSession, actor: Actor, identity: Identity, changes: Mapping[str, Any]
) -> Identity:
    """Sets ``display_name``, ``email`` or ``responsible_id``; a new address is not verified.

    Raises:
        Conflict: The e-mail address is somebody else's (code ``email_taken``).
    """
    changed = {key: value for key, value in changes.items() if getattr(identity, key) != value}
    if not changed:
        return identity
    assignments = [f"{key} = :{key}" for key in changed]
    if "email" in changed:
        assignments.append("email_verified_at = NULL")
        taken = await session.execute(
            text("SELECT 1 FROM users WHERE email = :email AND id <> :id"),
            {"email": changed["email"], "id": identity.id},
        )
        if taken.first() is not None:
            raise _email_taken()
        # To the old address, while it is the present one; the new one is not verified yet.
        await order_notice(session, actor, identity.id, Notice.EMAIL_CHANGED)
        # A link that was mailed to the old address must not let its reader set a password any more.
        await session.execute(text("DELETE FROM email_tokens WHERE user_id = :id"), {"id": identity.id})
    await session.execute(
        text(f"UPDATE users SET {', '.join(assignments)} WHERE id = :id"),  # noqa: S608  # keys are the caller's fields
        {**changed, "id": identity.id},
    )
    before = {key: _plain(getattr(identity, key)) for key in changed}
    after = {key: _plain(value) for key, value in changed.items()}
    await _record(session, actor, identity, "update", before=before, after=after)
    return await _surely(session, identity.id)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


async def _record(
    session: AsyncSession,
    actor: Actor,
    identity: Identity,
    verb: Verb,
    *,
    detail: Mapping[str, object] | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    what = "organization" if identity.kind == "organization" else "user"
    action = _ACTIONS[what][verb]
    await record(session, actor, action, what, identity.id, detail=detail, before=before, after=after)


async def deactivate(session: AsyncSession, actor: Actor, identity: Identity) -> Ended | None:
    """Takes an identity out of use, and everything by which it could act or others act for it, in one transaction.

    Its rows, projects and name stay. Reactivating brings back none of what ended here.

    Returns:
        What ended; ``None`` if it was out of use before.

    Raises:
        Conflict: It is the actor itself (code ``would_lock_you_out``), or the last administrator (``last_admin``).
    """
    if actor.kind != "system" and identity.id in (actor.user_id, actor.subject_id):
        raise Conflict(
            "You cannot deactivate yourself: you could not undo it. Nothing was changed; ask another administrator.",
            code="would_lock_you_out",
        )
    # Locks in the order of all who change rights: identities, delegations, then the versions that triggers count.
    await one_at_a_time(session)
    found = await session.execute(
        text("SELECT 1 FROM users WHERE id = :id AND is_active FOR UPDATE"), {"id": identity.id}
    )
    if found.first() is None:
        return None
    delegations = await _end_delegations_of(session, actor, identity.id)
    await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": identity.id})
    await keep_an_admin(session)
    ended = Ended(
        sessions=await end_sessions_of(session, actor, identity.id, reason="their user was deactivated"),
        tokens=await _end_tokens_of(session, identity.id),
        delegations=delegations,
        answers_for=await _left_alone(session, identity.id),
    )
    await session.execute(text("DELETE FROM email_tokens WHERE user_id = :id"), {"id": identity.id})
    detail: dict[str, object] = {
        "name": identity.name,
        "sessions": ended.sessions,
        "tokens": ended.tokens,
        "delegations": ended.delegations,
        "answers_for": list(ended.answers_for),
    }
    await _record(session, actor, identity, "deactivate", detail=detail)
    return ended


async def _end_tokens_of(session: AsyncSession, user_id: UUID) -> int:
    rows = await session.execute(
        text(
            "SELECT id FROM api_tokens WHERE revoked_at IS NULL "
            "AND (user_id = :id OR acting_id = :id OR :id = ANY(on_behalf_of)) ORDER BY id FOR UPDATE"
        ),
        {"id": user_id},
    )
    return await end_tokens(session, list(rows.scalars()))


async def _end_delegations_of(session: AsyncSession, actor: Actor, user_id: UUID) -> int:
    rows = await session.execute(
        text(
            "WITH RECURSIVE gone AS ("
            "SELECT id FROM delegations WHERE :id IN (delegator_id, delegate_id) AND revoked_at IS NULL "
            "UNION SELECT d.id FROM gone g JOIN delegations d ON d.parent_id = g.id WHERE d.revoked_at IS NULL), "
            "locked AS (SELECT id FROM delegations WHERE id IN (SELECT id FROM gone) ORDER BY id FOR UPDATE), "
            "ended AS (UPDATE delegations d SET revoked_at = now(), revoked_by = CAST(:by AS uuid) FROM locked l "
            "WHERE d.id = l.id AND d.revoked_at IS NULL RETURNING d.id) SELECT count(*) FROM ended"
        ),
        {"id": user_id, "by": None if actor.kind == "system" else actor.user_id},
    )
    return int(rows.scalar_one())


async def _left_alone(session: AsyncSession, user_id: UUID) -> tuple[str, ...]:
    rows = await session.execute(
        text("SELECT name FROM users WHERE responsible_id = :id AND is_active ORDER BY name"), {"id": user_id}
    )
    return tuple(rows.scalars())


async def reactivate(session: AsyncSession, actor: Actor, identity: Identity) -> bool:
    """Takes an identity into use again, with the roles that it still has; ``False`` if it was in use.

    Sessions, tokens and delegations that ended with the deactivation stay ended.
    """
    done = await session.execute(
        text("UPDATE users SET is_active = true WHERE id = :id AND NOT is_active RETURNING id"), {"id": identity.id}
    )
    if done.first() is None:
        return False
    await _record(session, actor, identity, "reactivate", detail={"name": identity.name})
    return True
