"""The log itself: what the database adds, what it refuses, and what of a person stands in it."""

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from database.engine import Database
from database.store.audit import record
from database.store.audit_keys import AuditKeys
from domain.actors import SYSTEM, Actor, Origin
from domain.audit.actions import AuditAction
from domain.audit.canonical import is_canonical
from domain.errors import InvalidInput
from tests.support.audit import AUDIT_KEYS
from tests.support.stack import TestDatabase

ADA = Actor(
    user_id=UUID(int=11),
    name="ada-lovelace",
    on_behalf_of=(UUID(int=12),),
    origin=Origin(ip="192.0.2.7", user_agent="Analytical/1.0", request_id="request-1", trace_id="f" * 32),
)


async def rows_of(database: Database) -> list[dict[str, object]]:
    async with database.transaction() as session:
        rows = await session.execute(text("SELECT * FROM audit_log ORDER BY log, seq"))
        return [dict(row) for row in rows.mappings()]


async def act(database: Database, *, actor: Actor = ADA, **more: object) -> None:
    async with database.transaction() as session:
        await record(session, actor, AuditAction.TEAM_UPDATE, "test", None, **more)  # type: ignore[arg-type]  # what the test varies


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET outcome = 'failure'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_heads SET seq = 0",
        "DELETE FROM audit_heads",
        "INSERT INTO audit_heads (log, hash) VALUES (99, '')",
        "UPDATE audit_checkpoints SET statement = ''",
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_person_keys",
        "UPDATE audit_person_keys SET person_id = gen_random_uuid()",
        "INSERT INTO audit_log (content) VALUES ('{}') ON CONFLICT (id) DO UPDATE SET outcome = 'failure'",
        "SELECT 1 FROM audit_heads FOR UPDATE",
        "LOCK TABLE audit_log IN SHARE MODE",
        "TRUNCATE audit_heads, audit_checkpoints, audit_person_keys",
        "DROP TABLE audit_log",
        "DROP TRIGGER trg_audit_log_append ON audit_log",
        "DROP TRIGGER trg_audit_log_append_only ON audit_log",
        "DROP FUNCTION audit_append() CASCADE",
        "CREATE TRIGGER mine BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE RULE mine AS ON INSERT TO audit_log DO INSTEAD NOTHING",
        "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "SET ROLE perdure_owner",
    ],
)
async def test_the_serving_role_may_only_append(database: Database, statement: str) -> None:
    await act(database)
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        async with database.transaction() as session:
            await session.execute(text(statement))


async def test_the_serving_role_holds_nothing_but_reading_and_appending(database: Database) -> None:
    async with database.transaction() as session:
        # It may not hand itself what it does not hold: PostgreSQL warns, and does nothing.
        await session.execute(text("GRANT ALL ON audit_log TO perdure_app"))
        rows = await session.execute(
            text(
                "SELECT c.relname, p.name FROM pg_class c, unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE',"
                "'TRUNCATE','REFERENCES','TRIGGER']) AS p(name) WHERE c.relkind = 'r' AND c.relname LIKE 'audit%' "
                "AND has_table_privilege(c.oid, p.name) ORDER BY 1, 2"
            )
        )
        held = [tuple(row) for row in rows]
        columns = await session.execute(
            text("SELECT has_any_column_privilege('audit_log', 'UPDATE') OR has_schema_privilege('public', 'CREATE')")
        )
        assert columns.scalar_one() is False
    assert held == [
        ("audit_checkpoints", "INSERT"),
        ("audit_checkpoints", "SELECT"),
        ("audit_heads", "SELECT"),
        ("audit_log", "INSERT"),
        ("audit_log", "SELECT"),
        ("audit_person_keys", "INSERT"),
        ("audit_person_keys", "SELECT"),
    ]


async def test_the_function_that_appends_is_of_no_use_on_a_table_of_ones_own(
    database: Database, migrated: TestDatabase
) -> None:
    """As the trigger of another table it would move the end of a chain, and the next row would be one too many."""
    await act(database)
    mine = "CREATE TEMP TABLE mine AS SELECT * FROM audit_log WITH NO DATA"
    trigger = "CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.audit_append()"

    async def hijack() -> None:
        async with database.transaction() as session:
            await session.execute(text(mine))
            await session.execute(text(trigger))

    with pytest.raises(DBAPIError, match="permission denied for function"):
        await hijack()
    owner = await asyncpg.connect(migrated.owner_url.replace("+asyncpg", ""))
    try:
        await owner.execute(mine)
        await owner.execute(trigger)
        with pytest.raises(asyncpg.RaiseError, match="trigger of audit_log alone"):
            await owner.execute("INSERT INTO mine (content) VALUES ('{}')")
        assert await owner.fetchval("SELECT sum(seq) FROM audit_heads") == 1
    finally:
        await owner.close()


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET outcome = 'failure'", "DELETE FROM audit_log"])
async def test_a_trigger_refuses_the_owner_too(database: Database, migrated: TestDatabase, statement: str) -> None:
    await act(database)
    owner = await asyncpg.connect(migrated.owner_url.replace("+asyncpg", ""))
    try:
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(statement)
    finally:
        await owner.close()


@pytest.mark.parametrize("content", ["", "null", "{}", '{"action":"a"}', '{"id":"x"},"log":4', "[1]"])
async def test_what_is_no_act_is_not_appended(database: Database, content: str) -> None:
    with pytest.raises(DBAPIError):
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO audit_log (content) VALUES (:content)"), {"content": content})
    assert await rows_of(database) == []


async def test_place_time_and_columns_are_the_databases_to_give(database: Database) -> None:
    content = json.dumps(
        {
            "action": "a:b",
            "actor": {"id": str(UUID(int=1)), "kind": "user"},
            "id": str(UUID(int=2)),
            "outcome": "denied",
        }
        | {"target": {"kind": "t"}},
        separators=(",", ":"),
    )
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO audit_log (id, log, seq, hash, prev_hash, action, actor_id, outcome, created_at, content) "
                "VALUES (:other, 99, 99, '', '', 'x:y', :other, 'success', '2000-01-01', :content)"
            ),
            {"other": uuid4(), "content": content},
        )
    [row] = await rows_of(database)
    assert (row["seq"], row["action"], row["outcome"], row["id"]) == (1, "a:b", "denied", UUID(int=2))
    assert row["actor_id"] == UUID(int=1)
    assert str(row["created_at"]) > "2026"


async def test_a_row_says_everything_and_nothing_personal_in_clear(database: Database) -> None:
    await act(
        database,
        detail={"why": "because", "password": "hunter2", "email": "ada@example.org"},
        before={"email": "old@example.org"},
        after={"email": "ada@example.org", "token": "prd_secret"},
    )
    [row] = await rows_of(database)
    content = str(row["content"])
    assert is_canonical(content)
    facts = json.loads(content)["act"]
    assert facts["chain"] == [str(UUID(int=12))]
    assert (facts["request"], facts["trace"]) == ("request-1", "f" * 32)
    assert facts["detail"]["why"] == "because"
    assert set(facts["detail"]["password"]) == {"hmac"}
    assert facts["after"]["email"]["hash"] == AUDIT_KEYS.email_hash("ADA@example.org ")
    assert row["address_hash"] == AUDIT_KEYS.address_hash("192.0.2.7")
    for clear in ("lovelace", "192.0.2.7", "Analytical", "example.org", "hunter2", "prd_secret"):
        assert clear not in str(row), clear


async def test_secrets_that_are_the_same_have_the_same_hash_and_others_have_not(database: Database) -> None:
    for password in ("one", "one", "two"):
        await act(database, detail={"password": password})
    hashes = [row["detail"]["password"]["hmac"] for row in await rows_of(database)]  # type: ignore[index]  # JSON
    assert len(set(hashes)) == 2


async def test_the_platform_itself_is_nobody(database: Database) -> None:
    await act(database, actor=SYSTEM)
    [row] = await rows_of(database)
    assert json.loads(str(row["content"]))["act"]["actor"] == {"id": str(UUID(int=0)), "kind": "system"}
    async with database.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM audit_person_keys"))).scalar_one() == 0


async def test_odd_values_do_not_lose_a_row(database: Database) -> None:
    await act(database, detail={"nul": "a\0b", "half": "\ud800", "float": 0.5, "many": {"b", "a"}, "huge": 2**80})
    [row] = await rows_of(database)
    assert row["detail"] == {
        "nul": "a\ufffdb",
        "half": "\ufffd",
        "float": "0.5",
        "many": ["a", "b"],
        "huge": str(2**80),
    }


async def test_rows_of_a_transaction_stand_in_one_log_and_go_with_it(database: Database) -> None:
    async with database.transaction() as session:
        for _ in range(5):
            await record(session, ADA, AuditAction.TEAM_UPDATE, "test", None)
    rows = await rows_of(database)
    assert len({row["log"] for row in rows}) == 1
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]

    async def fails() -> None:
        async with database.transaction() as session:
            await record(session, ADA, AuditAction.TEAM_UPDATE, "test", None)
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await fails()
    assert len(await rows_of(database)) == 5


async def test_many_writers_at_once_leave_chains_without_a_gap(migrated: TestDatabase) -> None:
    async with Database(migrated.url, pool_size=12, audit_keys=AuditKeys(b"k" * 32)) as database:
        writers = [ADA.model_copy(update={"user_id": UUID(int=100 + number % 5)}) for number in range(60)]
        await asyncio.gather(*(act(database, actor=writer) for writer in writers))
        rows = await rows_of(database)
        assert len(rows) == 60
        before: dict[object, tuple[int, object]] = {}
        for row in rows:
            seq, digest = before.get(row["log"], (0, bytes(32)))
            assert (row["seq"], row["prev_hash"]) == (seq + 1, digest)
            before[row["log"]] = (seq + 1, row["hash"])
        async with database.transaction() as session:
            assert (await session.execute(text("SELECT count(*) FROM audit_person_keys"))).scalar_one() == 5


async def test_a_key_whose_transaction_was_undone_is_not_used_again(database: Database) -> None:
    person = ADA.model_copy(update={"user_id": uuid4()})

    async def fails() -> None:
        async with database.transaction() as session:
            await record(session, person, AuditAction.TEAM_UPDATE, "test", None)
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await fails()
    assert database.audit_keys.remembered([person.user_id]) == {}
    await act(database, actor=person)
    assert person.user_id in database.audit_keys.remembered([person.user_id])


async def test_another_secret_is_refused_instead_of_writing_what_nobody_reads(
    database: Database, migrated: TestDatabase
) -> None:
    await act(database)
    async with Database(migrated.url, audit_keys=AuditKeys(b"z" * 32)) as other:
        with pytest.raises(InvalidInput, match=r"another audit\.secret_key"):
            await act(other)


async def test_without_keys_nothing_is_recorded(migrated: TestDatabase) -> None:
    async with Database(migrated.url) as keyless:
        with pytest.raises(RuntimeError, match="audit_keys"):
            await act(keyless)
