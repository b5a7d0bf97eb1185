"""Projects in the order of their addresses, so that a page of those that somebody may see ends where it is full."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

# The name of the owner beside that of the project: an index covers one table. Triggers keep it, so neither the version
# that runs during the migration nor any statement has to know of it.
FUNCTIONS = """
CREATE FUNCTION name_owner_of_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.owner_name := (SELECT name FROM users WHERE id = NEW.owner_id);
    RETURN NEW;
END $$;

CREATE FUNCTION rename_owner_of_projects() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projects SET owner_name = NEW.name WHERE owner_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER trg_projects_owner_name BEFORE INSERT OR UPDATE OF owner_id ON projects
    FOR EACH ROW EXECUTE FUNCTION name_owner_of_project();

CREATE TRIGGER trg_users_owner_name AFTER UPDATE OF name ON users
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION rename_owner_of_projects();
"""


def upgrade() -> None:
    """Adds the column, fills it, then the indexes."""
    op.add_column("projects", sa.Column("owner_name", sa.String(), nullable=True))
    connection = op.get_bind()
    # One statement at a time: asyncpg prepares each.
    for statement in FUNCTIONS.strip().split("\n\n"):
        connection.exec_driver_sql(statement)
    # Nothing about the projects changes, so ``updated_at`` stays.
    op.execute("ALTER TABLE projects DISABLE TRIGGER trg_projects_updated_at")
    op.execute("UPDATE projects p SET owner_name = o.name FROM users o WHERE o.id = p.owner_id")
    op.execute("ALTER TABLE projects ENABLE TRIGGER trg_projects_updated_at")
    op.alter_column("projects", "owner_name", existing_type=sa.VARCHAR(), nullable=False)
    in_use = sa.text("is_active")
    op.create_index("idx_projects_by_name", "projects", ["owner_name", "name"], postgresql_where=in_use)
    op.create_index(
        "idx_projects_open_by_name",
        "projects",
        ["owner_name", "name"],
        postgresql_where=sa.text("is_active AND visibility <> 'private'"),
    )
    # What one holder may on one project, which a page asks project by project. The narrower ones are prefixes of these.
    op.create_index("idx_user_roles_user_project", "user_roles", ["user_id", "project_id"])
    op.create_index("idx_user_roles_team_project", "user_roles", ["team_id", "project_id"])
    op.drop_index("idx_user_roles_user", table_name="user_roles")
    op.drop_index("idx_user_roles_team", table_name="user_roles")
