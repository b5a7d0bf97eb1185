"""Projects (seed 004, "Projects"); repositories lie on disk under the project's id, so renaming is free."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlmodel import Field

from database.base import Base, created_at_field, id_field


class Project(Base, table=True):
    """A project: one git repository and all that belongs to it.

    ``owner_name`` is a copy that triggers keep, so that an index has projects in the order of their addresses.
    """

    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint("visibility IN ('private','internal','public')", name="visibility"),
        Index("idx_projects_by_name", "owner_name", "name", postgresql_where=text("is_active")),
        Index(
            "idx_projects_open_by_name",
            "owner_name",
            "name",
            postgresql_where=text("is_active AND visibility <> 'private'"),
        ),
    )

    id: UUID = id_field()
    owner_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="RESTRICT")])
    owner_name: str
    name: str
    display_name: str | None = None
    description: str | None = None
    visibility: str = Field(default="private", sa_column_kwargs={"server_default": text("'private'")})
    default_branch: str = Field(default="main", sa_column_kwargs={"server_default": text("'main'")})
    repo_path: str | None = None
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    next_issue_number: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    next_mr_number: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    next_pipeline_number: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    created_at: datetime = created_at_field()
    updated_at: datetime = created_at_field()
