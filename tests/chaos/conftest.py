"""One whole platform for all tests of this directory but the storm, which has its own."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.project import Project
from tests.chaos.storm import step_supervisors
from tests.support.platform import Platform

MEMORY_BYTES = 256 * 1024**2


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """`perdure up`, with a small limit for the memory of a step."""
    home = tmp_path_factory.mktemp("chaos") / "home"
    home.mkdir(mode=0o700)
    (home / "settings.toml").write_text(f"[sandbox]\nmemory_bytes = {MEMORY_BYTES}\n")
    platform = Platform(home)
    await platform.up()
    yield platform
    await platform.down()
    # The sandboxes of a failed test outlive the platform, as they should.
    for supervisor in step_supervisors(home):
        supervisor.terminate()


@pytest.fixture(scope="module")
async def project(
    request: pytest.FixtureRequest, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A project of the module's own with its ``PIPELINES`` (by name) and, where it has some, its ``FILES``."""
    name = request.module.__name__.rpartition("test_")[2]
    project = Project(platform, name, tmp_path_factory.mktemp(name) / "repository")
    await project.publish(request.module.PIPELINES, getattr(request.module, "FILES", {}))
    return project
