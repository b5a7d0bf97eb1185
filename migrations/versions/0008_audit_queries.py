"""The audit log is found by target and by request too; its trigger is of no use on any other table. Expand."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The function moves the ends of the chains with its owner's rights. Whoever may execute it may make a trigger of it on
# a table of their own, and could then move an end without appending a row. Nobody needs the right to fire a trigger.
REVOKE = "REVOKE EXECUTE ON FUNCTION audit_append() FROM PUBLIC"

GUARD = """
DO $$
DECLARE
    source text := pg_get_functiondef('public.audit_append()'::regprocedure);
BEGIN
    EXECUTE replace(source, E'\nBEGIN\n', E'\nBEGIN\n'
        '    IF TG_TABLE_SCHEMA <> ''public'' OR TG_TABLE_NAME <> ''audit_log'' THEN\n'
        '        RAISE EXCEPTION ''audit_append is the trigger of audit_log alone'';\n'
        '    END IF;\n');
END $$
"""


def upgrade() -> None:
    """Closes the function, and makes the indexes."""
    connection = op.get_bind()
    connection.exec_driver_sql(REVOKE)
    connection.exec_driver_sql(GUARD)
    newest: sa.ColumnElement[Any] = sa.literal_column("created_at DESC")
    # By kind and id together the id alone is enough, and by kind alone the id stood in the way of the order by time.
    op.drop_index("idx_audit_resource", table_name="audit_log")
    op.create_index("idx_audit_resource", "audit_log", ["resource", newest], unique=False)
    op.create_index(
        "idx_audit_target",
        "audit_log",
        ["resource_id", newest],
        unique=False,
        postgresql_where=sa.text("resource_id IS NOT NULL"),
    )
    op.create_index(
        "idx_audit_request",
        "audit_log",
        ["request_id"],
        unique=False,
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
