"""What a verdict costs: remembered in the process, from the shared cache, from SQL; with few and very many bindings.

On a PostgreSQL and a Valkey of its own, so that a million bindings are nobody else's.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg

from adapters.cache.valkey import ValkeyCache
from bench.result import Figure, figure, median, percentile
from database.engine import Database
from database.store.access.cache import HeldCache, Rights, SharedHeld, read_held
from database.store.access.requests import Credential, authorize
from database.store.access.visible import visible_projects
from database.store.bootstrap import ensure_vocabulary
from domain.access.decide import Resource, decide
from domain.access.held import Held
from domain.access.permissions import Permission
from domain.access.tokens import hash_secret
from domain.actors import Actor, Origin
from domain.projects import ProjectView
from migrations.upgrade import upgrade
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import TestUser, give_role, make_project, make_token, make_user
from tests.support.platform import Platform
from tests.support.stack import Stack

SIZES = (10, 10_000, 1_000_000)
BINDINGS_OF_EACH = 10
PROJECTS = 10_000
REMEMBERED_CALLS = 20_000
CALLS = 500
CHECKS = 100
MICROSECONDS = 1_000_000
SECRET_KEY = b"benchmark".ljust(32)

# Bindings of others: as the owner of the tables, without the triggers that count each one, and with constraints and
# indexes made afterwards.
_PARTS = """
    SELECT format('ALTER TABLE user_roles DROP CONSTRAINT %I', conname) AS away,
        format('ALTER TABLE user_roles ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) AS back
    FROM pg_constraint WHERE conrelid = 'user_roles'::regclass AND contype IN ('f', 'u')
    UNION ALL
    SELECT format('DROP INDEX %I', indexname), indexdef
    FROM pg_indexes WHERE tablename = 'user_roles' AND indexname LIKE 'idx%'"""
_USERS = """INSERT INTO users (name) SELECT 'other-' || n FROM generate_series($1::int, $2::int) n"""
_PROJECTS = """
    INSERT INTO projects (owner_id, name, visibility)
    SELECT $1, 'many-' || n, 'private' FROM generate_series(1, $2::int) n"""
_BINDINGS = """
    INSERT INTO user_roles (user_id, role_id, project_id)
    SELECT u.id, r.id, p.id
    FROM (SELECT id, row_number() OVER () AS n FROM users WHERE name LIKE 'other-%' AND id NOT IN (
        SELECT user_id FROM user_roles WHERE user_id IS NOT NULL)) u
    CROSS JOIN generate_series(1, $1::int) k
    JOIN (SELECT id, row_number() OVER () AS n FROM projects) p ON p.n = 1 + (u.n * 7919 + k) % $2::int
    CROSS JOIN (SELECT id FROM roles WHERE name = 'developer') r"""
_EVERY_PROJECT = """
    INSERT INTO user_roles (user_id, role_id, project_id)
    SELECT $1, r.id, p.id FROM projects p, roles r WHERE r.name = 'viewer' AND p.name LIKE 'many-%'"""


@dataclass
class Scene:
    """A database with somebody who holds a handful, somebody who may read ten thousand projects, and a crowd.

    Attributes:
        secret_hash: Of a token of ``few``.
    """

    database: Database
    owner_url: str
    cache: ValkeyCache
    few: TestUser
    many: TestUser
    project: ProjectView
    secret_hash: str

    async def grow(self, before: int, bindings: int) -> None:
        """Adds others until there are ``bindings`` of theirs."""
        connection = await asyncpg.connect(self.owner_url.replace("+asyncpg", ""))
        try:
            parts = await connection.fetch(_PARTS)
            await connection.execute("ALTER TABLE user_roles DISABLE TRIGGER USER")
            await connection.execute(_USERS, before // BINDINGS_OF_EACH, bindings // BINDINGS_OF_EACH - 1)
            for part in parts:
                await connection.execute(part["away"])
            await connection.execute(_BINDINGS, BINDINGS_OF_EACH, PROJECTS)
            for part in parts:
                await connection.execute(part["back"])
            await connection.execute("ALTER TABLE user_roles ENABLE TRIGGER USER")
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()


async def access_verdicts(platform: Platform, scratch: Path) -> list[Figure]:
    """Verdicts at each size, and the list of visible projects beside as many checks one by one."""
    del platform
    stack = Stack(scratch / "stack")
    try:
        await stack.start("postgres")
        await stack.start("valkey")
        made = await stack.create_database()
        await upgrade(made.owner_url)
        cache = ValkeyCache(stack.bus_url)
        async with Database(made.url, audit_keys=AUDIT_KEYS) as database:
            figures = await _measure(await _scene(database, made.owner_url, cache))
        await cache.close()
        return figures
    finally:
        await stack.stop_all()


async def _scene(database: Database, owner_url: str, cache: ValkeyCache) -> Scene:
    async with database.transaction() as session:
        await ensure_vocabulary(session)
        owner, few, many = [await make_user(session, role=role) for role in ("developer", "viewer", None)]
        project = await make_project(session, owner)
        await give_role(session, few, "developer", project_id=project.id)
        token = await make_token(session, few)
    connection = await asyncpg.connect(owner_url.replace("+asyncpg", ""))
    try:
        await connection.execute("ALTER TABLE user_roles DISABLE TRIGGER USER")
        await connection.execute(_PROJECTS, owner.id, PROJECTS)
        await connection.execute(_EVERY_PROJECT, many.id)
        await connection.execute("ALTER TABLE user_roles ENABLE TRIGGER USER")
    finally:
        await connection.close()
    return Scene(database, owner_url, cache, few, many, project, hash_secret(token.secret))


async def _measure(scene: Scene) -> list[Figure]:
    figures = []
    before = 0
    for bindings in SIZES:
        await scene.grow(before, bindings)
        before = bindings
        figures.extend(await _verdicts(scene, f"{bindings:,} bindings"))
    figures.extend(await _lists(scene, f"{SIZES[-1]:,} bindings"))
    return figures


async def _verdicts(scene: Scene, size: str) -> list[Figure]:
    held = await read_held(scene.database, scene.few.id, scene.project.id)
    remembered = _remembered(scene, held)
    bare = await _timed(lambda: scene.database.read("SELECT 1"))
    ping = await _timed(lambda: scene.cache.get("nothing"))
    moment = datetime.now(UTC)

    async def shared() -> None:
        # A process that asks for the first time.
        rights = Rights(SharedHeld(scene.cache, SECRET_KEY))
        _judge(
            scene,
            await rights.held(scene.database, scene.few.id, scene.project.id, version=held.version, moment=moment),
        )

    async def sql() -> None:
        _judge(scene, await read_held(scene.database, scene.few.id, scene.project.id))

    async def sql_of_many() -> None:
        await read_held(scene.database, scene.many.id, scene.project.id)

    rights = Rights()

    async def request() -> None:
        grant = await authorize(
            scene.database,
            Credential("token", scene.secret_hash),
            rights=rights,
            origin=Origin(),
            owner=scene.project.owner_name,
            name=scene.project.name,
        )
        assert grant is not None
        assert grant.project is not None

    await shared()
    from_cache, from_sql, many, whole = [await _timed(call) for call in (shared, sql, sql_of_many, request)]
    return [
        figure(
            f"verdict remembered in the process, p99, {size}",
            percentile(remembered, 99) * MICROSECONDS,
            "us",
            goal=("at most", 50),
        ),
        _beside(f"verdict from Valkey, median, {size}", from_cache, "GET of nothing", ping),
        _beside(f"verdict from SQL, median, {size}", from_sql, "SELECT 1", bare),
        _beside(f"verdict from SQL for who holds 10,000 bindings, median, {size}", many, "SELECT 1", bare),
        _beside(f"credential, version and project of a request, median, {size}", whole, "SELECT 1", bare),
    ]


def _beside(name: str, seconds: list[float], limit_name: str, limit: list[float]) -> Figure:
    return figure(
        name, median(seconds) * MICROSECONDS, "us", limit=(f"{limit_name}, median", median(limit) * MICROSECONDS)
    )


def _remembered(scene: Scene, held: Held) -> list[float]:
    cache, moment = HeldCache(), datetime.now(UTC)
    for _ in range(10_000):
        cache.put(uuid4(), None, held)
    cache.put(scene.few.id, scene.project.id, held)
    actor, resource = scene.few.actor, scene.project.resource
    seconds = []
    for _ in range(REMEMBERED_CALLS):
        began = time.perf_counter()
        found = cache.get(scene.few.id, scene.project.id, version=held.version, moment=moment)
        assert found is not None
        assert decide(actor, Permission.PIPELINE_RUN, resource, held=found).allowed
        seconds.append(time.perf_counter() - began)
    return seconds


def _judge(scene: Scene, held: Held) -> None:
    actor = Actor(user_id=scene.few.id, name=scene.few.name)
    assert decide(actor, Permission.PIPELINE_RUN, scene.project.resource, held=held).allowed


async def _timed(call: Callable[[], Awaitable[object]], calls: int = CALLS) -> list[float]:
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return seconds


async def _lists(scene: Scene, size: str) -> list[Figure]:
    actor = scene.many.actor

    async def listed() -> list[ProjectView]:
        async with scene.database.transaction() as session:
            return await visible_projects(session, actor, limit=CHECKS)

    projects = await listed()
    assert len(projects) == CHECKS
    one_statement = await _timed(listed, calls=20)

    async def one_by_one() -> None:
        for project in projects:
            held = await read_held(scene.database, scene.many.id, project.id)
            resource = Resource(project_id=project.id)
            assert decide(actor, Permission.PROJECT_READ, resource, held=held).allowed

    checks = await _timed(one_by_one, calls=5)
    return [
        figure(
            f"the first {CHECKS} of 10,000 visible projects, median, {size}",
            median(one_statement) * 1000,
            "ms",
            limit=(f"{CHECKS} checks one by one", median(checks) * 1000),
            goal_ratio=("at most", 1),
        )
    ]
