"""The audit log becomes a set of hash chains; personal data in it is encrypted. Expand and migrate."""

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from database.store.audit_content import Entry, content_of
from database.store.audit_keys import AuditKeys, PersonKey
from domain.actors import Actor, Origin

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOGS = 16

# Appending: the head of one chain is locked, the row gets its place and its time, and every column is filled from the
# content. The chain is that of the connection's process: one transaction never touches two, so transactions cannot wait
# for each other in a circle, and few share one. The function runs as its owner, because nobody else may move a head.
FUNCTIONS = """
CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    act jsonb := NEW.content::jsonb;
    head public.audit_heads%ROWTYPE;
BEGIN
    SELECT * INTO STRICT head FROM public.audit_heads WHERE log = pg_backend_pid() % 16 FOR UPDATE;
    NEW.log := head.log;
    NEW.seq := head.seq + 1;
    NEW.prev_hash := head.hash;
    NEW.created_at := clock_timestamp();
    NEW.content := '{"act":' || NEW.content || ',"log":' || NEW.log || ',"prev":"' || encode(head.hash, 'hex')
        || '","seq":' || NEW.seq || ',"time":"'
        || to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","v":1}';
    NEW.hash := sha256(convert_to(NEW.content, 'UTF8'));
    NEW.id := (act->>'id')::uuid;
    NEW.actor_id := (act#>>'{actor,id}')::uuid;
    NEW.actor_kind := act#>>'{actor,kind}';
    NEW.on_behalf_of := ARRAY(SELECT jsonb_array_elements_text(act->'chain')::uuid);
    NEW.token_id := (act->>'token')::uuid;
    NEW.session_id := (act->>'session')::uuid;
    NEW.action := act->>'action';
    NEW.resource := act#>>'{target,kind}';
    NEW.resource_id := (act#>>'{target,id}')::uuid;
    NEW.project_id := (act->>'project')::uuid;
    NEW.outcome := act->>'outcome';
    NEW.detail := act->'detail';
    NEW.address_hash := act->>'address';
    NEW.request_id := act->>'request';
    NEW.trace_id := act->>'trace';
    UPDATE public.audit_heads SET seq = NEW.seq, hash = NEW.hash WHERE log = head.log;
    RETURN NEW;
END $$;

CREATE TRIGGER trg_audit_log_append BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_append();

CREATE TRIGGER trg_audit_checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER trg_audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

GRANTS = """
DO $$ BEGIN
IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'perdure_app') THEN
    REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON audit_heads FROM perdure_app;
    REVOKE UPDATE, DELETE, TRUNCATE ON audit_checkpoints FROM perdure_app;
    REVOKE UPDATE, DELETE, TRUNCATE ON audit_person_keys FROM perdure_app;
    GRANT UPDATE (wrapped_key, erased_at) ON audit_person_keys TO perdure_app;
    REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM perdure_app;
END IF;
END $$
"""


def upgrade() -> None:
    """Makes the tables, takes the old rows over into the chains, then closes the log again."""
    connection = op.get_bind()
    _create_tables()
    connection.execute(
        sa.text("INSERT INTO audit_heads (log, hash) SELECT log, :zero FROM generate_series(0, :last) AS log"),
        {"zero": bytes(32), "last": LOGS - 1},
    )
    old = [
        dict(row) for row in connection.execute(sa.text("SELECT * FROM audit_log ORDER BY created_at, id")).mappings()
    ]
    connection.exec_driver_sql("DROP TRIGGER trg_audit_log_append_only ON audit_log")
    connection.exec_driver_sql("DELETE FROM audit_log")
    _change_columns()
    _take_over(connection, old)
    # One statement at a time: asyncpg prepares each.
    for statement in FUNCTIONS.strip().split("\n\n"):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(GRANTS)


def _create_tables() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_audit_heads")),
    )
    op.create_table(
        "audit_person_keys",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(wrapped_key IS NULL) = (erased_at IS NOT NULL)", name=op.f("ck_audit_person_keys_erased")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_audit_person_keys")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_checkpoints")),
    )


def _change_columns() -> None:
    for column in ("actor_name", "ip_addr", "user_agent"):
        op.drop_column("audit_log", column)
    op.add_column("audit_log", sa.Column("log", sa.SmallInteger(), nullable=False))
    op.add_column("audit_log", sa.Column("seq", sa.BigInteger(), nullable=False))
    op.add_column("audit_log", sa.Column("address_hash", sa.String(), nullable=True))
    op.add_column("audit_log", sa.Column("trace_id", sa.String(), nullable=True))
    op.add_column("audit_log", sa.Column("content", sa.String(), nullable=False))
    op.add_column("audit_log", sa.Column("prev_hash", sa.LargeBinary(), nullable=False))
    op.add_column("audit_log", sa.Column("hash", sa.LargeBinary(), nullable=False))
    op.create_unique_constraint(op.f("uq_audit_log_log_seq"), "audit_log", ["log", "seq"])
    newest: sa.ColumnElement[Any] = sa.literal_column("created_at DESC")
    op.create_index("idx_audit_time", "audit_log", [newest, sa.literal_column("id DESC")], unique=False)
    op.create_index(
        "idx_audit_project",
        "audit_log",
        ["project_id", newest],
        unique=False,
        postgresql_where=sa.text("project_id IS NOT NULL"),
    )
    op.create_index(
        "idx_audit_action", "audit_log", ["action", newest], unique=False, postgresql_ops={"action": "text_pattern_ops"}
    )
    op.create_index(
        "idx_audit_address",
        "audit_log",
        ["address_hash", newest],
        unique=False,
        postgresql_where=sa.text("address_hash IS NOT NULL"),
    )
    op.create_index(
        "idx_audit_chain",
        "audit_log",
        ["on_behalf_of"],
        unique=False,
        postgresql_using="gin",
        postgresql_where=sa.text("on_behalf_of <> '{}'::uuid[]"),
    )


def _take_over(connection: sa.Connection, old: list[dict[str, Any]]) -> None:
    """Chains the rows that were written before, oldest first, in log 0; their times stay as they were."""
    if not old:
        return
    keys: AuditKeys | None = context.config.attributes.get("audit_keys")
    if keys is None:
        raise RuntimeError(
            "The audit log has rows whose personal data is to be encrypted, and there is no key for it. "
            "Nothing was changed; set audit.secret_key in the settings and run the migration again."
        )
    people = {row["actor_id"]: PersonKey.new() for row in old}
    connection.execute(
        sa.text("INSERT INTO audit_person_keys (person_id, wrapped_key) VALUES (:person, :key)"),
        [{"person": person, "key": keys.wrap(person, key)} for person, key in people.items()],
    )
    head = bytes(32)
    for seq, row in enumerate(old, start=1):
        act = content_of(_entry(row), keys, people)
        at = f"{row['created_at']:%Y-%m-%dT%H:%M:%S.%f}Z"
        content = f'{{"act":{act},"log":0,"prev":"{head.hex()}","seq":{seq},"time":"{at}","v":1}}'
        following = hashlib.sha256(content.encode()).digest()
        _insert(connection, row, keys, seq=seq, content=content, prev_hash=head, hash=following)
        head = following
    connection.execute(
        sa.text("UPDATE audit_heads SET seq = :seq, hash = :hash WHERE log = 0"), {"seq": len(old), "hash": head}
    )


def _entry(row: dict[str, Any]) -> Entry:
    actor = Actor(
        user_id=row["actor_id"],
        name=row["actor_name"],
        kind=row["actor_kind"],
        on_behalf_of=tuple(row["on_behalf_of"]),
        token_id=row["token_id"],
        session_id=row["session_id"],
        origin=Origin(
            ip=str(row["ip_addr"]) if row["ip_addr"] else None,
            user_agent=row["user_agent"],
            request_id=row["request_id"],
        ),
    )
    return Entry(
        id=row["id"],
        actor=actor,
        action=row["action"],
        resource=row["resource"],
        resource_id=row["resource_id"],
        project_id=row["project_id"],
        outcome=row["outcome"],
        detail=row["detail"],
        # The detail's personal fields are encrypted with the key of whoever acted.
        person_id=row["actor_id"],
    )


def _insert(connection: sa.Connection, row: dict[str, Any], keys: AuditKeys, **chained: object) -> None:
    address = keys.address_hash(str(row["ip_addr"])) if row["ip_addr"] else None
    connection.execute(
        sa.text(
            "INSERT INTO audit_log (id, log, seq, actor_id, actor_kind, on_behalf_of, token_id, session_id, action, "
            "resource, resource_id, project_id, outcome, detail, address_hash, request_id, created_at, content, "
            "prev_hash, hash) VALUES (:id, 0, :seq, :actor_id, :actor_kind, :on_behalf_of, :token_id, :session_id, "
            ":action, :resource, :resource_id, :project_id, :outcome, "
            "CAST(CAST(:content AS text) AS jsonb)#>'{act,detail}', "
            ":address, :request_id, :created_at, CAST(:content AS text), :prev_hash, :hash)"
        ).bindparams(sa.bindparam("on_behalf_of", type_=postgresql.ARRAY(sa.Uuid()))),
        {
            **{key: value for key, value in row.items() if key not in ("detail", "ip_addr")},
            "address": address,
            **chained,
        },
    )
