"""Fixtures that every test may ask for: the embedded servers, each started when first needed."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.postgres import Postgres
from deploy.local.s3 import S3
from deploy.local.temporal import Temporal
from deploy.local.valkey import Valkey
from tests.support.stack import Stack, TestDatabase

pytest_plugins = [
    "tests.support.database",
    "tests.support.api",
    "tests.support.git_server",
    "tests.support.temporal",
    "tests.support.openid",
    "tests.support.openid_scene",
]


@pytest.fixture(scope="session")
async def idle_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The stack with nothing started yet; it is stopped in order at the end of the session."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    yield stack
    await stack.stop_all()


@pytest.fixture(scope="session")
async def stack(idle_stack: Stack) -> Stack:
    """All four servers, ready."""
    await idle_stack.start_all()
    return idle_stack


@pytest.fixture(scope="session")
async def postgres(idle_stack: Stack) -> Postgres:
    """PostgreSQL, ready."""
    await idle_stack.start("postgres")
    return idle_stack.servers.postgres


@pytest.fixture(scope="session")
async def valkey(idle_stack: Stack) -> Valkey:
    """Valkey, ready."""
    await idle_stack.start("valkey")
    return idle_stack.servers.valkey


@pytest.fixture(scope="session")
async def s3(idle_stack: Stack) -> S3:
    """The S3 server, ready."""
    await idle_stack.start("s3")
    return idle_stack.servers.s3


@pytest.fixture(scope="session")
async def temporal_server(idle_stack: Stack) -> Temporal:
    """Temporal with its UI, ready."""
    await idle_stack.start("temporal")
    return idle_stack.servers.temporal


@pytest.fixture
async def empty_database(idle_stack: Stack) -> AsyncIterator[TestDatabase]:
    """A database of the test's own with nothing in it (no tables either)."""
    database = await idle_stack.create_database()
    yield database
    await idle_stack.drop_database(database)
