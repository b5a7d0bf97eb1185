"""Workspaces that untrusted code has filled."""

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.workspaces import SMALL_TREE_ENTRIES
from tests.adapters.sandbox.support import run


async def test_what_was_checked_out_can_be_changed_by_the_step(local: LocalSandboxes, run_id: UUID) -> None:
    path = local.workspace_path(run_id)
    assert path.stat().st_uid == (61000 if os.geteuid() == 0 else os.geteuid())
    outcome, _ = await run(local, run_id, "mkdir -p a/b", "echo 1 > a/b/c", "rm -r a")
    assert outcome.exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_much_is_handed_over_like_little(local: LocalSandboxes) -> None:
    run_id = uuid4()
    workspace = await local.create_workspace(run_id)
    for number in range(SMALL_TREE_ENTRIES):
        (workspace / f"{number}").touch()
    await local.hand_over_workspace(run_id)
    assert {path.stat().st_uid for path in (workspace, *workspace.iterdir())} == {61000}
    await local.destroy_run(run_id)
    assert not workspace.exists()


async def test_handing_over_follows_no_link(local: LocalSandboxes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    run_id = uuid4()
    workspace = await local.create_workspace(run_id)
    (workspace / "link").symlink_to(outside)
    (workspace / "file").symlink_to(outside / "file")
    await local.hand_over_workspace(run_id)
    assert {path.stat().st_uid for path in (outside, outside / "file")} == {os.geteuid()}
    await local.destroy_run(run_id)
    assert (outside / "file").read_text() == "kept"


async def test_destroying_removes_what_a_step_tried_to_keep(local: LocalSandboxes, run_id: UUID) -> None:
    await run(
        local,
        run_id,
        "mkdir -p locked/inner && touch locked/inner/file && chmod 000 locked/inner locked",
        "perl -e 'for (1 .. 3000) { mkdir q(d); chdir q(d) or die $! }'",
    )
    await local.destroy_run(run_id)
    assert not local.workspace_path(run_id).parent.exists()


async def test_steps_of_one_run_share_it(local: LocalSandboxes, run_id: UUID) -> None:
    await run(local, run_id, "echo from-one > shared")
    _, output = await run(local, run_id, "cat shared")
    assert output == "from-one\n"
