"""Which projects an identity may read, in one SELECT: the verdict on ``project:read``, written as a join."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import CHAIN_LENGTH_MAX
from database.store.project_view import VIEW_COLUMNS, view_of
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor
from domain.projects import ProjectView

_LIVE = "d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now())"

# As in ``rights.py``, but for one permission and every project at once: a chain of delegations is good on the project
# that one of its links names, or everywhere if none does.
_READERS = f"""
    lent AS (
        SELECT d.delegator_id, d.parent_id, d.project_id, 1 AS length
        FROM delegations d JOIN users l ON l.id = d.delegator_id AND l.is_active
        JOIN permissions pm ON pm.id = d.permission_id AND pm.name = :read
        WHERE d.delegate_id = :subject AND {_LIVE}
        UNION ALL
        SELECT d.delegator_id, d.parent_id, COALESCE(c.project_id, d.project_id), c.length + 1
        FROM lent c JOIN delegations d ON d.id = c.parent_id JOIN users l ON l.id = d.delegator_id AND l.is_active
        WHERE {_LIVE} AND (c.project_id IS NULL OR d.project_id IS NULL OR c.project_id = d.project_id)
            AND c.length < {CHAIN_LENGTH_MAX}
    ),
    subjects AS (
        SELECT CAST(:subject AS uuid) AS id, NULL::uuid AS only_project_id
        UNION
        SELECT delegator_id, project_id FROM lent WHERE parent_id IS NULL
    ),
    teams_of AS (
        SELECT s.id AS subject, s.only_project_id, t.id AS team_id, t.organization_id, t.name AS team
        FROM subjects s JOIN team_members m ON m.user_id = s.id JOIN teams t ON t.id = m.team_id
        JOIN users o ON o.id = t.organization_id AND o.is_active
    ),
    bindings AS (
        SELECT s.only_project_id, ur.* FROM subjects s JOIN user_roles ur ON ur.user_id = s.id
        UNION ALL
        SELECT m.only_project_id, ur.* FROM teams_of m JOIN user_roles ur ON ur.team_id = m.team_id
        UNION ALL
        SELECT m.only_project_id, ur.* FROM teams_of m JOIN user_roles ur ON ur.user_id = m.organization_id
    ),
    readable AS (
        SELECT DISTINCT COALESCE(b.only_project_id, b.project_id) AS project_id
        FROM bindings b JOIN role_permissions rp ON rp.role_id = b.role_id
        JOIN permissions pm ON pm.id = rp.permission_id
        WHERE pm.name IN (:read, :everything) AND (b.expires_at IS NULL OR b.expires_at > now())
            AND (b.only_project_id IS NULL OR b.project_id IS NULL OR b.only_project_id = b.project_id)
    ),
    owners AS (
        SELECT s.id AS owner_id, s.only_project_id FROM subjects s
        UNION
        SELECT m.organization_id, m.only_project_id FROM teams_of m WHERE m.team = 'owners'
    )"""  # noqa: S608  # built of constants

_VISIBLE = """(
    p.visibility IN ('internal', 'public')
    OR EXISTS (SELECT FROM readable r WHERE r.project_id IS NULL)
    OR p.id IN (SELECT r.project_id FROM readable r)
    OR (p.owner_id, p.id) IN (
        SELECT w.owner_id, q.id FROM owners w JOIN projects q ON q.owner_id = w.owner_id
        WHERE w.only_project_id IS NULL OR w.only_project_id = q.id
    )
)"""


async def visible_projects(
    session: AsyncSession, actor: Actor, *, after: tuple[str, str] | None = None, limit: int, owner: str | None = None
) -> list[ProjectView]:
    """The projects that the actor may read, sorted by ``owner/name``, in one SELECT.

    A test compares it with the verdict function, project by project.

    Args:
        after: ``(owner, name)`` of the last project of the page before.
        owner: Only projects of this owner.
    """
    if actor.scopes is not None and Permission.PROJECT_READ.value not in actor.scopes:
        return []
    conditions = [_VISIBLE]
    values: dict[str, object] = {
        "subject": actor.subject_id,
        "read": Permission.PROJECT_READ.value,
        "everything": EVERYTHING,
        "limit": limit,
    }
    if actor.project_id is not None:
        conditions.append("p.id = :only")
        values["only"] = actor.project_id
    if owner is not None:
        conditions.append("o.name = :owner")
        values["owner"] = owner
    if after is not None:
        conditions.append("(o.name, p.name) > (:after_owner, :after_name)")
        values |= {"after_owner": after[0], "after_name": after[1]}
    rows = await session.execute(
        text(
            f"WITH RECURSIVE {_READERS} SELECT {VIEW_COLUMNS} "  # noqa: S608  # built of the constants of this module
            "FROM projects p JOIN users o ON o.id = p.owner_id "
            f"WHERE p.is_active AND {' AND '.join(conditions)} ORDER BY o.name, p.name LIMIT :limit"
        ),
        values,
    )
    return [view_of(row) for row in rows.mappings()]  # type: ignore[arg-type]  # RowMapping has string keys here
