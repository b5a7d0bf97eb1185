"""What was done by whom (audit) and what happened (events)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, INET
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, json_field


class AuditRow(Base, table=True):
    """One act, successful or refused. No foreign keys: it outlives what it names. The serving role may only insert."""

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("outcome IN ('success','denied','failure')", name="outcome"),
        Index("idx_audit_actor", "actor_id", text("created_at DESC")),
        Index("idx_audit_resource", "resource", "resource_id", text("created_at DESC")),
    )

    id: UUID = id_field()
    actor_id: UUID
    actor_name: str
    actor_kind: str = Field(default="user", sa_column_kwargs={"server_default": text("'user'")})
    on_behalf_of: list[UUID] = Field(
        default=None, sa_type=ARRAY(Uuid), sa_column_kwargs={"server_default": text("'{}'::uuid[]")}
    )
    token_id: UUID | None = None
    session_id: UUID | None = None
    action: str
    resource: str
    resource_id: UUID | None = None
    project_id: UUID | None = None
    outcome: str = Field(default="success", sa_column_kwargs={"server_default": text("'success'")})
    detail: dict[str, Any] | None = json_field(nullable=True)
    ip_addr: str | None = Field(default=None, nullable=True, sa_type=INET)
    user_agent: str | None = None
    request_id: str | None = None
    created_at: datetime = created_at_field()


class Event(Base, table=True):
    """Something that happened to a run; ``seq`` counts up without gaps per run, so a reader can resume after it."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("pipeline_id", "seq"),)

    id: UUID = id_field()
    project_id: UUID = Field(sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")])
    pipeline_id: UUID = Field(sa_column_args=[ForeignKey("pipelines.id", ondelete="CASCADE")])
    seq: int = Field(sa_type=BigInteger)
    tag: str
    payload: dict[str, Any] = json_field()
    created_at: datetime = created_at_field()
