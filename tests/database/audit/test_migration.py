"""Rows that were written before the log was a chain."""

import json
from uuid import UUID

import asyncpg
import pytest

from database.engine import Database
from database.store.audit_keys import keys_of
from domain.audit.rows import Row
from domain.audit.verification import verify
from migrations.upgrade import upgrade
from tests.support.audit import AUDIT_KEYS
from tests.support.stack import TestDatabase

OLD = """
INSERT INTO audit_log (actor_id, actor_name, action, resource, resource_id, detail, ip_addr, user_agent, created_at)
SELECT ('00000000-0000-4000-8000-00000000000' || (n % 2))::uuid, 'person-' || (n % 2), 'token:create', 'token', NULL,
       '{"email": "old@example.org", "n": 1.5}', '192.0.2.1', 'curl',
       '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 s'
FROM generate_series(1, 20) AS n
"""


async def before(database: TestDatabase) -> asyncpg.Connection:
    await upgrade(database.owner_url, revision="0003")
    connection = await asyncpg.connect(database.owner_url.replace("+asyncpg", ""))
    await connection.execute(OLD)
    return connection


async def test_old_rows_need_a_key_and_nothing_is_changed_without(empty_database: TestDatabase) -> None:
    connection = await before(empty_database)
    try:
        with pytest.raises(RuntimeError, match="Nothing was changed"):
            await upgrade(empty_database.owner_url)
        assert await connection.fetchval("SELECT count(*) FROM audit_log WHERE actor_name LIKE 'person-%'") == 20
    finally:
        await connection.close()


async def test_old_rows_are_chained_in_their_order_and_closed_again(empty_database: TestDatabase) -> None:
    connection = await before(empty_database)
    try:
        await upgrade(empty_database.owner_url, audit_keys=AUDIT_KEYS)
        rows = await connection.fetch("SELECT * FROM audit_log ORDER BY seq")
        head = await connection.fetchrow("SELECT seq, hash FROM audit_heads WHERE log = 0")
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute("DELETE FROM audit_log")
    finally:
        await connection.close()
    assert head is not None
    assert (head["seq"], head["hash"]) == (20, rows[-1]["hash"])
    report = verify([], [Row(row["content"], row["hash"].hex()) for row in rows], lambda *_: False)
    assert (report.rows, report.problems) == (20, ())
    assert not any(clear in str(rows) for clear in ("person-", "192.0.2", "curl", "example.org"))
    async with Database(empty_database.url, audit_keys=AUDIT_KEYS) as database, database.transaction() as session:
        person = UUID("00000000-0000-4000-8000-000000000001")
        key = (await keys_of(session, AUDIT_KEYS, [person]))[person]
    act = json.loads(rows[0]["content"])["act"]
    assert key is not None
    opened = key.open(act["actor"]["sealed"], bound_to=UUID(act["id"]))
    assert json.loads(opened or "") == {"ip": "192.0.2.1", "name": "person-1", "user_agent": "curl"}
