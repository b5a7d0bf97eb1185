"""Identities, credentials and roles (seed 004, "Identity & RBAC"; ``users.kind`` comes from the design)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import INET
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, moment_field, texts_field


class User(Base, table=True):
    """A person, an agent or a service: one kind of row for all identities."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("kind IN ('user','agent','service')", name="kind"),)

    id: UUID = id_field()
    name: str = Field(unique=True)
    kind: str = Field(default="user", sa_column_kwargs={"server_default": text("'user'")})
    display_name: str | None = None
    email: str = Field(unique=True)
    password_hash: str
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    created_at: datetime = created_at_field()
    updated_at: datetime = created_at_field()


class Role(Base, table=True):
    """A named bundle of permissions."""

    __tablename__ = "roles"

    id: UUID = id_field()
    name: str = Field(unique=True)
    description: str | None = None
    is_system: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = created_at_field()


class PermissionRow(Base, table=True):
    """A permission as data; the vocabulary itself is ``domain.access.permissions.Permission``."""

    __tablename__ = "permissions"

    id: UUID = id_field()
    name: str = Field(unique=True)
    resource: str
    action: str
    description: str | None = None


class RolePermission(Base, table=True):
    """Which permissions a role bundles."""

    __tablename__ = "role_permissions"

    role_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("roles.id", ondelete="CASCADE")])
    permission_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("permissions.id", ondelete="CASCADE")])


class UserRole(Base, table=True):
    """A role held by an identity: on one project, or everywhere where ``project_id`` is NULL."""

    __tablename__ = "user_roles"
    __table_args__ = (
        UniqueConstraint("user_id", "role_id", "project_id", postgresql_nulls_not_distinct=True),
        Index("idx_user_roles_user", "user_id"),
    )

    id: UUID = id_field()
    user_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    role_id: UUID = Field(sa_column_args=[ForeignKey("roles.id", ondelete="CASCADE")])
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    granted_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
    created_at: datetime = created_at_field()


class AuthSession(Base, table=True):
    """A signed-in browser; the cookie's value is kept as its SHA-256 only (hex)."""

    __tablename__ = "auth_sessions"
    __table_args__ = (Index("idx_auth_sessions_user", "user_id"),)

    id: UUID = id_field()
    user_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    token_hash: str = Field(unique=True)
    ip_addr: str | None = Field(default=None, nullable=True, sa_type=INET)
    user_agent: str | None = None
    expires_at: datetime = moment_field()
    created_at: datetime = created_at_field()


class ApiToken(Base, table=True):
    """An API token ``prd_...``; kept as its SHA-256 only (hex)."""

    __tablename__ = "api_tokens"
    __table_args__ = (Index("idx_api_tokens_user", "user_id"),)

    id: UUID = id_field()
    user_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    name: str
    token_hash: str = Field(unique=True)
    scopes: list[str] = texts_field()
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    last_used_at: datetime | None = moment_field()
    expires_at: datetime | None = moment_field()
    revoked_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class IdempotencyKey(Base, table=True):
    """The answer given to an unsafe POST that carried ``Idempotency-Key``, for a day."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idx_idempotency_keys_created_at", "created_at"),)

    user_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    key: str = Field(primary_key=True)
    request_hash: str
    status: int | None = None
    body: str | None = None
    created_at: datetime = created_at_field()
