"""That there is always an administrator: somebody who holds ``*:*`` everywhere and can sign in."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import held_by
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor
from domain.errors import Conflict

_LOCK = 0x7065_7266  # one change of administrators at a time; the number is "perf", next to bootstrap's

# By oneself, by a team or by an organisation. A person who cannot sign in administers nothing.
_ADMINS = """
    SELECT u.id FROM users u
    WHERE u.is_active AND u.kind = 'user' AND (
        u.password_hash IS NOT NULL
        OR EXISTS (SELECT FROM passkeys k WHERE k.user_id = u.id)
        OR EXISTS (SELECT FROM external_identities x WHERE x.user_id = u.id)
    ) AND EXISTS (
        SELECT FROM user_roles ur JOIN role_permissions rp ON rp.role_id = ur.role_id
        JOIN permissions pm ON pm.id = rp.permission_id AND pm.name = :everything
        WHERE ur.project_id IS NULL AND (ur.expires_at IS NULL OR (:ending AND ur.expires_at > now())) AND (
            ur.user_id = u.id
            OR EXISTS (
                SELECT FROM team_members m JOIN teams t ON t.id = m.team_id
                JOIN users o ON o.id = t.organization_id AND o.is_active
                WHERE m.user_id = u.id AND (t.id = ur.team_id OR o.id = ur.user_id)
            )
        )
    ) LIMIT 1"""


async def admin_exists(session: AsyncSession, *, lasting: bool = False) -> bool:
    """Whether an active person holds everything everywhere.

    Args:
        lasting: A binding that ends by itself does not count.
    """
    found = await session.execute(text(_ADMINS), {"everything": EVERYTHING, "ending": not lasting})
    return found.first() is not None


async def one_at_a_time(session: AsyncSession) -> None:
    """Lets one transaction at a time take rights away from many at once: such could else wait for each other."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


async def keep_an_admin(session: AsyncSession) -> None:
    """Called after each change that may take an administrator away, in its transaction; undoes it by raising.

    Two such changes at once wait for each other here, and the second sees what the first did.

    Raises:
        Conflict: Nobody would be left (code ``last_admin``).
    """
    await one_at_a_time(session)
    if not await admin_exists(session, lasting=True):
        raise Conflict(
            "Nobody would be left who administers the platform: there must always be a person who can sign in and "
            "whose admin role does not end. Nothing was changed; give somebody else the admin role first.",
            code="last_admin",
        )


async def keep_own(session: AsyncSession, actor: Actor, permission: Permission, project_id: UUID | None = None) -> None:
    """Called after a change that needed ``permission``: nobody takes it from themselves by accident.

    Raises:
        Conflict: The actor would not hold it any more (code ``would_lock_you_out``).
    """
    if actor.kind == "system":
        return
    held = await held_by(session, actor.subject_id, project_id)
    if held.path_to(permission.value) is None:
        raise Conflict(
            f"You would lose {permission.value} here and could not undo that. Nothing was changed; if you mean it, "
            "ask somebody else who holds it to do it.",
            code="would_lock_you_out",
        )
