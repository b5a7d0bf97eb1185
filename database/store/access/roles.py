"""Roles: what there are and what they bundle; custom ones made, changed and deleted."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import rights_ctes
from database.store.audit import record
from domain.access.granting import OwnRights
from domain.access.identities import check_label
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput, NotFound

RESERVED_ROLE_NAMES = frozenset({"bindings"})
"""Part of the addresses of roles."""


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role with what it bundles.

    Attributes:
        permissions: Sorted; ``*:*`` included.
        is_system: Comes with the platform and cannot be changed.
    """

    id: UUID
    name: str
    description: str | None
    is_system: bool
    permissions: tuple[str, ...]
    created_at: datetime


_ROLES = """
    SELECT r.id, r.name, r.description, r.is_system, r.created_at,
        COALESCE(array_agg(pm.name ORDER BY pm.name) FILTER (WHERE pm.name IS NOT NULL), '{}') AS permissions
    FROM roles r LEFT JOIN role_permissions rp ON rp.role_id = r.id LEFT JOIN permissions pm ON pm.id = rp.permission_id
    """


def _view(row: RowMapping) -> RoleView:
    return RoleView(**{**row, "permissions": tuple(row["permissions"])})


async def roles(session: AsyncSession) -> list[RoleView]:
    """Every role, sorted by name; there are few."""
    rows = await session.execute(text(f"{_ROLES} GROUP BY r.id ORDER BY r.name"))
    return [_view(row) for row in rows.mappings()]


async def role_by_name(session: AsyncSession, name: str) -> RoleView:
    """The role.

    Raises:
        NotFound: There is none of that name.
    """
    rows = await session.execute(text(f"{_ROLES} WHERE r.name = :name GROUP BY r.id"), {"name": name})
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no role {name!r}; GET /api/v1/roles lists them.", code="no_such_role")
    return _view(row)


_OWN_RIGHTS = text(
    f"WITH RECURSIVE {rights_ctes('CAST(:subject AS uuid)', 'CAST(:project AS uuid)')} "  # noqa: S608  # constants
    "SELECT permission, CASE WHEN bool_or(expires_at IS NULL) THEN NULL ELSE max(expires_at) END AS ends_at "
    "FROM own WHERE subject = CAST(:subject AS uuid) GROUP BY permission"
)


async def own_rights(session: AsyncSession, user_id: UUID, project_id: UUID | None = None) -> OwnRights:
    """What an identity holds by itself, everywhere and on ``project_id``: by roles and owning, not lent."""
    rows = await session.execute(_OWN_RIGHTS, {"subject": user_id, "project": project_id})
    return {row.permission: row.ends_at for row in rows}


async def create_role(
    session: AsyncSession, actor: Actor, name: str, description: str | None, permissions: frozenset[str]
) -> RoleView:
    """Makes a custom role. Whether the actor may give what is in it is decided before.

    Raises:
        InvalidInput: The name breaks a rule.
        Conflict: There is a role of that name (code ``role_exists``).
    """
    check_label(name, "role")
    if name in RESERVED_ROLE_NAMES:
        raise InvalidInput(f"A role cannot be called {name!r}: it is part of an address.", code="invalid_name")
    made = await session.execute(
        text("INSERT INTO roles (name, description) VALUES (:name, :description) ON CONFLICT DO NOTHING RETURNING id"),
        {"name": name, "description": description},
    )
    role_id: UUID | None = made.scalar_one_or_none()
    if role_id is None:
        raise Conflict(
            f"There is a role {name!r} already. Choose another name, or change that one.", code="role_exists"
        )
    await _bundle(session, role_id, permissions)
    detail: dict[str, object] = {"name": name, "permissions": sorted(permissions)}
    await record(session, actor, AuditAction.ROLE_CREATE, "role", role_id, detail=detail)
    return await role_by_name(session, name)


async def change_role(
    session: AsyncSession,
    actor: Actor,
    role: RoleView,
    *,
    description: str | None,
    permissions: frozenset[str],
) -> RoleView:
    """Changes what a custom role bundles, for everybody who holds it, at once.

    Raises:
        Conflict: It is a system role (code ``system_role``).
    """
    _check_custom(role)
    await session.execute(
        text("UPDATE roles SET description = :description WHERE id = :id"), {"description": description, "id": role.id}
    )
    if permissions != frozenset(role.permissions):
        await session.execute(
            text(
                "DELETE FROM role_permissions WHERE role_id = :role AND permission_id NOT IN "
                "(SELECT id FROM permissions WHERE name = ANY(CAST(:names AS text[])))"
            ),
            {"role": role.id, "names": sorted(permissions)},
        )
        await _bundle(session, role.id, permissions)
    detail: dict[str, object] = {"name": role.name}
    if permissions != frozenset(role.permissions):
        detail["permissions"] = {"before": list(role.permissions), "after": sorted(permissions)}
    if description != role.description:
        detail["description"] = {"before": role.description, "after": description}
    await record(session, actor, AuditAction.ROLE_UPDATE, "role", role.id, detail=detail)
    return await role_by_name(session, role.name)


async def _bundle(session: AsyncSession, role_id: UUID, permissions: frozenset[str]) -> None:
    await session.execute(
        text(
            "INSERT INTO role_permissions (role_id, permission_id) SELECT :role, id FROM permissions "
            "WHERE name = ANY(CAST(:names AS text[])) ON CONFLICT DO NOTHING"
        ),
        {"role": role_id, "names": sorted(permissions)},
    )


def _check_custom(role: RoleView) -> None:
    if role.is_system:
        raise Conflict(
            f"{role.name!r} is a system role: it holds what the platform's reference says and cannot be changed or "
            "deleted. Make a role of your own instead.",
            code="system_role",
        )


async def delete_role(session: AsyncSession, actor: Actor, role: RoleView) -> None:
    """Deletes a custom role that nobody holds.

    Raises:
        Conflict: It is a system role (code ``system_role``), or somebody holds it (``role_in_use``).
    """
    _check_custom(role)
    # A binding that is being made takes the row too (its foreign key), so one of the two sees the other.
    await session.execute(text("SELECT 1 FROM roles WHERE id = :id FOR UPDATE"), {"id": role.id})
    found = await session.execute(
        text("SELECT count(*) FROM user_roles WHERE role_id = :id AND (expires_at IS NULL OR expires_at > now())"),
        {"id": role.id},
    )
    holders = int(found.scalar_one())
    if holders:
        raise Conflict(
            f"The role {role.name!r} is bound {holders} times, so deleting it would take rights away unseen. Nothing "
            f"was changed; GET /api/v1/roles/bindings?role={role.name} lists who holds it: delete those first.",
            code="role_in_use",
            details={"bindings": holders},
        )
    await session.execute(text("DELETE FROM roles WHERE id = :id"), {"id": role.id})
    detail: dict[str, object] = {"name": role.name, "permissions": list(role.permissions)}
    await record(session, actor, AuditAction.ROLE_DELETE, "role", role.id, detail=detail)
