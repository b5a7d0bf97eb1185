"""Bindings: who holds which role, everywhere or on one project."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.admins import keep_an_admin, keep_own
from database.store.access.roles import RoleView
from database.store.audit import record
from database.store.clock import now
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is to hold a role: an identity, everybody in an organisation, or a team; one of the ids is set.

    Attributes:
        name: ``ann``, ``acme`` or ``acme/backend``.
        kind: ``user``, ``agent``, ``service``, ``organization`` or ``team``.
    """

    name: str
    kind: str
    user_id: UUID | None = None
    team_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class BindingView:
    """A binding that is good at this moment.

    Attributes:
        holder: As in ``Holder.name``.
        holder_id: Of the identity, the organisation or the team.
        project: ``owner/name``; ``None`` where it is good everywhere.
        by_group: Whether a group of an identity provider led to it: it comes and goes with that group.
    """

    id: UUID
    role: str
    holder: str
    holder_kind: str
    holder_id: UUID
    project_id: UUID | None
    project: str | None
    by_group: bool
    granted_by: str | None
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BindingFilter:
    """Which bindings a list shows; ``None`` for any.

    Attributes:
        project_id: Only those on this project, without those that are good everywhere.
        holder: ``ann`` or ``acme/backend``.
    """

    project_id: UUID | None = None
    role: str | None = None
    holder: str | None = None


_BINDINGS = """
    SELECT ur.id, r.name AS role, COALESCE(u.name, o.name || '/' || t.name) AS holder,
        COALESCE(u.kind, 'team') AS holder_kind, COALESCE(ur.user_id, ur.team_id) AS holder_id,
        ur.project_id, po.name || '/' || p.name AS project,
        ur.external_identity_id IS NOT NULL AS by_group, g.name AS granted_by, ur.expires_at, ur.created_at
    FROM user_roles ur JOIN roles r ON r.id = ur.role_id
    LEFT JOIN users u ON u.id = ur.user_id
    LEFT JOIN teams t ON t.id = ur.team_id LEFT JOIN users o ON o.id = t.organization_id
    LEFT JOIN projects p ON p.id = ur.project_id LEFT JOIN users po ON po.id = p.owner_id
    LEFT JOIN users g ON g.id = ur.granted_by
    WHERE (ur.expires_at IS NULL OR ur.expires_at > now())"""


async def holder_by_name(session: AsyncSession, name: str) -> Holder:
    """The active identity or organisation ``ann``, or the team ``acme/backend``.

    Raises:
        NotFound: There is none (code ``no_such_holder``).
    """
    first, slash, team = name.partition("/")
    rows = await session.execute(
        text(
            "SELECT u.id, u.kind, t.id AS team_id FROM users u "
            "LEFT JOIN teams t ON t.organization_id = u.id AND t.name = CAST(:team AS text) "
            "WHERE u.name = :name AND u.is_active"
        ),
        {"name": first, "team": team if slash else None},
    )
    row = rows.one_or_none()
    if row is None or (slash and row.team_id is None):
        raise NotFound(
            f"There is nobody in use who is called {name[:80]!r}: write a login name, an organisation, or "
            "organisation/team. Nothing was changed.",
            code="no_such_holder",
        )
    return Holder(name, "team", team_id=row.team_id) if slash else Holder(name, row.kind, user_id=row.id)


async def bindings(
    session: AsyncSession,
    which: BindingFilter,
    *,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[BindingView]:
    """Bindings that are good at this moment, newest first."""
    conditions: list[str] = []
    values: dict[str, object] = {"limit": limit}
    if which.project_id is not None:
        conditions.append("ur.project_id = :project")
        values["project"] = which.project_id
    if which.role is not None:
        conditions.append("r.name = :role")
        values["role"] = which.role
    if which.holder is not None:
        conditions.append("COALESCE(u.name, o.name || '/' || t.name) = :holder")
        values["holder"] = which.holder
    if before is not None:
        conditions.append("(ur.created_at, ur.id) < (:created_at, :id)")
        values |= {"created_at": before[0], "id": before[1]}
    more = "".join(f" AND {condition}" for condition in conditions)
    rows = await session.execute(
        text(f"{_BINDINGS}{more} ORDER BY ur.created_at DESC, ur.id DESC LIMIT :limit"), values
    )
    return [BindingView(**row) for row in rows.mappings()]


async def binding_by_id(session: AsyncSession, binding_id: UUID, project_id: UUID | None) -> BindingView:
    """The binding, if it is on that project; ``None`` asks for one that is good everywhere.

    Raises:
        NotFound: There is none (code ``no_such_binding``).
    """
    rows = await session.execute(
        text(f"{_BINDINGS} AND ur.id = :id AND ur.project_id IS NOT DISTINCT FROM CAST(:project AS uuid)"),
        {"id": binding_id, "project": project_id},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such binding here, or it ended.", code="no_such_binding")
    return BindingView(**row)


async def bind(
    session: AsyncSession,
    actor: Actor,
    role: RoleView,
    holder: Holder,
    *,
    project_id: UUID | None,
    expires_at: datetime | None,
) -> BindingView:
    """Gives a role to a holder. Whether the actor may give what is in it is decided before.

    Raises:
        InvalidInput: It would have ended already (code ``already_over``).
        Conflict: The holder has that role there (code ``binding_exists``).
    """
    if expires_at is not None and expires_at <= await now(session):
        raise InvalidInput("`expires_at` lies in the past. Nothing was changed.", code="already_over")
    values = {
        "user": holder.user_id,
        "team": holder.team_id,
        "role": role.id,
        "project": project_id,
        "by": None if actor.kind == "system" else actor.user_id,
        "expires_at": expires_at,
    }
    same = (
        "user_id IS NOT DISTINCT FROM CAST(:user AS uuid) AND team_id IS NOT DISTINCT FROM CAST(:team AS uuid) "
        "AND role_id = :role AND project_id IS NOT DISTINCT FROM CAST(:project AS uuid) "
        "AND external_identity_id IS NULL"
    )
    # What has ended by itself does not stand in the way of giving the same again.
    await session.execute(text(f"DELETE FROM user_roles WHERE {same} AND expires_at <= now()"), values)  # noqa: S608  # constants
    made = await session.execute(
        text(
            "INSERT INTO user_roles (user_id, team_id, role_id, project_id, granted_by, expires_at) "
            "VALUES (:user, :team, :role, :project, :by, :expires_at) ON CONFLICT DO NOTHING RETURNING id"
        ),
        values,
    )
    binding_id: UUID | None = made.scalar_one_or_none()
    if binding_id is None:
        raise Conflict(
            f"{holder.name} has the role {role.name!r} there already. Nothing was changed; to give it another end, "
            "delete that binding first.",
            code="binding_exists",
        )
    view = await binding_by_id(session, binding_id, project_id)
    await _record(session, actor, AuditAction.BINDING_CREATE, view)
    return view


async def unbind(session: AsyncSession, actor: Actor, binding: BindingView) -> bool:
    """Takes a role from its holder at once; ``False`` if that happened before.

    Raises:
        Conflict: Nobody would be left who administers the platform (code ``last_admin``), or the actor would lose the
            right to undo it (``would_lock_you_out``).
    """
    done = await session.execute(text("DELETE FROM user_roles WHERE id = :id RETURNING id"), {"id": binding.id})
    if done.first() is None:
        return False
    await _record(session, actor, AuditAction.BINDING_DELETE, binding)
    if binding.project_id is None:
        await keep_an_admin(session)
        await keep_own(session, actor, Permission.ADMIN_ROLES)
    else:
        await keep_own(session, actor, Permission.PROJECT_MANAGE, binding.project_id)
    return True


async def _record(session: AsyncSession, actor: Actor, action: AuditAction, binding: BindingView) -> None:
    is_person = binding.holder_kind == "user"
    detail: dict[str, object] = {
        "role": binding.role,
        "holder_kind": binding.holder_kind,
        "holder_id": str(binding.holder_id),
        # The name of a person is theirs: the audit log can forget it.
        "user_name" if is_person else "holder": binding.holder,
        "project": binding.project,
        "expires_at": binding.expires_at.isoformat() if binding.expires_at else None,
    }
    person_id = binding.holder_id if is_person else None
    await record(session, actor, action, "binding", binding.id, binding.project_id, detail=detail, person_id=person_id)
