"""A sandbox implementation per module, and a ready workspace per test."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.sandbox.local import LocalSandboxes


@pytest.fixture(scope="session")
def local_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandboxes") / "state"


@pytest.fixture(scope="session")
def local(local_root: Path) -> LocalSandboxes:
    sandboxes = LocalSandboxes(local_root)
    missing = [p.detail for p in sandboxes.protections() if p.name == "user namespace" and not p.active]
    if missing:
        pytest.skip(f"this host cannot isolate a step: {missing[0]}")
    return sandboxes


@pytest.fixture(scope="session")
def local_as_root(local: LocalSandboxes, tmp_path_factory: pytest.TempPathFactory) -> LocalSandboxes:
    """As on a host without user namespaces, where only root can separate steps."""
    if local._host.uid is None:
        pytest.skip("only root can do without user namespaces")
    host = local._host.without_user_namespaces("switched off")
    return LocalSandboxes(tmp_path_factory.mktemp("sandboxes-as-root") / "state", host=host)


@pytest.fixture
async def run_id(local: LocalSandboxes) -> AsyncIterator[UUID]:
    """A run of ``local`` with a workspace that was handed over; destroyed afterwards."""
    run = uuid4()
    await local.create_workspace(run)
    await local.hand_over_workspace(run)
    yield run
    await local.destroy_run(run)
