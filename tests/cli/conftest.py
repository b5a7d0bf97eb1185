"""What the tests of the commands share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.audit_scene import Scene, scene_on
from tests.support.stack import TestDatabase


@pytest.fixture
async def scene(migrated: TestDatabase, tmp_path: Path) -> AsyncIterator[Scene]:
    """A log of the test's own."""
    async with scene_on(migrated, tmp_path) as made:
        yield made
