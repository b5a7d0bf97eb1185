"""Organisations and their teams.

An organisation is an identity that owns projects and does nothing itself. Its members are those of its teams; the
members of the team ``owners`` own it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.admins import keep_an_admin, one_at_a_time
from database.store.access.identities import NewIdentity, create_identity
from database.store.audit import record
from domain.access.identities import Identity, check_label
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput, NotFound

OWNERS = "owners"
"""The team whose members own the organisation; it is always there and never empty."""

Membership = Literal["owner", "member"]


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """An organisation as its members see it."""

    id: UUID
    name: str
    display_name: str | None
    is_active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TeamView:
    """A team.

    Attributes:
        members: How many.
    """

    id: UUID
    organization_id: UUID
    organization: str
    name: str
    description: str | None
    members: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MemberView:
    """Somebody in a team."""

    id: UUID
    name: str
    kind: str
    display_name: str | None
    is_active: bool
    added_by: str | None
    created_at: datetime


async def create_organization(
    session: AsyncSession, actor: Actor, name: str, display_name: str | None
) -> OrganizationView:
    """Makes an organisation that the actor owns.

    Raises:
        InvalidInput: The name breaks a rule.
        Conflict: The name is taken (code ``name_taken``).
    """
    new = NewIdentity(name=name, kind="organization", display_name=display_name)
    made = await create_identity(session, actor, new)
    await session.execute(
        text(
            "WITH team AS (INSERT INTO teams (organization_id, name, description) VALUES (:id, :owners, :what) "
            "RETURNING id) INSERT INTO team_members (team_id, user_id, added_by) SELECT id, :actor, :actor FROM team"
        ),
        {"id": made.id, "owners": OWNERS, "what": "Those who own the organisation", "actor": actor.user_id},
    )
    return OrganizationView(made.id, made.name, made.display_name, made.is_active, made.created_at)


async def organizations(
    session: AsyncSession, *, member_id: UUID | None, after: str | None = None, limit: int
) -> list[OrganizationView]:
    """Organisations sorted by name.

    Args:
        member_id: Only active ones that this identity is in; ``None`` for all.
        after: The name at which the page before ended.
    """
    rows = await session.execute(
        text(
            "SELECT o.id, o.name, o.display_name, o.is_active, o.created_at FROM users o "
            "WHERE o.kind = 'organization' AND (CAST(:after AS text) IS NULL OR o.name > :after) "
            "AND (CAST(:member AS uuid) IS NULL OR (o.is_active AND EXISTS (SELECT FROM teams t "
            "JOIN team_members m ON m.team_id = t.id WHERE t.organization_id = o.id AND m.user_id = :member))) "
            "ORDER BY o.name LIMIT :limit"
        ),
        {"member": member_id, "after": after, "limit": limit},
    )
    return [OrganizationView(**row) for row in rows.mappings()]


async def membership(session: AsyncSession, organization_id: UUID, user_id: UUID) -> Membership | None:
    """Whether somebody owns an active organisation, is in it, or neither."""
    rows = await session.execute(
        text(
            "SELECT bool_or(t.name = :owners) FROM teams t JOIN team_members m ON m.team_id = t.id "
            "JOIN users o ON o.id = t.organization_id AND o.is_active "
            "WHERE t.organization_id = :organization AND m.user_id = :user"
        ),
        {"organization": organization_id, "user": user_id, "owners": OWNERS},
    )
    owns: bool | None = rows.scalar_one()
    if owns is None:
        return None
    return "owner" if owns else "member"


async def owns_name(session: AsyncSession, user_id: UUID, owner_name: str) -> bool:
    """Whether projects called ``owner_name``/... are this identity's to make: its own, or of what it owns."""
    rows = await session.execute(
        text(
            "SELECT 1 FROM users o WHERE o.name = :name AND o.is_active AND (o.id = :user OR EXISTS ("
            "SELECT FROM teams t JOIN team_members m ON m.team_id = t.id "
            "WHERE t.organization_id = o.id AND t.name = :owners AND m.user_id = :user))"
        ),
        {"name": owner_name, "user": user_id, "owners": OWNERS},
    )
    return rows.first() is not None


_TEAMS = """
    SELECT t.id, t.organization_id, o.name AS organization, t.name, t.description, t.created_at,
        (SELECT count(*) FROM team_members m WHERE m.team_id = t.id) AS members
    FROM teams t JOIN users o ON o.id = t.organization_id WHERE t.organization_id = :organization"""


async def teams(
    session: AsyncSession, organization_id: UUID, *, after: str | None = None, limit: int
) -> list[TeamView]:
    """The teams of an organisation, sorted by name."""
    rows = await session.execute(
        text(f"{_TEAMS} AND (CAST(:after AS text) IS NULL OR t.name > :after) ORDER BY t.name LIMIT :limit"),
        {"organization": organization_id, "after": after, "limit": limit},
    )
    return [TeamView(**row) for row in rows.mappings()]


async def team_by_name(session: AsyncSession, organization_id: UUID, name: str) -> TeamView:
    """The team.

    Raises:
        NotFound: There is none of that name (code ``no_such_team``).
    """
    rows = await session.execute(text(f"{_TEAMS} AND t.name = :name"), {"organization": organization_id, "name": name})
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such team in the organisation.", code="no_such_team")
    return TeamView(**row)


async def create_team(
    session: AsyncSession, actor: Actor, organization: Identity, name: str, description: str | None
) -> TeamView:
    """Makes a team without members.

    Raises:
        InvalidInput: The name breaks a rule.
        Conflict: There is one of that name (code ``team_exists``).
    """
    check_label(name, "team")
    made = await session.execute(
        text(
            "INSERT INTO teams (organization_id, name, description) VALUES (:organization, :name, :description) "
            "ON CONFLICT DO NOTHING RETURNING id"
        ),
        {"organization": organization.id, "name": name, "description": description},
    )
    team_id: UUID | None = made.scalar_one_or_none()
    if team_id is None:
        raise _team_exists(organization.name, name)
    await record(
        session, actor, AuditAction.TEAM_CREATE, "team", team_id, detail={"name": f"{organization.name}/{name}"}
    )
    return await team_by_name(session, organization.id, name)


async def change_team(
    session: AsyncSession, actor: Actor, team: TeamView, *, name: str, description: str | None
) -> TeamView:
    """Calls or describes a team differently; its members and roles stay, because they are bound to the team itself.

    Raises:
        InvalidInput: The name breaks a rule.
        Conflict: It is the team of the owners, which keeps its name (code ``owners_stay``), or another is called so
            (code ``team_exists``).
    """
    detail: dict[str, object] = {"name": _full_name(team)}
    if name != team.name:
        check_label(name, "team")
        if team.name == OWNERS:
            raise Conflict(
                f"The team {OWNERS!r} keeps its name: those in it own {team.organization}. Nothing was changed.",
                code="owners_stay",
            )
        detail["called"] = {"before": team.name, "after": name}
    if description != team.description:
        detail["description"] = {"before": team.description, "after": description}
    if len(detail) == 1:
        return team
    try:
        async with session.begin_nested():
            await session.execute(
                text("UPDATE teams SET name = :name, description = :description WHERE id = :id"),
                {"name": name, "description": description, "id": team.id},
            )
    except IntegrityError as error:
        raise _team_exists(team.organization, name) from error
    await record(session, actor, AuditAction.TEAM_UPDATE, "team", team.id, detail=detail)
    return await team_by_name(session, team.organization_id, name)


def _team_exists(organization: str, name: str) -> Conflict:
    return Conflict(f"{organization} has a team {name!r} already. Choose another name.", code="team_exists")


def _full_name(team: TeamView) -> str:
    return f"{team.organization}/{team.name}"


async def delete_team(session: AsyncSession, actor: Actor, team: TeamView) -> None:
    """Deletes a team and with it the roles that its members held through it.

    Raises:
        Conflict: It is the team of the owners (code ``owners_stay``), or the last administrators (``last_admin``).
    """
    if team.name == OWNERS:
        raise Conflict(
            f"The team {OWNERS!r} cannot be deleted: without it nobody would own {team.organization}. Nothing was "
            "changed.",
            code="owners_stay",
        )
    await one_at_a_time(session)
    found = await session.execute(
        text(
            "SELECT r.name || COALESCE(' on ' || po.name || '/' || p.name, '') FROM user_roles ur "
            "JOIN roles r ON r.id = ur.role_id LEFT JOIN projects p ON p.id = ur.project_id "
            "LEFT JOIN users po ON po.id = p.owner_id WHERE ur.team_id = :id ORDER BY 1"
        ),
        {"id": team.id},
    )
    roles: Sequence[str] = found.scalars().all()
    # First the bindings and then the members: the triggers count for whom rights change.
    await session.execute(text("DELETE FROM user_roles WHERE team_id = :id"), {"id": team.id})
    await session.execute(text("DELETE FROM teams WHERE id = :id"), {"id": team.id})
    await keep_an_admin(session)
    detail: dict[str, object] = {"name": _full_name(team), "members": team.members, "roles": list(roles)}
    await record(session, actor, AuditAction.TEAM_DELETE, "team", team.id, detail=detail)


_MEMBERS = """
    SELECT m.team_id, u.id, u.name, u.kind, u.display_name, u.is_active, a.name AS added_by, m.created_at
    FROM team_members m JOIN users u ON u.id = m.user_id LEFT JOIN users a ON a.id = m.added_by"""


def _member(row: RowMapping) -> MemberView:
    return MemberView(**{key: value for key, value in row.items() if key != "team_id"})


async def members(session: AsyncSession, team: TeamView, *, after: str | None = None, limit: int) -> list[MemberView]:
    """Who is in a team, sorted by name."""
    rows = await session.execute(
        text(
            f"{_MEMBERS} WHERE m.team_id = :team AND (CAST(:after AS text) IS NULL OR u.name > :after) "
            "ORDER BY u.name LIMIT :limit"
        ),
        {"team": team.id, "after": after, "limit": limit},
    )
    return [_member(row) for row in rows.mappings()]


async def first_members(
    session: AsyncSession, of: Sequence[TeamView], *, limit: int
) -> dict[UUID, tuple[MemberView, ...]]:
    """The first members of each of some teams, sorted by name, in one SELECT; by the id of the team."""
    rows = await session.execute(
        text(
            f"SELECT x.* FROM unnest(CAST(:teams AS uuid[])) AS t(id) CROSS JOIN LATERAL ({_MEMBERS} "  # noqa: S608  # constants
            "WHERE m.team_id = t.id ORDER BY u.name LIMIT :limit) x ORDER BY x.name"
        ),
        {"teams": [team.id for team in of], "limit": limit},
    )
    found: dict[UUID, tuple[MemberView, ...]] = {team.id: () for team in of}
    for row in rows.mappings():
        found[row["team_id"]] += (_member(row),)
    return found


async def add_member(session: AsyncSession, actor: Actor, team: TeamView, identity: Identity) -> bool:
    """Takes somebody into a team, with all that its members hold; ``False`` if they were in it.

    Raises:
        InvalidInput: An organisation, or somebody deactivated, is in no team (code ``cannot_join``).
    """
    if identity.kind == "organization" or not identity.is_active:
        raise InvalidInput(
            f"{identity.name} cannot join a team: only people, agents and services that are in use can. Nothing was "
            "changed.",
            code="cannot_join",
        )
    made = await session.execute(
        text(
            "INSERT INTO team_members (team_id, user_id, added_by) VALUES (:team, :user, :by) "
            "ON CONFLICT DO NOTHING RETURNING user_id"
        ),
        {"team": team.id, "user": identity.id, "by": None if actor.kind == "system" else actor.user_id},
    )
    if made.first() is None:
        return False
    await _record_member(session, actor, AuditAction.TEAM_ADD_MEMBER, team, identity)
    return True


async def remove_member(session: AsyncSession, actor: Actor, team: TeamView, identity: Identity) -> bool:
    """Takes somebody out of a team, with all that they held through it; ``False`` if they were not in it.

    Raises:
        Conflict: Nobody in use would be left in ``owners`` (code ``last_owner``), or nobody would administer the
            platform (``last_admin``).
    """
    await one_at_a_time(session)
    done = await session.execute(
        text("DELETE FROM team_members WHERE team_id = :team AND user_id = :user RETURNING user_id"),
        {"team": team.id, "user": identity.id},
    )
    if done.first() is None:
        return False
    if team.name == OWNERS:
        left = await session.execute(
            text(
                "SELECT 1 FROM team_members m JOIN users u ON u.id = m.user_id AND u.is_active "
                "WHERE m.team_id = :team LIMIT 1"
            ),
            {"team": team.id},
        )
        if left.first() is None:
            raise Conflict(
                f"{identity.name} is the last owner of {team.organization}; an organisation is never without one. "
                "Nothing was changed; add another owner first.",
                code="last_owner",
            )
    await keep_an_admin(session)
    await _record_member(session, actor, AuditAction.TEAM_REMOVE_MEMBER, team, identity)
    return True


async def _record_member(
    session: AsyncSession, actor: Actor, action: AuditAction, team: TeamView, identity: Identity
) -> None:
    detail: dict[str, object] = {
        "team": _full_name(team),
        "member_kind": identity.kind,
        "member_id": str(identity.id),
        "user_name": identity.name,
    }
    person_id = identity.id if identity.kind == "user" else None
    await record(session, actor, action, "team", team.id, detail=detail, person_id=person_id)
