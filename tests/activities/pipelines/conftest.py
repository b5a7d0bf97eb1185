import pytest

from database.engine import Database
from tests.support.log_step import LogStep, log_step


@pytest.fixture
async def step(database: Database) -> LogStep:
    """A step that has not begun, in a database of the test's own."""
    return await log_step(database)
