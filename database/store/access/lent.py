"""What was lent, as its parties see it: with the time left, and whether it gives anything now or why not."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import OWNER_VALUES
from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class LentPermission:
    """One permission of a grant.

    Attributes:
        expires_at: When it ends by itself.
        problem: Why it gives nothing now, for people; ``None`` while it does.
        parent_grant_id: The grant that it was lent on from; ``None`` for what its lender held itself.
    """

    permission: str
    expires_at: datetime | None
    problem: str | None
    parent_grant_id: UUID | None


@dataclass(frozen=True, slots=True)
class LentGrant:
    """What was lent in one act.

    Attributes:
        id: The ``grant_id``.
        project: ``owner/name``; ``None`` for everywhere.
        redelegations_left: How often in a row it may be lent on.
        read_at: The database's clock, by which time is left or not.
    """

    id: UUID
    created_at: datetime
    lender_id: UUID
    lender: str
    borrower_id: UUID
    borrower: str
    project_id: UUID | None
    project: str | None
    reason: str | None
    redelegations_left: int
    read_at: datetime
    permissions: tuple[LentPermission, ...]

    @property
    def time_left(self) -> timedelta | None:
        """Until the last of its permissions that is good ends by itself; ``None`` if one does not, or none is good."""
        ends = [one.expires_at for one in self.permissions if one.problem is None]
        last = None if not ends or None in ends else max(end for end in ends if end is not None)
        return None if last is None else last - self.read_at


_ORGANIZATIONS = """SELECT t.organization_id FROM team_members m JOIN teams t ON t.id = m.team_id
            JOIN users o ON o.id = t.organization_id AND o.is_active WHERE m.user_id = {user}"""


def holds_itself(user: str, permission: str, project: str) -> str:
    """SQL: whether an identity holds a permission there by roles or by owning the project, not lent; see ``rights``."""
    organizations = _ORGANIZATIONS.format(user=user)
    return f"""(EXISTS (
            SELECT FROM user_roles ur JOIN role_permissions rp ON rp.role_id = ur.role_id
            JOIN permissions x ON x.id = rp.permission_id AND x.name IN ({permission}, '*:*')
            WHERE (ur.project_id IS NULL OR ur.project_id = {project})
                AND (ur.expires_at IS NULL OR ur.expires_at > now())
                AND (ur.user_id = {user} OR ur.user_id IN ({organizations}) OR ur.team_id IN (
                    SELECT m.team_id FROM team_members m JOIN teams t ON t.id = m.team_id
                    JOIN users o ON o.id = t.organization_id AND o.is_active WHERE m.user_id = {user}
                ))
        ) OR (EXISTS (
            SELECT FROM projects w WHERE w.id = {project}
                AND (w.owner_id = {user} OR w.owner_id IN ({organizations} AND t.name = 'owners'))
        ) AND EXISTS (SELECT FROM (VALUES {OWNER_VALUES}) AS v(name) WHERE v.name = {permission})))"""  # noqa: S608  # built of constants


def lent_ctes(chosen: str) -> str:
    """CTEs from ``chosen`` (a SELECT of rows of ``delegations``) to ``problems``: ``first_id, problem``.

    A delegation without a row there is good. The nearest link that is broken is the one told of.
    """
    return f"""
    chosen AS ({chosen}),
    links AS (
        SELECT c.id AS first_id, c.project_id AS first_project_id, c.id, 1 AS length FROM chosen c
        UNION ALL
        SELECT l.first_id, l.first_project_id, d.parent_id, l.length + 1
        FROM links l JOIN delegations d ON d.id = l.id WHERE d.parent_id IS NOT NULL
    ),
    problems AS (
        SELECT DISTINCT ON (first_id) first_id, problem FROM (
            SELECT l.first_id, l.length, CASE WHEN l.length = 1 THEN '' ELSE 'what it was lent on from: ' END || CASE
                WHEN d.revoked_by IS NOT NULL
                    THEN 'taken back by ' || (SELECT r.name FROM users r WHERE r.id = d.revoked_by)
                WHEN d.expires_at <= now() THEN 'expired'
                WHEN d.revoked_at IS NOT NULL THEN 'taken back'
                WHEN l.length = 1 AND NOT b.is_active THEN b.name || ' is deactivated'
                WHEN NOT a.is_active THEN a.name || ' is deactivated'
                WHEN NOT COALESCE(p.is_active, true) THEN 'the project was deleted'
                WHEN d.parent_id IS NULL AND NOT {holds_itself("d.delegator_id", "pm.name", "l.first_project_id")}
                    THEN a.name || ' does not hold it there any more'
            END AS problem
            FROM links l JOIN delegations d ON d.id = l.id JOIN permissions pm ON pm.id = d.permission_id
            JOIN users a ON a.id = d.delegator_id JOIN users b ON b.id = d.delegate_id
            LEFT JOIN projects p ON p.id = d.project_id
        ) every_link WHERE problem IS NOT NULL ORDER BY first_id, length
    )"""  # noqa: S608  # built of constants


_COLUMNS = """c.grant_id, c.created_at, c.delegator_id AS lender_id, a.name AS lender, c.delegate_id AS borrower_id,
    b.name AS borrower, c.project_id, w.name || '/' || p.name AS project, c.reason, c.redelegations_left,
    now() AS read_at, pm.name AS permission, c.expires_at, g.problem, m.grant_id AS parent_grant_id
    FROM chosen c JOIN permissions pm ON pm.id = c.permission_id
    JOIN users a ON a.id = c.delegator_id JOIN users b ON b.id = c.delegate_id
    LEFT JOIN projects p ON p.id = c.project_id LEFT JOIN users w ON w.id = p.owner_id
    LEFT JOIN delegations m ON m.id = c.parent_id LEFT JOIN problems g ON g.first_id = c.id
    ORDER BY c.created_at DESC, c.grant_id DESC, pm.name"""

# A token sees no grant that is wider than it.
_NARROWED = """(CAST(:scopes AS text[]) IS NULL OR pm.name = ANY(CAST(:scopes AS text[])))
    AND (CAST(:only AS uuid) IS NULL OR d.project_id = CAST(:only AS uuid))"""
_NOT_OVER = "(d.revoked_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now()))"


def _narrowing(actor: Actor) -> dict[str, Any]:
    return {"scopes": None if actor.scopes is None else sorted(actor.scopes), "only": actor.project_id}


async def lent_by_or_to(
    session: AsyncSession,
    actor: Actor,
    user_id: UUID,
    direction: Literal["given", "received"],
    *,
    with_ended: bool = False,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[LentGrant]:
    """What an identity lends, or has been lent, newest first; in one SELECT.

    Args:
        actor: Who asks; its credential narrows what is shown.
        user_id: Whose; the caller has seen to it that the actor may know.
        direction: ``given`` or ``received``.
        with_ended: Also what was taken back or has expired.
        before: ``(created_at, id)`` of the last grant of the page before.
        limit: Grants at most.
    """
    party = "d.delegator_id" if direction == "given" else "d.delegate_id"
    ended = "" if with_ended else f"AND {_NOT_OVER}"
    wanted = f"""FROM delegations d JOIN permissions pm ON pm.id = d.permission_id
        WHERE {party} = :user AND {_NARROWED} {ended}"""
    page = f"""SELECT d.grant_id {wanted} {"AND (d.created_at, d.grant_id) < (:created_at, :id)" if before else ""}
        GROUP BY d.created_at, d.grant_id ORDER BY d.created_at DESC, d.grant_id DESC LIMIT :limit"""  # constants
    chosen = f"SELECT d.* {wanted} AND d.grant_id IN ({page})"  # constants
    values = {"user": user_id, "limit": limit, **_narrowing(actor)}
    if before is not None:
        values |= {"created_at": before[0], "id": before[1]}
    return await _grants(session, chosen, values)


async def lent_grant(session: AsyncSession, actor: Actor, grant_id: UUID, *, as_admin: bool) -> LentGrant | None:
    """One grant, for its parties, for the lenders before them, and for administrators; ``None`` for all others."""
    chosen = f"""SELECT d.* FROM delegations d JOIN permissions pm ON pm.id = d.permission_id
        WHERE d.grant_id = :grant AND (:is_admin OR ({_NARROWED} AND (d.delegate_id = :user OR :user IN (
            WITH RECURSIVE up AS (
                SELECT d.delegator_id, d.parent_id
                UNION ALL
                SELECT q.delegator_id, q.parent_id FROM up JOIN delegations q ON q.id = up.parent_id
            ) SELECT delegator_id FROM up
        ))))"""  # noqa: S608  # constants
    values = {"grant": grant_id, "user": actor.user_id, "is_admin": as_admin, **_narrowing(actor)}
    return next(iter(await _grants(session, chosen, values)), None)


async def _grants(session: AsyncSession, chosen: str, values: dict[str, Any]) -> list[LentGrant]:
    statement = text(f"WITH RECURSIVE {lent_ctes(chosen)} SELECT {_COLUMNS}")  # constants
    rows = (await session.execute(statement, values)).all()
    return [_grant(list(group)) for _, group in groupby(rows, key=lambda row: row.grant_id)]


def _grant(rows: Iterable[Any]) -> LentGrant:
    first, *_ = rows = list(rows)
    return LentGrant(
        id=first.grant_id,
        created_at=first.created_at,
        lender_id=first.lender_id,
        lender=first.lender,
        borrower_id=first.borrower_id,
        borrower=first.borrower,
        project_id=first.project_id,
        project=first.project,
        reason=first.reason,
        redelegations_left=first.redelegations_left,
        read_at=first.read_at,
        permissions=tuple(
            LentPermission(row.permission, row.expires_at, row.problem, row.parent_grant_id) for row in rows
        ),
    )
