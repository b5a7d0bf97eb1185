"""Identities, teams, roles and what is lent (seed 004, "Identity & RBAC"; deviations: ADR 0009)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, moment_field


class User(Base, table=True):
    """A person, an agent, a service or an organisation: one kind of row for whoever owns or does something.

    ``email`` and ``password_hash`` are NULL for whom no mail reaches and who signs in without a password;
    ``responsible_id`` is the person who answers for an agent or a service.
    """

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("kind IN ('user','agent','service','organization')", name="kind"),)

    id: UUID = id_field()
    name: str = Field(unique=True)
    kind: str = Field(default="user", sa_column_kwargs={"server_default": text("'user'")})
    display_name: str | None = None
    email: str | None = Field(default=None, nullable=True, unique=True)
    email_verified_at: datetime | None = moment_field()
    password_hash: str | None = None
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    responsible_id: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
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


class Team(Base, table=True):
    """Members of an organisation who hold roles together; those of the team ``owners`` own the organisation."""

    __tablename__ = "teams"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    id: UUID = id_field()
    organization_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    name: str
    description: str | None = None
    created_at: datetime = created_at_field()


class TeamMember(Base, table=True):
    """Who is in a team."""

    __tablename__ = "team_members"
    __table_args__ = (Index("idx_team_members_user", "user_id"),)

    team_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("teams.id", ondelete="CASCADE")])
    user_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    added_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
    created_at: datetime = created_at_field()


class UserRole(Base, table=True):
    """A role held by an identity, by everybody in an organisation, or by a team.

    On one project, or everywhere where ``project_id`` is NULL. ``external_identity_id`` marks a binding that a group of
    an identity provider led to: it comes and goes with that group, and stands beside one that a person made.
    """

    __tablename__ = "user_roles"
    __table_args__ = (
        CheckConstraint("num_nonnulls(user_id, team_id) = 1", name="holder"),
        UniqueConstraint(
            "user_id",
            "team_id",
            "role_id",
            "project_id",
            "external_identity_id",
            name="uq_user_roles_holder_role_project",
            postgresql_nulls_not_distinct=True,
        ),
        Index("idx_user_roles_user_project", "user_id", "project_id"),
        Index("idx_user_roles_team_project", "team_id", "project_id"),
        Index("idx_user_roles_project", "project_id"),
    )

    id: UUID = id_field()
    user_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")]
    )
    team_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("teams.id", ondelete="CASCADE")]
    )
    role_id: UUID = Field(sa_column_args=[ForeignKey("roles.id", ondelete="CASCADE")])
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    granted_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
    external_identity_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("external_identities.id", ondelete="CASCADE")]
    )
    expires_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class Delegation(Base, table=True):
    """One permission that an identity lends to another; good only while the lender holds it.

    ``parent_id`` is the delegation that the lender passes on here, which must allow that: ``redelegations_left``
    counts the steps that may still follow. Rows of one act share ``grant_id``.
    """

    __tablename__ = "delegations"
    __table_args__ = (
        CheckConstraint("redelegations_left BETWEEN 0 AND 5", name="redelegations_left"),
        CheckConstraint("delegator_id <> delegate_id", name="not_to_oneself"),
        Index("idx_delegations_delegate", "delegate_id"),
        Index("idx_delegations_delegator", "delegator_id"),
        Index("idx_delegations_parent", "parent_id"),
        Index(
            "uq_delegations_live",
            "delegator_id",
            "delegate_id",
            "permission_id",
            "project_id",
            "parent_id",
            unique=True,
            postgresql_where=text("revoked_at IS NULL"),
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: UUID = id_field()
    grant_id: UUID
    delegator_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    delegate_id: UUID = Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    permission_id: UUID = Field(sa_column_args=[ForeignKey("permissions.id", ondelete="CASCADE")])
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    parent_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("delegations.id", ondelete="CASCADE")]
    )
    redelegations_left: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    expires_at: datetime | None = moment_field()
    reason: str | None = None
    created_at: datetime = created_at_field()
    revoked_at: datetime | None = moment_field()
    revoked_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])


class RightsVersion(Base, table=True):
    """Counts up with every change of what an identity holds, by triggers; a missing row means 0."""

    __tablename__ = "rights_versions"

    user_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    version: int = Field(sa_type=BigInteger)


class RightsEpoch(Base, table=True):
    """One row, which every change of rights locks.

    ``version`` counts up with what touches everybody's rights: what a role bundles, whom a project belongs to.
    ``changes`` counts up with every transaction that changes anybody's rights or ends a credential, so that whoever
    answers for long knows when to ask again.
    """

    __tablename__ = "rights_epoch"
    __table_args__ = (CheckConstraint("is_only", name="is_only"),)

    is_only: bool = Field(default=True, primary_key=True, sa_column_kwargs={"server_default": text("true")})
    version: int = Field(sa_type=BigInteger)
    changes: int = Field(sa_type=BigInteger)
