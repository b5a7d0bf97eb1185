"""Fixtures that every test may ask for: the embedded servers, each started when first needed."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.temporal import Temporal
from tests.support.memory_disk import directory_in_memory
from tests.support.stack import Stack

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
    directory = tmp_path_factory.mktemp("stack")
    with directory_in_memory(otherwise=directory / "postgres") as databases_directory:
        stack = Stack(directory, databases_directory=databases_directory)
        yield stack
        await stack.stop_all()


@pytest.fixture(scope="session")
async def stack(idle_stack: Stack) -> Stack:
    """All four servers, ready."""
    await idle_stack.start_all()
    return idle_stack


@pytest.fixture(scope="session")
async def temporal_server(idle_stack: Stack) -> Temporal:
    """Temporal with its UI, ready."""
    await idle_stack.start("temporal")
    return idle_stack.servers.temporal
