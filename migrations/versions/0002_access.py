"""Organisations and teams, delegations, bindings that end, and versions of what everybody holds. Expand."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A change of rights counts up the version of everybody whom it touches: of the holders, and of those to whom they
# lend, step by step. Caches of rights compare versions, so forgetting one is impossible wherever the change is made.
#
# The triggers run when the transaction commits, one transaction after the other: the first thing that each does is to
# lock the row of rights_epoch. Two changes at once (a team loses a role while somebody joins it) would else not see
# each other, and nobody would count up for whom both concern. Running last also means that whoever waits for that lock
# holds every other one that it needs. The row's own column "changes" counts all of them, and the ends of credentials.
#
# Versions are times (microseconds), so that after a restore none comes back that a cache has seen with other rights.
FUNCTIONS = """
CREATE FUNCTION version_after(before bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT GREATEST(before + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) $$;

CREATE FUNCTION touch_rights(holders uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH RECURSIVE touched(id) AS (
        SELECT unnest(holders)
        UNION
        SELECT d.delegate_id FROM touched t JOIN delegations d ON d.delegator_id = t.id AND d.revoked_at IS NULL
    )
    INSERT INTO rights_versions (user_id, version)
    SELECT u.id, version_after(0) FROM users u JOIN touched t ON t.id = u.id ORDER BY u.id
    ON CONFLICT (user_id) DO UPDATE SET version = version_after(rights_versions.version) $$;

CREATE FUNCTION members_of(holder uuid, team uuid) RETURNS uuid[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(id) FROM (
        SELECT holder AS id
        UNION SELECT m.user_id FROM team_members m WHERE m.team_id = team
        UNION SELECT m.user_id FROM teams t JOIN team_members m ON m.team_id = t.id WHERE t.organization_id = holder
    ) everybody WHERE id IS NOT NULL $$;

CREATE FUNCTION count_change_of_rights() RETURNS void LANGUAGE sql AS $$
    UPDATE rights_epoch SET changes = changes + 1 WHERE xmin <> pg_current_xact_id()::xid $$;

CREATE FUNCTION rights_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE row_before jsonb := to_jsonb(OLD); row_after jsonb := to_jsonb(NEW); one jsonb;
BEGIN
    PERFORM count_change_of_rights();
    FOREACH one IN ARRAY ARRAY[row_before, row_after] LOOP
        CONTINUE WHEN one IS NULL;
        PERFORM touch_rights(CASE TG_TABLE_NAME
            WHEN 'user_roles' THEN members_of((one->>'user_id')::uuid, (one->>'team_id')::uuid)
            WHEN 'team_members' THEN ARRAY[(one->>'user_id')::uuid]
            WHEN 'delegations' THEN ARRAY[(one->>'delegate_id')::uuid]
            WHEN 'users' THEN members_of((one->>'id')::uuid, NULL)
        END);
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION everybodys_rights_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rights_epoch SET version = version_after(version), changes = changes + 1;
    RETURN NULL;
END $$;

CREATE FUNCTION access_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM count_change_of_rights(); RETURN NULL; END $$;

CREATE CONSTRAINT TRIGGER trg_user_roles_rights AFTER INSERT OR UPDATE OR DELETE ON user_roles
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rights_changed();

CREATE CONSTRAINT TRIGGER trg_team_members_rights AFTER INSERT OR UPDATE OR DELETE ON team_members
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rights_changed();

CREATE CONSTRAINT TRIGGER trg_delegations_rights AFTER INSERT OR UPDATE OR DELETE ON delegations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rights_changed();

CREATE CONSTRAINT TRIGGER trg_users_rights AFTER UPDATE OF is_active ON users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.is_active <> NEW.is_active)
    EXECUTE FUNCTION rights_changed();

CREATE CONSTRAINT TRIGGER trg_role_permissions_rights AFTER INSERT OR UPDATE OR DELETE ON role_permissions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION everybodys_rights_changed();

CREATE CONSTRAINT TRIGGER trg_projects_rights AFTER UPDATE OF owner_id ON projects
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.owner_id <> NEW.owner_id)
    EXECUTE FUNCTION everybodys_rights_changed();

CREATE CONSTRAINT TRIGGER trg_projects_seen AFTER UPDATE OF visibility, is_active ON projects
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.visibility <> NEW.visibility OR OLD.is_active <> NEW.is_active)
    EXECUTE FUNCTION access_ended();

CREATE CONSTRAINT TRIGGER trg_api_tokens_ended
    AFTER DELETE OR UPDATE OF revoked_at, expires_at, scopes, project_id ON api_tokens
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_ended();

CREATE CONSTRAINT TRIGGER trg_auth_sessions_ended AFTER DELETE OR UPDATE OF token_hash ON auth_sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_ended();

INSERT INTO rights_epoch (version, changes) VALUES (0, 0);
"""


def upgrade() -> None:
    """Adds the tables and columns, then the triggers."""
    _create_tables()
    _change_tables()
    connection = op.get_bind()
    # One statement at a time: asyncpg prepares each.
    for statement in FUNCTIONS.strip().split("\n\n"):
        connection.exec_driver_sql(statement)


def _create_tables() -> None:
    op.create_table(
        "rights_epoch",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("is_only", name=op.f("ck_rights_epoch_is_only")),
        sa.PrimaryKeyConstraint("is_only", name=op.f("pk_rights_epoch")),
    )
    op.create_table(
        "rights_versions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_rights_versions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_rights_versions")),
    )
    op.create_table(
        "teams",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["users.id"], name=op.f("fk_teams_organization_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_teams_organization_id_name")),
    )
    op.create_table(
        "delegations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("delegator_id", sa.Uuid(), nullable=False),
        sa.Column("delegate_id", sa.Uuid(), nullable=False),
        sa.Column("permission_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("redelegations_left", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("delegator_id <> delegate_id", name=op.f("ck_delegations_not_to_oneself")),
        sa.CheckConstraint("redelegations_left BETWEEN 0 AND 5", name=op.f("ck_delegations_redelegations_left")),
        sa.ForeignKeyConstraint(
            ["delegate_id"], ["users.id"], name=op.f("fk_delegations_delegate_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["delegator_id"], ["users.id"], name=op.f("fk_delegations_delegator_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["delegations.id"], name=op.f("fk_delegations_parent_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["permission_id"], ["permissions.id"], name=op.f("fk_delegations_permission_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_delegations_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["revoked_by"], ["users.id"], name=op.f("fk_delegations_revoked_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delegations")),
    )
    op.create_index("idx_delegations_delegate", "delegations", ["delegate_id"], unique=False)
    op.create_index("idx_delegations_delegator", "delegations", ["delegator_id"], unique=False)
    op.create_index("idx_delegations_parent", "delegations", ["parent_id"], unique=False)
    op.create_index(
        "uq_delegations_live",
        "delegations",
        ["delegator_id", "delegate_id", "permission_id", "project_id", "parent_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("added_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["added_by"], ["users.id"], name=op.f("fk_team_members_added_by")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_members_team_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_team_members_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("team_id", "user_id", name=op.f("pk_team_members")),
    )
    op.create_index("idx_team_members_user", "team_members", ["user_id"], unique=False)


def _change_tables() -> None:
    op.add_column("user_roles", sa.Column("team_id", sa.Uuid(), nullable=True))
    op.add_column("user_roles", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("user_roles", "user_id", existing_type=sa.UUID(), nullable=True)
    op.drop_constraint(op.f("uq_user_roles_user_id_role_id_project_id"), "user_roles", type_="unique")
    op.create_index("idx_user_roles_project", "user_roles", ["project_id"], unique=False)
    op.create_index("idx_user_roles_team", "user_roles", ["team_id"], unique=False)
    op.create_unique_constraint(
        op.f("uq_user_roles_user_id_team_id_role_id_project_id"),
        "user_roles",
        ["user_id", "team_id", "role_id", "project_id"],
        postgresql_nulls_not_distinct=True,
    )
    op.create_foreign_key(op.f("fk_user_roles_team_id"), "user_roles", "teams", ["team_id"], ["id"], ondelete="CASCADE")
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("responsible_id", sa.Uuid(), nullable=True))
    op.alter_column("users", "email", existing_type=sa.VARCHAR(), nullable=True)
    op.alter_column("users", "password_hash", existing_type=sa.VARCHAR(), nullable=True)
    op.create_foreign_key(op.f("fk_users_responsible_id"), "users", "users", ["responsible_id"], ["id"])
    op.create_check_constraint(op.f("ck_user_roles_holder"), "user_roles", "num_nonnulls(user_id, team_id) = 1")
    op.drop_constraint(op.f("ck_users_kind"), "users")
    op.create_check_constraint(op.f("ck_users_kind"), "users", "kind IN ('user','agent','service','organization')")
