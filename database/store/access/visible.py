"""Which projects an identity may read, in one SELECT: the verdict on ``project:read``, written as a join.

Where most projects are visible, a page is full after some steps through the index of addresses; where few are, these
are collected and sorted. Nobody can know beforehand which it is, so the statement takes some steps and looks: either
the page is full or the projects are at their end, and nothing else is read, or what is visible is collected.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import CHAIN_LENGTH_MAX
from database.store.project_view import VIEW_COLUMNS, view_of
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor
from domain.projects import ProjectView

STEPS_PER_ROW = 5
"""As long as one project in so many is visible, a page costs no more than its steps."""

_LIVE = "d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now())"
_READS = """ur.role_id = ANY((SELECT role_ids FROM reading)::uuid[])
            AND (ur.expires_at IS NULL OR ur.expires_at > now())"""


def _own(columns: str, project: str) -> str:
    """SQL: bindings with ``project:read`` on ``project`` that are one's own, by oneself or through teams."""
    return f"""
        SELECT {columns} FROM user_roles ur
        WHERE ur.user_id = ANY((SELECT user_ids FROM oneself)::uuid[]) AND ur.project_id {project} AND {_READS}
        UNION ALL
        SELECT {columns} FROM user_roles ur
        WHERE ur.team_id = ANY((SELECT team_ids FROM oneself)::uuid[]) AND ur.project_id {project} AND {_READS}"""  # noqa: S608  # constants of this module


# As in ``rights.py``, but for one permission and every project at once: a chain of delegations is good on the project
# that one of its links names, or everywhere if none does.
_HOLDERS = f"""
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
        SELECT s.only_project_id, t.id AS team_id, t.organization_id, t.name AS team
        FROM subjects s JOIN team_members m ON m.user_id = s.id JOIN teams t ON t.id = m.team_id
        JOIN users o ON o.id = t.organization_id AND o.is_active
    ),
    holders AS MATERIALIZED (
        SELECT s.id AS user_id, NULL::uuid AS team_id, s.only_project_id FROM subjects s
        UNION
        SELECT m.organization_id, NULL, m.only_project_id FROM teams_of m
        UNION
        SELECT NULL, m.team_id, m.only_project_id FROM teams_of m
    ),
    owners AS MATERIALIZED (
        SELECT u.id AS owner_id, u.name AS owner_name, w.only_project_id FROM (
            SELECT s.id, s.only_project_id FROM subjects s
            UNION
            SELECT m.organization_id, m.only_project_id FROM teams_of m WHERE m.team = 'owners'
        ) w JOIN users u ON u.id = w.id
    ),
    reading AS MATERIALIZED (
        SELECT array_agg(rp.role_id) AS role_ids FROM role_permissions rp
        JOIN permissions pm ON pm.id = rp.permission_id AND pm.name IN (:read, :everything)
    ),
    oneself AS MATERIALIZED (
        SELECT array_agg(user_id) AS user_ids, array_agg(team_id) AS team_ids FROM holders WHERE only_project_id IS NULL
    ),
    everywhere AS MATERIALIZED (SELECT EXISTS ({_own("", "IS NULL")}) AS it),
    lent_here AS MATERIALIZED (
        SELECT h.only_project_id AS id FROM holders h WHERE h.only_project_id IS NOT NULL AND EXISTS (
            SELECT FROM user_roles ur WHERE ur.user_id = h.user_id AND ur.project_id = h.only_project_id AND {_READS}
            UNION ALL
            SELECT FROM user_roles ur WHERE ur.user_id = h.user_id AND ur.project_id IS NULL AND {_READS}
            UNION ALL
            SELECT FROM user_roles ur WHERE ur.team_id = h.team_id AND ur.project_id = h.only_project_id AND {_READS}
            UNION ALL
            SELECT FROM user_roles ur WHERE ur.team_id = h.team_id AND ur.project_id IS NULL AND {_READS}
        )
        UNION
        SELECT p.id FROM owners w JOIN projects p ON p.id = w.only_project_id AND p.owner_id = w.owner_id
    )"""  # noqa: S608  # built of constants

_IS_OPEN = "p.visibility <> 'private'"

_IS_VISIBLE = f"""(
        {_IS_OPEN}
        OR (SELECT it FROM everywhere)
        OR p.owner_id IN (SELECT w.owner_id FROM owners w WHERE w.only_project_id IS NULL)
        OR p.id IN (SELECT id FROM lent_here)
        OR EXISTS ({_own("", "= p.id")})
    )"""  # noqa: S608  # as above


def _statement(which: str) -> str:
    """The whole, for projects ``p`` of which ``which`` holds.

    What is collected is looked up one by one (LATERAL): the planner takes everybody for somebody with hundreds of
    bindings, and would rather read all projects.
    """
    first = "ORDER BY p.owner_name, p.name LIMIT"
    return f"""
    WITH RECURSIVE {_HOLDERS},
    steps AS MATERIALIZED (SELECT {VIEW_COLUMNS} FROM projects p WHERE {which} {first} :steps),
    walked AS MATERIALIZED (SELECT {VIEW_COLUMNS} FROM steps p WHERE {_IS_VISIBLE} {first} :limit),
    walk AS MATERIALIZED (
        SELECT (SELECT count(*) FROM walked) = :limit OR (SELECT count(*) FROM steps) < :steps AS is_enough
    ),
    found AS (
        SELECT * FROM walked WHERE (SELECT is_enough FROM walk)
        UNION
        (SELECT {VIEW_COLUMNS} FROM projects p
        WHERE NOT (SELECT is_enough FROM walk) AND {_IS_OPEN} AND {which} {first} :limit)
        UNION
        (SELECT p.* FROM owners w CROSS JOIN LATERAL (
            SELECT {VIEW_COLUMNS} FROM projects p WHERE p.owner_name = w.owner_name AND {which} {first} :limit
        ) p WHERE NOT (SELECT is_enough FROM walk) AND w.only_project_id IS NULL {first} :limit)
        UNION
        (SELECT p.* FROM (
            SELECT id FROM lent_here UNION ({_own("ur.project_id", "IS NOT NULL")})
        ) r CROSS JOIN LATERAL (
            SELECT {VIEW_COLUMNS} FROM projects p WHERE p.id = r.id AND {which} LIMIT 1
        ) p WHERE NOT (SELECT is_enough FROM walk) {first} :limit)
    )
    SELECT * FROM found p {first} :limit"""  # noqa: S608  # built of the constants of this module


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
    conditions = ["p.is_active"]
    values: dict[str, object] = {
        "subject": actor.subject_id,
        "read": Permission.PROJECT_READ.value,
        "everything": EVERYTHING,
        "limit": limit,
        "steps": STEPS_PER_ROW * limit,
    }
    if actor.project_id is not None:
        conditions.append("p.id = :only")
        values["only"] = actor.project_id
    if owner is not None:
        conditions.append("p.owner_name = :owner")
        values["owner"] = owner
    if after is not None:
        conditions.append("(p.owner_name, p.name) > (:after_owner, :after_name)")
        values |= {"after_owner": after[0], "after_name": after[1]}
    rows = await session.execute(text(_statement(" AND ".join(conditions))), values)
    return [view_of(row) for row in rows.mappings()]  # type: ignore[arg-type]  # RowMapping has string keys here
