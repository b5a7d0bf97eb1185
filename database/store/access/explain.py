"""Why somebody may do something or not, and who may: each in one SELECT, with the paths that give it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.lent import lent_ctes
from database.store.access.rights import CHAIN_LENGTH_MAX, lent_path, rights_ctes
from domain.access.held import NOTHING, Held, Path
from domain.access.permissions import OWNER_PERMISSIONS, Permission

PATHS_MAX = 50
"""Of one identity; there are seldom more than a few."""


@dataclass(frozen=True, slots=True)
class GrantingPath:
    """One way in which somebody comes to hold a permission.

    Attributes:
        lenders: Names of those who lent it, nearest first; empty for what one holds oneself.
        expires_at: When it ends by itself.
    """

    text: str
    lenders: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say about one identity and one permission in one place.

    Attributes:
        paths: All that give it; one's own first.
        broken: What would give it and does not, each with the reason.
        roles: The roles that bundle it.
        held: ``paths`` for the verdict function.
    """

    user_id: UUID
    name: str
    kind: str
    is_active: bool
    paths: tuple[GrantingPath, ...]
    broken: tuple[str, ...]
    roles: tuple[str, ...]
    held: Held


_HERE = "(d.project_id IS NULL OR d.project_id = CAST(:project AS uuid))"
_NAMES = """ARRAY(SELECT y.name FROM unnest({lenders}) WITH ORDINALITY x(id, place) JOIN users y ON y.id = x.id
            ORDER BY x.place)"""

_BOUND_HERE = """(ur.project_id IS NULL OR ur.project_id = CAST(:project AS uuid))
                AND (ur.expires_at IS NULL OR ur.expires_at > now())"""

_EXPLAIN = text(
    f"""
    WITH RECURSIVE who AS (SELECT id, name, kind, is_active FROM users WHERE name = :name),
    {rights_ctes("(SELECT id FROM who)", "CAST(:project AS uuid)")},
    {
        lent_ctes(
            f"SELECT d.* FROM delegations d JOIN permissions pm ON pm.id = d.permission_id AND pm.name = :permission "
            f"WHERE d.delegate_id = (SELECT id FROM who) AND {_HERE}"
        )
    },
    bundles AS (
        SELECT DISTINCT r.id, r.name FROM roles r JOIN role_permissions rp ON rp.role_id = r.id
        JOIN permissions pm ON pm.id = rp.permission_id AND pm.name IN (:permission, '*:*')
    ),
    closed AS (
        SELECT t.id AS team_id, t.name AS team, o.id AS organization_id, o.name AS organization
        FROM who w JOIN team_members m ON m.user_id = w.id JOIN teams t ON t.id = m.team_id
        JOIN users o ON o.id = t.organization_id AND NOT o.is_active
    )
    SELECT w.*,
        (SELECT COALESCE(jsonb_agg(jsonb_build_array(p.path, p.expires_at, p.lenders, p.ids)), '[]') FROM (
            SELECT h.path, h.expires_at, h.lenders AS ids, {_NAMES.format(lenders="h.lenders")} AS lenders
            FROM held h WHERE h.permission IN (:permission, '*:*')
            ORDER BY h.rank, h.expires_at DESC NULLS FIRST, h.path LIMIT {PATHS_MAX}
        ) p) AS paths,
        ARRAY(
            SELECT 'lent by ' || l.name || ': ' || g.problem FROM problems g JOIN chosen c ON c.id = g.first_id
            JOIN users l ON l.id = c.delegator_id ORDER BY c.created_at DESC LIMIT {PATHS_MAX}
        ) AS broken_loans,
        ARRAY(
            SELECT 'role ' || b.name || ': ended on ' || to_char(ur.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
                || ' UTC' FROM user_roles ur JOIN bundles b ON b.id = ur.role_id
            WHERE ur.expires_at <= now() AND (ur.project_id IS NULL OR ur.project_id = CAST(:project AS uuid)) AND (
                ur.user_id = w.id OR EXISTS (SELECT FROM teams_of m WHERE m.subject = w.id
                    AND (m.team_id = ur.team_id OR m.organization_id = ur.user_id))
            ) ORDER BY ur.expires_at DESC LIMIT {PATHS_MAX}
        ) AS broken_roles,
        ARRAY(
            SELECT 'role ' || b.name || ' through team ' || c.organization || '/' || c.team || ': ' || c.organization
                || ' is deactivated' FROM closed c JOIN user_roles ur ON ur.team_id = c.team_id
            JOIN bundles b ON b.id = ur.role_id WHERE {_BOUND_HERE}
            UNION
            SELECT 'role ' || b.name || ' through organisation ' || c.organization || ', which is deactivated'
            FROM closed c JOIN user_roles ur ON ur.user_id = c.organization_id
            JOIN bundles b ON b.id = ur.role_id WHERE {_BOUND_HERE}
            UNION
            SELECT 'owner through organisation ' || c.organization || ', which is deactivated'
            FROM closed c JOIN projects p ON p.owner_id = c.organization_id
            WHERE p.id = CAST(:project AS uuid) AND c.team = 'owners' AND :owners
            ORDER BY 1 LIMIT {PATHS_MAX}
        ) AS broken_organizations,
        ARRAY(SELECT name FROM bundles ORDER BY name) AS roles
    FROM who w
    """  # noqa: S608  # constants
)


async def explain(
    session: AsyncSession, user_name: str, permission: Permission, project_id: UUID | None
) -> Explanation | None:
    """All that gives an identity a permission there, and what is broken of it; not narrowed by any credential.

    Args:
        project_id: ``None`` asks about the platform.

    Returns:
        ``None`` if nobody is called so.
    """
    values = {
        "name": user_name,
        "permission": permission.value,
        "project": project_id,
        "owners": permission in OWNER_PERMISSIONS,
    }
    row = (await session.execute(_EXPLAIN, values)).one_or_none()
    if row is None:
        return None
    return Explanation(
        user_id=row.id,
        name=row.name,
        kind=row.kind,
        is_active=row.is_active,
        paths=tuple(GrantingPath(path, tuple(names), _moment(end)) for path, end, names, _ in row.paths),
        broken=(*row.broken_loans, *row.broken_roles, *row.broken_organizations),
        roles=tuple(row.roles),
        held=_held(permission, row.paths),
    )


def _held(permission: Permission, paths: list[list[Any]]) -> Held:
    if not paths:
        return NOTHING
    best, _, _, lenders = paths[0]
    return Held({permission.value: Path(best, tuple(map(UUID, lenders)))})


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who may do something, with the paths that give it."""

    user_id: UUID
    name: str
    kind: str
    paths: tuple[GrantingPath, ...]


# ``rights.py`` asks upward from one identity; this is the same downward, from all who hold one permission themselves.
_WHO = text(
    f"""
    WITH RECURSIVE bound AS (
        SELECT ur.user_id, ur.team_id, ur.expires_at,
            'role ' || r.name || CASE WHEN ur.project_id IS NULL THEN '' ELSE ' on the project' END AS path
        FROM user_roles ur JOIN roles r ON r.id = ur.role_id JOIN role_permissions rp ON rp.role_id = r.id
        JOIN permissions pm ON pm.id = rp.permission_id AND pm.name IN (:permission, '*:*')
        WHERE (ur.project_id IS NULL OR ur.project_id = CAST(:project AS uuid))
            AND (ur.expires_at IS NULL OR ur.expires_at > now())
    ),
    members AS (
        SELECT m.user_id, t.id AS team_id, t.name AS team, o.id AS organization_id, o.name AS organization
        FROM teams t JOIN users o ON o.id = t.organization_id AND o.is_active JOIN team_members m ON m.team_id = t.id
    ),
    own AS (
        SELECT b.user_id, b.path, b.expires_at FROM bound b WHERE b.user_id IS NOT NULL
        UNION ALL
        SELECT m.user_id, b.path || ' through team ' || m.organization || '/' || m.team, b.expires_at
        FROM bound b JOIN members m ON m.team_id = b.team_id
        UNION ALL
        SELECT m.user_id, b.path || ' through organisation ' || m.organization, b.expires_at
        FROM bound b JOIN (SELECT DISTINCT user_id, organization_id, organization FROM members) m
            ON m.organization_id = b.user_id
        UNION ALL
        SELECT p.owner_id, 'owner', NULL FROM projects p WHERE p.id = CAST(:project AS uuid) AND :owners
        UNION ALL
        SELECT m.user_id, 'owner through organisation ' || m.organization, NULL
        FROM projects p JOIN members m ON m.organization_id = p.owner_id AND m.team = 'owners'
        WHERE p.id = CAST(:project AS uuid) AND :owners
    ),
    passed AS (
        SELECT d.id, d.delegate_id, ARRAY[d.delegator_id] AS lenders, l.name AS lender, l.name AS root,
            o.path AS root_path, LEAST(o.expires_at, d.expires_at) AS expires_at
        FROM own o JOIN delegations d ON d.delegator_id = o.user_id AND d.parent_id IS NULL
        JOIN permissions pm ON pm.id = d.permission_id AND pm.name = :permission
        JOIN users l ON l.id = d.delegator_id AND l.is_active
        WHERE d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now()) AND {_HERE}
        UNION ALL
        SELECT d.id, d.delegate_id, d.delegator_id || c.lenders, l.name, c.root, c.root_path,
            LEAST(c.expires_at, d.expires_at)
        FROM passed c JOIN delegations d ON d.parent_id = c.id JOIN users l ON l.id = d.delegator_id AND l.is_active
        WHERE d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now()) AND {_HERE}
            AND cardinality(c.lenders) < {CHAIN_LENGTH_MAX}
    ),
    holders AS (
        SELECT o.user_id, o.path, o.expires_at, '{{}}'::uuid[] AS lenders FROM own o
        UNION ALL
        SELECT c.delegate_id, {lent_path("c.lender", "c.root", "c.root_path", "c.lenders")}, c.expires_at, c.lenders
        FROM passed c
    ),
    page AS (
        SELECT u.id, u.name, u.kind FROM users u
        WHERE u.is_active AND u.kind <> 'organization' AND u.id IN (SELECT user_id FROM holders)
            AND (CAST(:after AS text) IS NULL OR u.name > :after)
        ORDER BY u.name LIMIT :limit
    )
    SELECT u.id, u.name, u.kind, h.path, h.expires_at, {_NAMES.format(lenders="h.lenders")} AS lenders
    FROM page u JOIN holders h ON h.user_id = u.id
    ORDER BY u.name, cardinality(h.lenders), h.expires_at DESC NULLS FIRST, h.path
    """  # noqa: S608  # constants
)


async def holders_of(
    session: AsyncSession, permission: Permission, project_id: UUID | None, *, after: str | None = None, limit: int
) -> list[Holder]:
    """Who may do something there, by name, with every path; not narrowed by credentials, nor widened by visibility.

    Args:
        project_id: ``None`` asks about the platform.
        after: The name at which the page before ended.
    """
    values = {
        "permission": permission.value,
        "project": project_id,
        "owners": permission in OWNER_PERMISSIONS,
        "after": after,
        "limit": limit,
    }
    rows = (await session.execute(_WHO, values)).all()
    return [_holder(list(group)) for _, group in groupby(rows, key=lambda row: row.id)]


def _holder(rows: Iterable[Any]) -> Holder:
    first, *_ = rows = list(rows)
    paths = (GrantingPath(row.path, tuple(row.lenders), row.expires_at) for row in rows[:PATHS_MAX])
    return Holder(first.id, first.name, first.kind, tuple(paths))
