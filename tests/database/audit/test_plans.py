"""Looking something up in a large audit log reads what is found, not the log: each way of asking has its index.

A plan that reads everything is quick on a small log, so nothing but a guard tells when a change of a statement or an
index brings one back. Run with ``PERDURE_AUDIT_ROWS=200000`` for the size that the issue names.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from database.engine import Database
from database.store.audit_reading import Filter, statement_of
from tests.support.audit import AUDIT_KEYS
from tests.support.stack import Stack, TestDatabase

ROWS = int(os.environ.get("PERDURE_AUDIT_ROWS", "20000"))
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = 51
PAGES_READ_MAX = 500
"""Of 8 KiB: what 51 rows that lie apart may cost, with every step of the indexes and of the names."""

# One row a minute. Person 1 does half of everything, person 2 nearly nothing; agent 3 acts for person 4 now and then.
FILL = """
INSERT INTO audit_log (id, log, seq, actor_id, on_behalf_of, token_id, action, resource, resource_id, project_id,
                       outcome, address_hash, request_id, created_at, content, prev_hash, hash)
SELECT gen_random_uuid(), n % 16, n / 16,
       person(CASE WHEN n % 2 = 0 THEN 1 WHEN n % 9973 = 1 THEN 2 ELSE 5 + n % 499 END),
       CASE WHEN n % 997 = 3 THEN ARRAY[person(4)] WHEN n % 7 = 0 THEN ARRAY[person(600 + n % 100)] ELSE '{}' END,
       person(900 + n % 300),
       CASE WHEN n % 4999 = 5 THEN 'signing_key:rotate' WHEN n % 3 = 0 THEN 'git:fetch' ELSE 'project:update' END,
       CASE WHEN n % 4999 = 5 THEN 'platform' ELSE 'project' END, person(10000 + n % 2003), person(50000 + n % 50),
       CASE WHEN n % 101 = 0 THEN 'denied' ELSE 'success' END,
       (CASE WHEN n % 2 = 0 THEN $2::text[] ELSE $3::text[] END)[1 + n % 50],
       'request-' || n, $4::timestamptz + n * interval '1 min', repeat('x', 700), '', sha256(n::text::bytea)
FROM generate_series(1, $1) AS n
"""


def person(number: int) -> UUID:
    return UUID(int=number)


@pytest.fixture(scope="module")
async def large(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    made = await idle_stack.create_database(template=template_database.name)
    owner = await asyncpg.connect(made.owner_url.replace("+asyncpg", ""))
    often, seldom = ([AUDIT_KEYS.address_hash(f"192.0.{net}.{host}") for host in range(50)] for net in (2, 3))
    seldom[7] = AUDIT_KEYS.address_hash("198.51.100.7")
    try:
        await owner.execute(
            "CREATE FUNCTION person(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS "
            "$$ SELECT lpad(to_hex($1), 32, '0')::uuid $$"
        )
        await owner.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        await owner.execute(FILL, ROWS, often, seldom, BEGAN)
        await owner.execute("INSERT INTO users (id, name) VALUES (person(2), 'seldom-seen'), (person(4), 'lender')")
        await owner.execute("ANALYZE audit_log, users")
    finally:
        await owner.close()
    async with Database(made.url, pool_size=1, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


async def plan_of(database: Database, wanted: Filter, **page: Any) -> dict[str, Any]:  # noqa: ANN401  # as statement_of
    async with database.transaction() as session:
        statement, values = statement_of(wanted, database.audit_keys, limit=SHOWN, **page)
        explained = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement)
        found: list[dict[str, Any]] = (await session.execute(explained, values)).scalar_one()
    return found[0]["Plan"]  # type: ignore[no-any-return]  # JSON


LATE = BEGAN + timedelta(minutes=ROWS)
WAYS = {
    "everything, newest first": (Filter(), {"idx_audit_time"}),
    "who does much": (Filter(actor=str(person(1))), {"idx_audit_actor", "idx_audit_time"}),
    "who does little": (Filter(actor=str(person(2))), {"idx_audit_actor"}),
    "who does little, by name": (Filter(actor="seldom-seen"), {"idx_audit_actor"}),
    "nobody": (Filter(actor="nobody-of-this-name"), {"idx_audit_actor"}),
    "in a chain or oneself": (Filter(anyone=str(person(4))), {"idx_audit_actor", "idx_audit_chain"}),
    "in a chain or oneself, by name": (Filter(anyone="lender"), {"idx_audit_actor", "idx_audit_chain"}),
    "one's own of who does much": (Filter(only_of=person(1)), {"idx_audit_actor", "idx_audit_time"}),
    "one's own": (Filter(only_of=person(4)), {"idx_audit_actor", "idx_audit_chain"}),
    "target": (Filter(target=person(10_001)), {"idx_audit_target"}),
    "kind of target": (Filter(resource="platform"), {"idx_audit_resource"}),
    "kind and target": (Filter(resource="project", target=person(10_001)), {"idx_audit_target"}),
    "action": (Filter(action="signing_key:rotate"), {"idx_audit_action"}),
    "beginning of an action": (Filter(action="signing_key:"), {"idx_audit_action"}),
    "action of no row": (Filter(action="secret:"), {"idx_audit_action"}),
    "time": (Filter(since=LATE - timedelta(days=2), until=LATE - timedelta(days=1)), {"idx_audit_time"}),
    "until long ago": (Filter(until=BEGAN + timedelta(days=1)), {"idx_audit_time"}),
    "address": (Filter(address="198.51.100.7"), {"idx_audit_address"}),
    "address of no row": (Filter(address="203.0.113.1"), {"idx_audit_address"}),
    "request": (Filter(request_id="request-77"), {"idx_audit_request"}),
    "project": (Filter(project_id=person(50_007)), {"idx_audit_project"}),
    "who, and what": (Filter(actor=str(person(2)), action="git:"), {"idx_audit_actor"}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_look_up_reads_an_index_and_little_else(large: Database, way: str) -> None:
    wanted, indexes = WAYS[way]
    place = (LATE - timedelta(hours=9), person(1))
    for plan in (
        await plan_of(large, wanted),
        await plan_of(large, wanted, place=place),
        # An export: its first batch.
        await plan_of(large, replace(wanted, until=wanted.until or LATE), newest_first=False),
    ):
        shown = json.dumps(plan, indent=1)
        used = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
        assert "audit_log" not in {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert used & indexes, shown
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= PAGES_READ_MAX, shown
