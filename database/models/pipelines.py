"""Pipeline runs, their steps, logs and artifacts (seed 004, "Build & Deploy"; additions are listed in ADR 0005)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, json_field, moment_field, texts_field


class Pipeline(Base, table=True):
    """One run of one pipeline file.

    Attributes:
        number: Counts up per project, for people.
        plan: The compiled ``domain.pipelines.plan.Plan`` that runs, as JSON; NULL if the file was invalid.
        problems: Where the file was invalid: ``[{path, line, column, message, suggestion}]``.
        event_seq: The number of the newest event of this run (``events.seq``).
        error: For a person, why the run ended as ``error`` or was cancelled.
        waiting_for: For a person, what the run waits for now; NULL while it just works.
    """

    __tablename__ = "pipelines"
    __table_args__ = (
        CheckConstraint("trigger IN ('push','api','schedule','mr')", name="trigger"),
        CheckConstraint("status IN ('pending','running','success','failure','cancelled','error')", name="status"),
        UniqueConstraint("project_id", "number"),
        UniqueConstraint("push_id", "git_ref", "config_path"),
        Index("idx_pipelines_project", "project_id", text("created_at DESC")),
        Index("idx_pipelines_status", "status"),
        Index("idx_pipelines_pending", "created_at", postgresql_where=text("status = 'pending'")),
    )

    id: UUID = id_field()
    project_id: UUID = Field(sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")])
    number: int
    name: str
    trigger: str
    git_ref: str
    commit_sha: str | None = None
    commit_title: str | None = None
    config_path: str
    status: str = Field(default="pending", sa_column_kwargs={"server_default": text("'pending'")})
    triggered_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
    actor: dict[str, Any] = json_field()
    push_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("pushes.id", ondelete="SET NULL")]
    )
    rerun_of: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("pipelines.id", ondelete="SET NULL")]
    )
    plan: dict[str, Any] | None = json_field(nullable=True)
    problems: list[dict[str, Any]] = json_field(default="[]")
    variables: dict[str, str] = json_field()
    error: str | None = None
    waiting_for: str | None = None
    event_seq: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    cancel_requested_at: datetime | None = moment_field()
    started_at: datetime | None = moment_field()
    finished_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class PipelineStep(Base, table=True):
    """One step of a run. Its log is one stream over all attempts.

    Attributes:
        spec: The ``PlannedStep`` as JSON.
        attempt: 1-based; 0 before the first start.
        cause: Why it ended other than well (``StepCause``).
        reason: The same for a person, or why it was skipped.
        log_size_bytes: How much of the log is durable.
        sandbox_log_offset: How much of the present attempt's raw output is in the durable log.
        log_ref: Key of the one object that holds the whole log, once the step ended.
    """

    __tablename__ = "pipeline_steps"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending','running','success','failure','cancelled','skipped','error','lost')", name="status"
        ),
        UniqueConstraint("pipeline_id", "name"),
        UniqueConstraint("pipeline_id", "step_order"),
    )

    id: UUID = id_field()
    pipeline_id: UUID = Field(sa_column_args=[ForeignKey("pipelines.id", ondelete="CASCADE")])
    project_id: UUID = Field(sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")])
    step_order: int
    name: str
    image: str
    commands: list[str] = texts_field()
    depends_on: list[str] = texts_field()
    spec: dict[str, Any] = json_field()
    status: str = Field(default="pending", sa_column_kwargs={"server_default": text("'pending'")})
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    cause: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    log_ref: str | None = None
    log_sha256: str | None = None
    log_size_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    sandbox_log_offset: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    duration_ms: int | None = None
    started_at: datetime | None = moment_field()
    finished_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class LogSegment(Base, table=True):
    """A durable piece of a step's log while it grows: small ones hold their bytes, large ones an object's key.

    Segments of a step have no gap and no overlap: ``log_offset`` + ``size_bytes`` is the next one's ``log_offset``.
    They are deleted when the log is compacted into ``pipeline_steps.log_ref``.
    """

    __tablename__ = "log_segments"
    __table_args__ = (CheckConstraint("(data IS NULL) <> (object_key IS NULL)", name="one_place"),)

    step_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("pipeline_steps.id", ondelete="CASCADE")])
    log_offset: int = Field(primary_key=True, sa_type=BigInteger)
    size_bytes: int
    data: bytes | None = Field(default=None, nullable=True, sa_type=LargeBinary)
    object_key: str | None = None
    created_at: datetime = created_at_field()


class Artifact(Base, table=True):
    """A file that a step left, stored as an object under ``minio_path``."""

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("step_id", "name"),
        Index("idx_artifacts_pipeline", "pipeline_id"),
        Index("idx_artifacts_expires_at", "expires_at"),
    )

    id: UUID = id_field()
    pipeline_id: UUID = Field(sa_column_args=[ForeignKey("pipelines.id", ondelete="CASCADE")])
    step_id: UUID = Field(sa_column_args=[ForeignKey("pipeline_steps.id", ondelete="CASCADE")])
    name: str
    minio_path: str
    content_type: str | None = None
    size_bytes: int = Field(sa_type=BigInteger)
    sha256: str
    expires_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()
