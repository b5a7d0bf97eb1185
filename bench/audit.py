"""Rows a second appended to the audit log by 16 connections, beside plain inserts.

The other table is the same without chains: same columns, same indexes, a transaction each. In turn, so that both have
the same machine.
"""

import asyncio
import json
import secrets
import time
import tomllib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import text

from bench.result import Direction, Figure, figure, median
from database.engine import Database
from database.store.audit import record
from database.store.audit_content import Entry, content_of
from database.store.audit_keys import AuditKeys, PersonKey
from domain.actors import Actor, Origin
from domain.audit.actions import AuditAction
from tests.support.platform import Platform

CONNECTIONS = 16
ROUNDS = 5
ROUND_SECONDS = 3.0
GOAL: tuple[Direction, float] = ("at least", 0.5)

_PLAIN_COLUMNS = (
    *("id", "log", "seq", "actor_id", "actor_kind", "on_behalf_of", "token_id", "session_id", "action", "resource"),
    *("resource_id", "project_id", "outcome", "detail", "address_hash", "request_id", "trace_id", "created_at"),
    *("content", "prev_hash", "hash"),
)
_PLAIN = f"INSERT INTO audit_plain ({', '.join(_PLAIN_COLUMNS)}) VALUES ({{}})"  # noqa: S608  # constants

Append = Callable[[int], Awaitable[object]]


async def audit_appends(platform: Platform, scratch: Path) -> list[Figure]:
    """The statement alone, then the whole way from ``record`` to the commit."""
    del scratch
    settings = tomllib.loads((platform.home / "settings.toml").read_text(encoding="utf-8"))
    keys = AuditKeys(b"of the benchmark alone, 32 bytes")
    owner = await asyncpg.connect(_dsn(settings["database"]["owner_url"]))
    await owner.execute("CREATE TABLE audit_plain (LIKE audit_log INCLUDING ALL)")
    await owner.execute("GRANT INSERT ON audit_plain TO perdure_app")
    try:
        return [
            await _statements(_dsn(settings["database"]["url"]), keys),
            await _whole(settings["database"]["url"], keys),
        ]
    finally:
        await owner.execute("DROP TABLE audit_plain")
        await owner.close()


def _dsn(url: str) -> str:
    return url.replace("+asyncpg", "")


def _actor(number: int) -> Actor:
    origin = Origin(ip=f"192.0.2.{number}", user_agent="git/2.47.0", request_id=secrets.token_hex(12))
    return Actor(user_id=UUID(int=1000 + number), name=f"person-{number}", token_id=UUID(int=number), origin=origin)


def _entry(number: int) -> Entry:
    actor = _actor(number)
    return Entry(
        actor=actor,
        action=AuditAction.PROJECT_UPDATE,
        resource="project",
        resource_id=uuid4(),
        project_id=UUID(int=77),
        outcome="success",
        person_id=actor.user_id,
        detail={"description": {"before": "a description", "after": "another description"}, "visibility": "private"},
    )


async def _statements(dsn: str, keys: AuditKeys) -> Figure:
    """Contents are made before the clock starts: what is compared is the work of the database."""
    person = PersonKey.new()
    connections = [await asyncpg.connect(dsn) for _ in range(CONNECTIONS)]
    seqs = iter(range(10**9))

    def content(number: int) -> str:
        entry = _entry(number)
        return content_of(entry, keys, {entry.actor.user_id: person})

    async def chained(number: int) -> None:
        async with connections[number].transaction():
            await connections[number].execute("INSERT INTO audit_log (content) VALUES ($1)", content(number))

    places = ", ".join(f"${place}" for place in range(1, len(_PLAIN_COLUMNS) + 1))

    async def plain(number: int) -> None:
        values = _plain_values(next(seqs), content(number))
        async with connections[number].transaction():
            await connections[number].execute(_PLAIN.format(places), *values)

    try:
        return await _compared("audit rows appended (statement)", chained, plain)
    finally:
        for connection in connections:
            await connection.close()


def _plain_values(seq: int, content: str) -> list[object]:
    act = json.loads(content)
    target, project = UUID(act["target"]["id"]), UUID(act["project"])
    values: list[object] = [UUID(act["id"]), 0, seq, UUID(act["actor"]["id"]), "user", [], UUID(act["token"]), None]
    values += [act["action"], "project", target, project, "success", json.dumps(act["detail"]), act["address"]]
    values += [act["request"], None, datetime.now(UTC), content, secrets.token_bytes(32), secrets.token_bytes(32)]
    return values


async def _whole(url: str, keys: AuditKeys) -> Figure:
    async with Database(url, pool_size=CONNECTIONS, audit_keys=keys) as database:
        seqs = iter(range(10**9, 2 * 10**9))
        names = ", ".join(f":{column}" for column in _PLAIN_COLUMNS)
        statement = text(
            _PLAIN.format(names.replace(":detail", "CAST(:detail AS jsonb)").replace(":on_behalf_of", "'{}'"))
        )

        async def recorded(number: int) -> None:
            entry = _entry(number)
            async with database.transaction() as session:
                await record(
                    session, entry.actor, entry.action, "project", entry.resource_id, UUID(int=77), detail=entry.detail
                )

        async def plain(number: int) -> None:
            entry = _entry(number)
            # The same work for the content, so that only keeping it differs.
            content = content_of(entry, keys, {entry.actor.user_id: PersonKey(b"k" * 32)})
            values = dict(zip(_PLAIN_COLUMNS, _plain_values(next(seqs), content), strict=True))
            del values["on_behalf_of"]
            async with database.transaction() as session:
                await session.execute(statement, values)

        return await _compared("audit rows recorded (whole way)", recorded, plain)


async def _compared(name: str, chained: Append, plain: Append) -> Figure:
    rates: dict[str, list[float]] = {"chained": [], "plain": []}
    for _ in range(ROUNDS):
        rates["plain"].append(await _rate(plain))
        rates["chained"].append(await _rate(chained))
    limit = ("plain inserts", median(rates["plain"]))
    return figure(name, median(rates["chained"]), "rows/s", limit=limit, goal_ratio=GOAL)


async def _rate(append: Append) -> float:
    end = time.monotonic() + ROUND_SECONDS

    async def writer(number: int) -> int:
        count = 0
        while time.monotonic() < end:
            await append(number)
            count += 1
        return count

    began = time.monotonic()
    counts = await asyncio.gather(*(writer(number) for number in range(CONNECTIONS)))
    return sum(counts) / (time.monotonic() - began)
