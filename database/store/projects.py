"""Projects: made, found, changed, and taken out of use."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.access import User
from database.models.projects import Project
from database.store.audit import record
from database.store.project_view import VIEW_COLUMNS, view_of
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, NotFound
from domain.projects import ProjectView, Visibility, check_project_name

FULL_NAME = col(User.name) + "/" + col(Project.name)
"""``owner/name``; the statement joins both tables."""


@dataclass(frozen=True, slots=True)
class NewProject:
    """What a project is made of."""

    name: str
    visibility: Visibility = "private"
    display_name: str | None = None
    description: str | None = None
    default_branch: str = "main"


async def create_project(session: AsyncSession, actor: Actor, owner_name: str, new: NewProject) -> ProjectView:
    """Makes the project ``owner_name``/``new.name``. Whether the actor may is decided before.

    Raises:
        InvalidInput: The name breaks a rule.
        NotFound: There is no such active owner.
        Conflict: The name is taken, or was used by a deleted project (code ``project_exists``).
    """
    check_project_name(new.name)
    owner_id = (
        await session.execute(text("SELECT id FROM users WHERE name = :name AND is_active"), {"name": owner_name})
    ).scalar_one_or_none()
    if owner_id is None:
        raise NotFound(f"There is no user {owner_name!r} who could own the project.")
    made = await session.execute(
        insert(Project)
        .values(
            owner_id=owner_id,
            name=new.name,
            visibility=new.visibility,
            display_name=new.display_name,
            description=new.description,
            default_branch=new.default_branch,
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "name"])
        .returning(Project.id)  # type: ignore[call-overload]  # SQLModel types columns as values
    )
    project_id: UUID | None = made.scalar_one_or_none()
    if project_id is None:
        raise Conflict(
            f"{owner_name}/{new.name} exists already, or did: the name of a deleted project stays reserved, so that "
            "old addresses never lead to somebody else's code. Choose another name.",
            code="project_exists",
        )
    await record(
        session,
        actor,
        AuditAction.PROJECT_CREATE,
        "project",
        project_id,
        project_id,
        detail={"name": f"{owner_name}/{new.name}", "visibility": new.visibility},
    )
    view = await project_by_id(session, project_id)
    assert view is not None  # noqa: S101  # inserted above in this transaction
    return view


async def project_by_id(session: AsyncSession, project_id: UUID) -> ProjectView | None:
    """The project, if it is in use."""
    rows = await session.execute(
        text(
            f"SELECT {VIEW_COLUMNS} FROM projects p WHERE p.id = :id AND p.is_active"  # noqa: S608  # constant columns
        ),
        {"id": project_id},
    )
    row = rows.mappings().one_or_none()
    return None if row is None else view_of(row)  # type: ignore[arg-type]  # RowMapping has string keys here


async def project_by_name(session: AsyncSession, owner: str, name: str) -> ProjectView | None:
    """The project ``owner``/``name``, if it is in use."""
    rows = await session.execute(
        text(
            f"SELECT {VIEW_COLUMNS} FROM projects p "  # noqa: S608  # constant columns
            "WHERE p.owner_name = :owner AND p.name = :name AND p.is_active"
        ),
        {"owner": owner, "name": name},
    )
    row = rows.mappings().one_or_none()
    return None if row is None else view_of(row)  # type: ignore[arg-type]  # RowMapping has string keys here


async def change_project(
    session: AsyncSession, actor: Actor, project: ProjectView, changes: dict[str, Any]
) -> ProjectView:
    """Sets columns of a project (``display_name``, ``description``, ``visibility``, ``default_branch``).

    Raises:
        NotFound: It was deleted meanwhile.
    """
    changed = {key: value for key, value in changes.items() if getattr(project, key) != value}
    if not changed:
        return project
    assignments = ", ".join(f"{key} = :{key}" for key in changed)
    done = await session.execute(
        text(f"UPDATE projects SET {assignments} WHERE id = :id AND is_active RETURNING id"),  # noqa: S608  # keys are the model's fields
        {**changed, "id": project.id},
    )
    if done.scalar_one_or_none() is None:
        raise NotFound("The project was deleted meanwhile.")
    before_after: dict[str, object] = {
        key: {"before": getattr(project, key), "after": value} for key, value in changed.items()
    }
    await record(session, actor, AuditAction.PROJECT_UPDATE, "project", project.id, project.id, detail=before_after)
    view = await project_by_id(session, project.id)
    assert view is not None  # noqa: S101  # updated above in this transaction
    return view


async def delete_project(session: AsyncSession, actor: Actor, project: ProjectView) -> datetime | None:
    """Takes a project out of use: it is gone for every reader, its rows, history and repository stay for an operator.

    Returns:
        When, or ``None`` if it was gone already.
    """
    done = await session.execute(
        text("UPDATE projects SET is_active = false WHERE id = :id AND is_active RETURNING updated_at"),
        {"id": project.id},
    )
    moment: datetime | None = done.scalar_one_or_none()
    if moment is not None:
        await record(
            session,
            actor,
            AuditAction.PROJECT_DELETE,
            "project",
            project.id,
            project.id,
            detail={"name": project.full_name},
        )
    return moment


async def full_name_of(session: AsyncSession, project_id: UUID) -> str:
    """``owner/name`` of a project, as it is called now, in use or not.

    Raises:
        NotFound: Its row is gone.
    """
    query = select(FULL_NAME).join(Project, col(Project.owner_id) == col(User.id)).where(col(Project.id) == project_id)
    name: str | None = await session.scalar(query)
    if name is None:
        raise NotFound("The project is gone.")
    return name
