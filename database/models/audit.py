"""What was done by whom (audit) and what happened (events)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, Uuid
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, json_field, moment_field


class AuditRow(Base, table=True):
    """One act, successful or refused. No foreign keys: it outlives what it names. The serving role may only insert.

    Whoever appends gives ``content`` (the act, canonical JSON) and nothing else; the trigger of migration 0004 gives
    the row its place in a chain, completes ``content``, and fills every other column from it. The columns are copies
    for queries: what counts is ``content`` and its hash. Nothing personal is in clear in either.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("outcome IN ('success','denied','failure')", name="outcome"),
        UniqueConstraint("log", "seq"),
        Index("idx_audit_time", sql("created_at DESC"), sql("id DESC")),
        Index("idx_audit_actor", "actor_id", sql("created_at DESC")),
        Index("idx_audit_resource", "resource", sql("created_at DESC")),
        Index(
            "idx_audit_target", "resource_id", sql("created_at DESC"), postgresql_where=sql("resource_id IS NOT NULL")
        ),
        Index(
            "idx_audit_project", "project_id", sql("created_at DESC"), postgresql_where=sql("project_id IS NOT NULL")
        ),
        Index("idx_audit_action", "action", sql("created_at DESC"), postgresql_ops={"action": "text_pattern_ops"}),
        Index(
            "idx_audit_address",
            "address_hash",
            sql("created_at DESC"),
            postgresql_where=sql("address_hash IS NOT NULL"),
        ),
        Index("idx_audit_request", "request_id", postgresql_where=sql("request_id IS NOT NULL")),
        Index(
            "idx_audit_chain",
            "on_behalf_of",
            postgresql_using="gin",
            postgresql_where=sql("on_behalf_of <> '{}'::uuid[]"),
        ),
    )

    id: UUID = id_field()
    log: int = Field(sa_type=SmallInteger)
    seq: int = Field(sa_type=BigInteger)
    actor_id: UUID
    actor_kind: str = Field(default="user", sa_column_kwargs={"server_default": sql("'user'")})
    on_behalf_of: list[UUID] = Field(
        default=None, sa_type=ARRAY(Uuid), sa_column_kwargs={"server_default": sql("'{}'::uuid[]")}
    )
    token_id: UUID | None = None
    session_id: UUID | None = None
    action: str
    resource: str
    resource_id: UUID | None = None
    project_id: UUID | None = None
    outcome: str = Field(default="success", sa_column_kwargs={"server_default": sql("'success'")})
    detail: dict[str, Any] | None = json_field(nullable=True)
    address_hash: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    created_at: datetime = created_at_field()
    content: str
    prev_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)


class AuditHead(Base, table=True):
    """Where each chain ends. Changed by the trigger that appends rows, and by nobody else."""

    __tablename__ = "audit_heads"

    log: int = Field(primary_key=True, sa_type=SmallInteger, sa_column_kwargs={"autoincrement": False})
    seq: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": sql("0")})
    hash: bytes = Field(sa_type=LargeBinary)


class AuditPersonKey(Base, table=True):
    """The key that one person's data in the audit log is encrypted with, itself encrypted.

    Erasing the person sets ``wrapped_key`` to NULL; the row stays, so that no new key is ever made for them.
    """

    __tablename__ = "audit_person_keys"
    __table_args__ = (CheckConstraint("(wrapped_key IS NULL) = (erased_at IS NOT NULL)", name="erased"),)

    person_id: UUID = Field(primary_key=True)
    wrapped_key: bytes | None = Field(default=None, nullable=True, sa_type=LargeBinary)
    erased_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class AuditCheckpoint(Base, table=True):
    """A signed checkpoint; the object store has it too, with the hashes of the rows that it is over."""

    __tablename__ = "audit_checkpoints"

    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    statement: str
    signature: bytes = Field(sa_type=LargeBinary)
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
