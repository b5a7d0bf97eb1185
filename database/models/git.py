"""The push outbox: promise D1."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, json_field, moment_field, texts_field


class Push(Base, table=True):
    """One push, written before its refs may move and settled when its runs are rows.

    ``updates`` is a list of ``{"old": sha, "new": sha, "ref": name}`` as the client asked; ``outcome`` is what
    came of it: ``{"moved": [ref, ...], "runs": [run id, ...], "notes": [text, ...]}``.
    """

    __tablename__ = "pushes"
    __table_args__ = (
        CheckConstraint("status IN ('open','settled')", name="status"),
        Index("idx_pushes_open", "created_at", postgresql_where=text("status = 'open'")),
        Index("idx_pushes_project", "project_id", "created_at"),
    )

    id: UUID = id_field()
    project_id: UUID = Field(sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")])
    actor: dict[str, Any] = json_field()
    updates: list[dict[str, str]] = json_field(default="[]")
    push_options: list[str] = texts_field()
    status: str = Field(default="open", sa_column_kwargs={"server_default": text("'open'")})
    outcome: dict[str, Any] | None = json_field(nullable=True)
    created_at: datetime = created_at_field()
    settled_at: datetime | None = moment_field()
