"""Exports are written as they are read: a large log passes through without staying in memory."""

import csv
import json
from pathlib import Path

import asyncpg
import httpx
import psutil

from database.engine import Session
from tests.support.factories import make_session, make_user
from tests.support.git_server import git_server
from tests.support.stack import Stack, TestDatabase

ROWS = 6_000
FILLER_SIZE_BYTES = 8192
GROWTH_BYTES_MAX = 20 * 1024**2

# Acts of the platform itself, which have nothing encrypted in them, appended by the trigger as any other.
FILL = """
INSERT INTO audit_log (content)
SELECT '{"action":"git:fetch","actor":{"id":"00000000-0000-0000-0000-000000000000","kind":"system"},'
    || '"detail":{"filler":"' || repeat('x', $2) || '"},"id":"' || gen_random_uuid()
    || '","outcome":"success","target":{"kind":"project"}}'
FROM generate_series(1, $1)
"""


async def auditor(session: Session) -> dict[str, str]:
    """The cookie of an administrator who has just signed in."""
    _, secret = await make_session(session, await make_user(session, role="admin"))
    return {"perdure_session": secret}


async def test_a_large_export_costs_little_memory(idle_stack: Stack, migrated: TestDatabase, tmp_path: Path) -> None:
    connection = await asyncpg.connect(migrated.url.replace("+asyncpg", ""))
    await connection.execute(FILL, ROWS, FILLER_SIZE_BYTES)
    await connection.close()
    async with git_server(idle_stack, migrated, tmp_path / "repositories") as server:
        async with server.database.transaction() as session:
            cookies = await auditor(session)
        async with httpx.AsyncClient(base_url=server.url, cookies=cookies, trust_env=False, timeout=60) as client:
            await client.get("/api/v1/audit/export?action=nothing:like")
            before = server.process.memory_info().rss
            for form in ("json", "csv"):
                file = tmp_path / f"audit.{form}"
                largest = await downloaded(
                    client, f"/api/v1/audit/export?form={form}&action=git:", file, server.process
                )
                assert largest - before < GROWTH_BYTES_MAX
                assert file.stat().st_size > ROWS * FILLER_SIZE_BYTES
    assert len(json.loads((tmp_path / "audit.json").read_text())) == ROWS
    with (tmp_path / "audit.csv").open(newline="") as lines:
        assert sum(1 for _ in csv.DictReader(lines)) == ROWS


async def downloaded(client: httpx.AsyncClient, path: str, file: Path, process: psutil.Process) -> int:
    """Writes the answer into a file; returns the server's largest memory meanwhile, in bytes."""
    largest = 0
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        with file.open("wb") as written:
            async for chunk in answer.aiter_bytes(1024**2):
                written.write(chunk)
                largest = max(largest, process.memory_info().rss)
    return largest
