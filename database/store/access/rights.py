"""What an identity holds somewhere: roles, ownership and live delegations, resolved in one SELECT.

    held = roles of oneself, one's teams and organisations | ownership | what others lend and hold themselves *now*

A delegation is followed up to the identity that lent first; only what that one holds by itself, at this moment, comes
down the chain, and every lender and every delegation on the way must still be good. Where several paths give one
permission, one's own goes before what is lent.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.held import Held, Path, Version
from domain.access.permissions import OWNER_PERMISSIONS

CHAIN_LENGTH_MAX = 6
"""One delegation and the five re-delegations that may follow it."""

OWNER_VALUES = ", ".join(f"('{permission.value}')" for permission in sorted(OWNER_PERMISSIONS))

_LIVE = "d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now())"


def lent_path(lender: str, first: str, own: str, lenders: str) -> str:
    """SQL for how a lent permission is held, for people: who lends it, and who lent first and how they hold it.

    Args:
        lender: SQL for the name of the nearest lender.
        first: SQL for the name of who lent first; the same where nobody lent it on.
        own: SQL for the path by which that one holds it.
        lenders: SQL for the array of all lenders.
    """
    onward = f"CASE WHEN cardinality({lenders}) > 1 THEN ', from ' || {first} ELSE '' END"
    return f"'lent by ' || {lender} || {onward} || ', who holds it as ' || {own}"


def _held_cte(subject: str) -> str:
    return f"""held AS (
        SELECT permission, path, '{{}}'::uuid[] AS lenders, expires_at, 0 AS rank, NULL::uuid AS delegation_id
        FROM own WHERE subject = {subject}
        UNION ALL
        SELECT pm.name, {lent_path("l.name", "r.name", "o.path", "c.lenders")}, c.lenders,
            LEAST(c.expires_at, o.expires_at), cardinality(c.lenders), c.delegation_id
        FROM lent c JOIN permissions pm ON pm.id = c.permission_id
        JOIN users l ON l.id = c.lenders[1] JOIN users r ON r.id = c.delegator_id
        JOIN own o ON o.subject = c.delegator_id AND o.permission IN (pm.name, '*:*')
        WHERE c.parent_id IS NULL
    )"""  # noqa: S608  # as above


def rights_ctes(subject: str, project: str) -> str:
    """The common table expressions behind ``held``.

    Its rows are ``permission, path, lenders, expires_at, rank`` and ``delegation_id``, the one that lends it directly.

    Args:
        subject: SQL for the id of the identity.
        project: SQL for the id of the project; NULL asks about the platform.
    """
    here = f"(d.project_id IS NULL OR d.project_id = {project})"
    bound = f"""(ur.project_id IS NULL OR ur.project_id = {project})
            AND (ur.expires_at IS NULL OR ur.expires_at > now())"""
    return f"""
    lent AS (
        SELECT d.permission_id, d.delegator_id, d.parent_id, d.expires_at, ARRAY[d.delegator_id] AS lenders,
            d.id AS delegation_id
        FROM delegations d JOIN users l ON l.id = d.delegator_id AND l.is_active
        WHERE d.delegate_id = {subject} AND {_LIVE} AND {here}
        UNION ALL
        SELECT c.permission_id, d.delegator_id, d.parent_id, LEAST(c.expires_at, d.expires_at),
            c.lenders || d.delegator_id, c.delegation_id
        FROM lent c JOIN delegations d ON d.id = c.parent_id JOIN users l ON l.id = d.delegator_id AND l.is_active
        WHERE {_LIVE} AND {here} AND cardinality(c.lenders) < {CHAIN_LENGTH_MAX}
    ),
    subjects AS (
        SELECT {subject} AS id
        UNION
        SELECT delegator_id FROM lent WHERE parent_id IS NULL
    ),
    teams_of AS (
        SELECT s.id AS subject, t.id AS team_id, t.name AS team, o.id AS organization_id, o.name AS organization
        FROM subjects s JOIN team_members m ON m.user_id = s.id JOIN teams t ON t.id = m.team_id
        JOIN users o ON o.id = t.organization_id AND o.is_active
    ),
    bindings AS (
        SELECT s.id AS subject, ur.role_id, ur.project_id, ur.expires_at, '' AS via
        FROM subjects s JOIN user_roles ur ON ur.user_id = s.id WHERE {bound}
        UNION ALL
        SELECT m.subject, ur.role_id, ur.project_id, ur.expires_at, ' through team ' || m.organization || '/' || m.team
        FROM teams_of m JOIN user_roles ur ON ur.team_id = m.team_id WHERE {bound}
        UNION ALL
        SELECT m.subject, ur.role_id, ur.project_id, ur.expires_at, ' through organisation ' || m.organization
        FROM (SELECT DISTINCT subject, organization_id, organization FROM teams_of) m
        JOIN user_roles ur ON ur.user_id = m.organization_id WHERE {bound}
    ),
    own AS (
        SELECT b.subject, pm.name AS permission, b.expires_at,
            'role ' || r.name || CASE WHEN b.project_id IS NULL THEN '' ELSE ' on the project' END || b.via AS path
        FROM bindings b JOIN roles r ON r.id = b.role_id JOIN role_permissions rp ON rp.role_id = b.role_id
        JOIN permissions pm ON pm.id = rp.permission_id
        UNION ALL
        SELECT w.subject, o.permission, NULL, w.path
        FROM (
            SELECT s.id AS subject, 'owner' AS path FROM subjects s JOIN projects p ON p.owner_id = s.id
            WHERE p.id = {project}
            UNION ALL
            SELECT m.subject, 'owner through organisation ' || m.organization
            FROM teams_of m JOIN projects p ON p.owner_id = m.organization_id
            WHERE p.id = {project} AND m.team = 'owners'
        ) w CROSS JOIN (VALUES {OWNER_VALUES}) AS o(permission)
    ),
    {_held_cte(subject)}"""  # noqa: S608  # built of constants of this package


HELD = """(
        SELECT COALESCE(jsonb_object_agg(permission, jsonb_build_array(path, lenders, expires_at)), '{}'::jsonb)
        FROM (
            SELECT DISTINCT ON (permission) * FROM held
            ORDER BY permission, rank, expires_at DESC NULLS FIRST, path, lenders
        ) best
    )"""
"""One JSON object of all that is in ``held``: permission to its best path."""


def version_sql(subject: str) -> str:
    """SQL for the version of what ``subject`` holds; it changes with everything that could change that, but time."""
    return f"""(
        SELECT e.version || '.' || COALESCE((SELECT v.version FROM rights_versions v WHERE v.user_id = {subject}), 0)
        FROM rights_epoch e
    )"""  # noqa: S608  # as above


def held_from(content: str | Mapping[str, Any], version: str) -> Held:
    """``Held`` of what ``HELD`` and ``version_sql`` select."""
    found: Mapping[str, Any] = json.loads(content) if isinstance(content, str) else content
    ends = [datetime.fromisoformat(end) for _, _, end in found.values() if end is not None]
    return Held(
        paths={name: Path(path, tuple(map(UUID, lenders))) for name, (path, lenders, _) in found.items()},
        until=min(ends, default=None),
        version=Version.parse(version),
    )


_HELD_BY = text(
    f"WITH RECURSIVE {rights_ctes('CAST(:subject AS uuid)', 'CAST(:project AS uuid)')} "  # constants
    f"SELECT {HELD} AS held, {version_sql('CAST(:subject AS uuid)')} AS version"
)


async def held_by(session: AsyncSession, user_id: UUID, project_id: UUID | None = None) -> Held:
    """What an identity holds everywhere, and on ``project_id`` if it is given; not narrowed by any credential."""
    row = (await session.execute(_HELD_BY, {"subject": user_id, "project": project_id})).one()
    return held_from(row.held, row.version)
