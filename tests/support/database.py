"""Databases with the present schema: migrated once a session, then copied for each test."""

from collections.abc import AsyncIterator

import pytest

from database.engine import Database
from database.store.bootstrap import ensure_vocabulary
from migrations.upgrade import upgrade
from tests.support.audit import AUDIT_KEYS
from tests.support.stack import Stack, TestDatabase


@pytest.fixture(scope="session")
async def template_database(idle_stack: Stack) -> TestDatabase:
    """The migrated database that others are copied from, with the permissions and system roles in it."""
    made = await idle_stack.create_database()
    await upgrade(made.owner_url)
    async with Database(made.url, pool_size=1, audit_keys=AUDIT_KEYS) as database, database.transaction() as session:
        await ensure_vocabulary(session)
    return made


@pytest.fixture
async def migrated(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[TestDatabase]:
    """A migrated database of the test's own."""
    made = await idle_stack.create_database(template=template_database.name)
    yield made
    await idle_stack.drop_database(made)


@pytest.fixture
async def empty_database(idle_stack: Stack) -> AsyncIterator[TestDatabase]:
    """A database of the test's own with nothing in it (no tables either)."""
    made = await idle_stack.create_database()
    yield made
    await idle_stack.drop_database(made)


@pytest.fixture
async def database(migrated: TestDatabase) -> AsyncIterator[Database]:
    """A migrated database of the test's own, opened as the role that serves requests."""
    async with Database(migrated.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
