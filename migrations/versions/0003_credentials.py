"""Second factors, mailed links, bans, other providers, signing keys; sessions and tokens that are narrowed. Expand."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables and columns."""
    _create_tables()
    _change_tables()


def _create_tables() -> None:
    op.create_table(
        "sign_in_bans",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("bans", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("banned_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('name','address')", name=op.f("ck_sign_in_bans_kind")),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_sign_in_bans")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("algorithm", sa.String(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column(
            "public_jwk", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("signs_from", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("signs_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verifies_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("algorithm IN ('RS256','EdDSA')", name=op.f("ck_signing_keys_algorithm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
        sa.UniqueConstraint("kid", name=op.f("uq_signing_keys_kid")),
    )
    op.create_table(
        "email_tokens",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("purpose IN ('verify','reset','invite')", name=op.f("ck_email_tokens_purpose")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_email_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_email_tokens_token_hash")),
    )
    op.create_index("idx_email_tokens_user", "email_tokens", ["user_id"], unique=False)
    op.create_index(
        "idx_email_tokens_unsent",
        "email_tokens",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.create_table(
        "external_identities",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_external_identities_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_external_identities_issuer_subject")),
    )
    op.create_index("idx_external_identities_user", "external_identities", ["user_id"], unique=False)
    op.create_table(
        "passkeys",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("transports", postgresql.ARRAY(sa.TEXT()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_passkeys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkeys")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkeys_credential_id")),
    )
    op.create_index("idx_passkeys_user", "passkeys", ["user_id"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_codes")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_recovery_codes_code_hash")),
    )
    op.create_table(
        "spent_proofs",
        sa.Column("proof_hash", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("proof_hash", name=op.f("pk_spent_proofs")),
    )
    op.create_table(
        "totp_factors",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_step", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_totp_factors_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_totp_factors")),
    )


def _change_tables() -> None:
    op.add_column("user_roles", sa.Column("external_identity_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_user_roles_external_identity_id"),
        "user_roles",
        "external_identities",
        ["external_identity_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.drop_constraint(op.f("uq_user_roles_user_id_team_id_role_id_project_id"), "user_roles", type_="unique")
    op.create_unique_constraint(
        op.f("uq_user_roles_holder_role_project"),
        "user_roles",
        ["user_id", "team_id", "role_id", "project_id", "external_identity_id"],
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("api_tokens", sa.Column("acting_id", sa.Uuid(), nullable=True))
    op.add_column(
        "api_tokens",
        sa.Column("on_behalf_of", postgresql.ARRAY(sa.Uuid()), server_default=sa.text("'{}'::uuid[]"), nullable=False),
    )
    op.add_column("api_tokens", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.add_column("api_tokens", sa.Column("parent_session_id", sa.Uuid(), nullable=True))
    op.add_column("api_tokens", sa.Column("rotated_from", sa.Uuid(), nullable=True))
    op.add_column(
        "api_tokens", sa.Column("is_renewable", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("api_tokens", sa.Column("created_by", sa.Uuid(), nullable=True))
    op.add_column("api_tokens", sa.Column("last_used_ip", postgresql.INET(), nullable=True))
    op.create_index("idx_api_tokens_acting", "api_tokens", ["acting_id"], unique=False)
    op.create_index("idx_api_tokens_parent", "api_tokens", ["parent_id"], unique=False)
    op.create_index("idx_api_tokens_rotated_from", "api_tokens", ["rotated_from"], unique=False)
    op.create_foreign_key(
        op.f("fk_api_tokens_parent_id"), "api_tokens", "api_tokens", ["parent_id"], ["id"], ondelete="CASCADE"
    )
    op.create_foreign_key(
        op.f("fk_api_tokens_rotated_from"), "api_tokens", "api_tokens", ["rotated_from"], ["id"], ondelete="SET NULL"
    )
    op.create_foreign_key(
        op.f("fk_api_tokens_acting_id"), "api_tokens", "users", ["acting_id"], ["id"], ondelete="CASCADE"
    )
    op.create_foreign_key(op.f("fk_api_tokens_created_by"), "api_tokens", "users", ["created_by"], ["id"])
    op.create_foreign_key(
        op.f("fk_api_tokens_parent_session_id"),
        "api_tokens",
        "auth_sessions",
        ["parent_session_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.add_column("auth_sessions", sa.Column("scopes", postgresql.ARRAY(sa.TEXT()), nullable=True))
    op.add_column("auth_sessions", sa.Column("project_id", sa.Uuid(), nullable=True))
    op.add_column(
        "auth_sessions", sa.Column("factor", sa.String(), server_default=sa.text("'password'"), nullable=False)
    )
    op.add_column(
        "auth_sessions",
        sa.Column("proved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column(
        "auth_sessions",
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_foreign_key(
        op.f("fk_auth_sessions_project_id"), "auth_sessions", "projects", ["project_id"], ["id"], ondelete="CASCADE"
    )
