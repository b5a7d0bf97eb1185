"""What counts as an outage of the database, and what does not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from database.engine import Database
from domain.errors import InvalidInput, Unavailable
from tests.support.audit import AUDIT_KEYS
from tests.support.stack import Stack

ONE = text("SELECT 1")


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that these tests may kill."""
    stack = Stack(tmp_path_factory.mktemp("own"))
    await stack.start("postgres")
    yield stack
    await stack.stop_all()


@pytest.fixture
async def database(own: Stack) -> AsyncIterator[Database]:
    await own.start("postgres")
    async with Database(own.database_url, pool_size=2, audit_keys=AUDIT_KEYS) as database:
        yield database


async def run(database: Database, *statements: str, then: Exception | None = None) -> None:
    """One transaction with these statements, and at its end this error."""
    async with database.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))
        if then is not None:
            raise then


@pytest.mark.parametrize("kind", [FileNotFoundError, ConnectionResetError, TimeoutError, BrokenPipeError, ValueError])
async def test_what_other_code_raises_in_the_block_passes_through(database: Database, kind: type[Exception]) -> None:
    raised = kind("not the database")
    with pytest.raises(kind) as caught:
        await run(database, "CREATE TEMP TABLE undone (id int)", then=raised)
    assert caught.value is raised
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT to_regclass('undone')")) is None


async def test_a_wrong_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError, match="does not exist"):
        await run(database, "SELECT * FROM nothing_of_this_name")
    await database.ping()


@pytest.mark.parametrize(
    "statement", ["SELECT CAST(:text AS text)", "SELECT CAST(to_json(CAST(:text AS text)) AS jsonb)"]
)
async def test_a_nul_is_the_senders_fault(database: Database, statement: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        async with database.transaction() as session:
            await session.execute(text(statement), {"text": "a\0b"})
    assert refused.value.specific_code == "nul_character"
    with pytest.raises(InvalidInput):
        await run(database, r"""SELECT '{"a": "\u0000"}'::jsonb""")
    with pytest.raises(InvalidInput):
        await database.read("SELECT $1::text", "a\0b")
    await database.ping()


async def test_a_constraint_that_speaks_at_commit_is_no_outage(database: Database) -> None:
    table = "CREATE TEMP TABLE twice (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    with pytest.raises(IntegrityError):
        await run(database, table, "INSERT INTO twice VALUES (1), (1)")
    await database.ping()


async def test_a_statement_over_its_time_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError, match="statement timeout"):
        await run(database, "SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)")
    await database.ping()


async def test_a_server_that_never_was(tmp_path: Path) -> None:
    nobody = Stack(tmp_path / "nobody")
    async with Database(nobody.database_url, audit_keys=AUDIT_KEYS) as database:
        with pytest.raises(Unavailable) as refused:
            await database.ping()
    assert refused.value.neighbour == "database"


async def test_no_free_connection_is_said_like_an_outage(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    await own.start("postgres")
    monkeypatch.setattr("database.engine.CONNECT_TIMEOUT_SECONDS", 1.0)
    async with Database(own.database_url, pool_size=1, audit_keys=AUDIT_KEYS) as narrow, narrow.transaction():
        with pytest.raises(Unavailable):
            await narrow.ping()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_a_server_that_goes_away_at_the_beginning_in_the_middle_and_before_the_commit(
    database: Database, own: Stack, kill: bool
) -> None:
    in_the_middle, at_commit, ready, go = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def asks_again() -> None:
        async with database.transaction() as session:
            await session.execute(ONE)
            in_the_middle.set()
            await go.wait()
            await session.execute(ONE)
            ready.set()

    async def only_commits() -> None:
        async with database.transaction() as session:
            await session.execute(ONE)
            at_commit.set()
            await go.wait()

    tasks = [asyncio.create_task(asks_again()), asyncio.create_task(only_commits())]
    await asyncio.gather(in_the_middle.wait(), at_commit.wait())
    await (own.kill("postgres") if kill else own.stop("postgres"))
    go.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [Unavailable, Unavailable]
    assert not ready.is_set()
    with pytest.raises(Unavailable):
        await database.ping()
    with pytest.raises(Unavailable):
        await database.read("SELECT 1")

    await own.start("postgres")
    await database.ping()
    [row] = await database.read("SELECT 1 AS one")
    assert row["one"] == 1


async def test_a_statement_that_the_server_was_working_on_when_it_died(database: Database, own: Stack) -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        async with database.transaction() as session:
            await session.execute(ONE)
            begun.set()
            await session.execute(text("SELECT pg_sleep(30)"))

    waiting = asyncio.create_task(waits())
    await begun.wait()
    await own.kill("postgres")
    with pytest.raises(Unavailable):
        await waiting


async def test_a_restart_between_two_transactions_is_not_seen(database: Database, own: Stack) -> None:
    await database.ping()
    await own.restart("postgres", kill=True)
    await asyncio.gather(*(database.ping() for _ in range(4)))


async def test_a_server_that_hangs(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    await own.start("postgres")
    monkeypatch.setattr("database.reading.TIMEOUT_SECONDS", 0.5)
    async with Database(own.database_url, pool_size=2, timeout_seconds=0.5, audit_keys=AUDIT_KEYS) as impatient:
        await impatient.ping()
        await impatient.read("SELECT 1")
        server = psutil.Process(own.pid("postgres"))
        stopped = [server, *server.children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            async with asyncio.timeout(10):
                # One in an open connection, one that needs a new one, one that finds none, and one beside the pool.
                ends = await asyncio.gather(
                    *(impatient.ping() for _ in range(3)), impatient.read("SELECT 1"), return_exceptions=True
                )
        finally:
            for process in stopped:
                process.resume()
        assert [type(end) for end in ends] == [Unavailable] * 4
        await impatient.ping()
        [row] = await impatient.read("SELECT 1 AS one")
        assert row["one"] == 1
