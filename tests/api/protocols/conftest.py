"""The API of these tests cannot reach Temporal: a push is answered at once and stays open."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import ApiServer
from tests.support.git_server import api_without_temporal
from tests.support.stack import Stack, TestDatabase


@pytest.fixture(scope="package")
async def api_server(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """One for all tests of this package."""
    made = await idle_stack.create_database(template=template_database.name)
    async with api_without_temporal(idle_stack, made, tmp_path_factory.mktemp("repositories")) as server:
        yield server
