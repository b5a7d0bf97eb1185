"""Many people who sign in at the same moment: nobody is sent away."""

import asyncio
import dataclasses
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from api import passwords
from api.passwords import Passwords
from database.engine import Database
from tests.support.api import ApiServer, listening_socket, services_for_tests, serving, url_of
from tests.support.audit import AUDIT_KEYS
from tests.support.eventually import eventually
from tests.support.factories import PASSWORD, make_user
from tests.support.stack import Stack, TestDatabase

PEOPLE = 60
CONNECTIONS = 5


class GatedHasher(PasswordHasher):
    """Real argon2id that begins to check when the gate is opened."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.gate = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002  # the library's name; it returns Literal[True]
        assert self.gate.wait(timeout=30)
        return super().verify(hash, password)


class CountingDatabase(Database):
    """Counts transactions."""

    transactions = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        self.transactions += 1
        async with super().transaction() as session:
            yield session


@pytest.fixture
async def counting(migrated: TestDatabase) -> AsyncIterator[CountingDatabase]:
    async with CountingDatabase(migrated.url, pool_size=CONNECTIONS, audit_keys=AUDIT_KEYS) as database:
        yield database


@pytest.fixture
def hasher() -> GatedHasher:
    return GatedHasher()


@pytest.fixture
async def server(
    idle_stack: Stack, counting: CountingDatabase, hasher: GatedHasher, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """An API of the test's own, with fewer connections to its database than people who want one."""
    listening = listening_socket()
    root = tmp_path_factory.mktemp("repositories")
    services = await services_for_tests(idle_stack, counting, root, url_of(listening))
    async with serving(dataclasses.replace(services, passwords=Passwords(hasher)), listening) as server:
        yield server


async def sign_in(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post("/api/v1/sessions", json={"name": name, "password": PASSWORD})


async def people_of(database: Database, number: int) -> list[str]:
    async with database.transaction() as session:
        return [(await make_user(session)).name for _ in range(number)]


async def attempts(database: Database) -> int:
    async with database.transaction() as session:
        return int((await session.execute(text("SELECT count(*) FROM sign_in_bans"))).scalar_one())


async def test_sixty_people_at_once_all_get_in(
    server: ApiServer, counting: CountingDatabase, hasher: GatedHasher
) -> None:
    names = await people_of(counting, PEOPLE)

    async def all_have_tried() -> bool:
        return await attempts(counting) == PEOPLE

    async with httpx.AsyncClient(
        base_url=server.base_url, trust_env=False, timeout=60, limits=httpx.Limits(max_connections=PEOPLE)
    ) as client:
        signing_in = [asyncio.create_task(sign_in(client, name)) for name in names]
        await eventually(all_have_tried, timeout_seconds=30)
        hasher.gate.set()
        answers = await asyncio.gather(*signing_in)
    assert Counter(answer.status_code for answer in answers) == {201: PEOPLE}
    assert [answer.json()["name"] for answer in answers] == names
    assert len({answer.json()["session_id"] for answer in answers}) == PEOPLE
    assert await attempts(counting) == 0, "nobody's attempt is left as a failure"


async def test_a_sign_in_takes_three_transactions(
    server: ApiServer, counting: CountingDatabase, hasher: GatedHasher
) -> None:
    hasher.gate.set()
    [name] = await people_of(counting, 1)
    before = counting.transactions
    assert (await sign_in(server.client, name)).status_code == 201
    assert counting.transactions - before == 3


async def test_whoever_would_wait_too_long_is_told_when_to_come_again(
    server: ApiServer, counting: CountingDatabase, hasher: GatedHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "WAITING_MAX", 1)
    first, second = await people_of(counting, 2)
    waiting = asyncio.create_task(sign_in(server.client, first))

    async def first_has_tried() -> bool:
        return await attempts(counting) == 1

    await eventually(first_has_tried)
    refused = await sign_in(server.client, second)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    hasher.gate.set()
    assert (await waiting).status_code == 201
    assert (await sign_in(server.client, second)).status_code == 201, "it was not counted as a failure"
