"""What an installation needs before anybody can sign in: the vocabulary of permissions, the roles, an administrator.

Every function may run at every start, in several processes at once, and changes only what is missing.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.admins import admin_exists
from database.store.audit import record
from domain.access.identities import check_user_name
from domain.access.permissions import EVERYTHING, SYSTEM_ROLES, Permission
from domain.actors import SYSTEM
from domain.audit.actions import AuditAction

_LOCK = 0x7065_7265  # one bootstrap at a time; the number is "pere", next to the migrator's


async def ensure_vocabulary(session: AsyncSession) -> None:
    """Brings the permissions and the system roles in line with ``domain.access.permissions``.

    A system role holds exactly what the code says: a permission that a release takes from a role is taken here too.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    names = [*Permission, EVERYTHING]
    await session.execute(
        text(
            "INSERT INTO permissions (name, resource, action) "
            "SELECT n, split_part(n, ':', 1), split_part(n, ':', 2) FROM unnest(CAST(:names AS text[])) AS n "
            "ON CONFLICT (name) DO NOTHING"
        ),
        {"names": [str(name) for name in names]},
    )
    await session.execute(
        text(
            "INSERT INTO roles (name, is_system) SELECT n, true FROM unnest(CAST(:names AS text[])) AS n "
            "ON CONFLICT (name) DO NOTHING"
        ),
        {"names": list(SYSTEM_ROLES)},
    )
    pairs = [(role, str(permission)) for role, held in SYSTEM_ROLES.items() for permission in sorted(held)]
    values = {"roles": [role for role, _ in pairs], "permissions": [permission for _, permission in pairs]}
    wanted = (
        "SELECT r.id AS role_id, p.id AS permission_id "
        "FROM unnest(CAST(:roles AS text[]), CAST(:permissions AS text[])) AS w(role, permission) "
        "JOIN roles r ON r.name = w.role AND r.is_system JOIN permissions p ON p.name = w.permission"
    )
    await session.execute(
        text(f"INSERT INTO role_permissions (role_id, permission_id) {wanted} ON CONFLICT DO NOTHING"),
        values,
    )
    taken = (
        f"DELETE FROM role_permissions WHERE (role_id, permission_id) NOT IN ({wanted}) "  # noqa: S608  # a constant
        "AND role_id IN (SELECT id FROM roles WHERE is_system)"
    )
    await session.execute(text(taken), values)


async def ensure_admin(session: AsyncSession, *, name: str, email: str, password_hash: str) -> UUID | None:
    """Makes the first administrator, if there is none.

    Returns:
        The new administrator, or ``None`` if one existed.

    Raises:
        InvalidInput: The name breaks a rule.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if await admin_exists(session):
        return None
    check_user_name(name)
    made = await session.execute(
        text(
            "INSERT INTO users (name, email, password_hash) VALUES (:name, :email, :hash) "
            "ON CONFLICT (name) DO UPDATE SET password_hash = EXCLUDED.password_hash, is_active = true RETURNING id"
        ),
        {"name": name, "email": email, "hash": password_hash},
    )
    user_id: UUID = made.scalar_one()
    await session.execute(
        text(
            "INSERT INTO user_roles (user_id, role_id) SELECT :user, id FROM roles WHERE name = 'admin' "
            "ON CONFLICT DO NOTHING"
        ),
        {"user": user_id},
    )
    await record(session, SYSTEM, AuditAction.USER_CREATE, "user", user_id, detail={"name": name, "role": "admin"})
    return user_id
