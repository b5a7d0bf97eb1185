"""Notices of what changed about an account; narrowed sessions and unlinked identities end what is open. Expand."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A session that is narrowed, and a signed token of another issuer whose subject is nobody's any more, give less than
# before, as a token that is narrowed or revoked does: whoever answers them for long has to ask again.
TRIGGERS = """
DROP TRIGGER trg_auth_sessions_ended ON auth_sessions;

CREATE CONSTRAINT TRIGGER trg_auth_sessions_ended
    AFTER DELETE OR UPDATE OF token_hash, scopes, project_id ON auth_sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_ended();

CREATE CONSTRAINT TRIGGER trg_external_identities_ended
    AFTER DELETE OR UPDATE OF user_id, issuer, subject ON external_identities
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_ended();
"""


def upgrade() -> None:
    """Adds the table, then the triggers."""
    op.create_table(
        "security_notices",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=True),
        sa.Column("made_by", sa.String(), nullable=True),
        sa.Column("ip_addr", sa.String(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_security_notices_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_notices")),
    )
    op.create_index("idx_security_notices_created_at", "security_notices", ["created_at"], unique=False)
    connection = op.get_bind()
    # One statement at a time: asyncpg prepares each.
    for statement in TRIGGERS.strip().split("\n\n"):
        connection.exec_driver_sql(statement)
