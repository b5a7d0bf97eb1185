"""What the host gives, and what happens where it gives nothing."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.host import bare_host
from tests.adapters.sandbox.support import make_spec, processes_with, run
from tests.support.eventually import eventually


@pytest.fixture
def bare(tmp_path: Path, local: LocalSandboxes) -> LocalSandboxes:
    host = replace(bare_host(local._host.uid), problem="user namespaces are switched off")
    return LocalSandboxes(tmp_path / "bare", allow_unisolated=True, host=host)


@pytest.fixture
async def bare_run(bare: LocalSandboxes) -> AsyncIterator[UUID]:
    run_id = uuid4()
    await bare.create_workspace(run_id)
    await bare.hand_over_workspace(run_id)
    yield run_id
    await bare.destroy_run(run_id)


class TestWithoutIsolation:
    async def test_nothing_is_run_unless_it_is_allowed(self, tmp_path: Path, local: LocalSandboxes) -> None:
        host = replace(bare_host(local._host.uid), problem="user namespaces are switched off")
        strict = LocalSandboxes(tmp_path / "strict", host=host)
        run_id = uuid4()
        await strict.create_workspace(run_id)
        await strict.hand_over_workspace(run_id)
        outcome, _ = await run(strict, run_id, "echo ran > ran")
        assert "user namespaces are switched off" in (outcome.start_error or "")
        assert "allow_unisolated" in (outcome.start_error or "")
        assert not (strict.workspace_path(run_id) / "ran").exists()
        missing = [protection.name for protection in strict.protections() if not protection.active]
        assert {"user namespace", "network namespace", "mount namespace"} <= set(missing)


class TestUnisolated:
    """Allowed explicitly: no protection, but the same promises about the end."""

    async def test_commands_run_in_the_workspace(self, bare: LocalSandboxes, bare_run: UUID) -> None:
        outcome, output = await run(bare, bare_run, "pwd; exit 5")
        assert (outcome.exit_code, output.strip()) == (5, str(bare.workspace_path(bare_run)))

    async def test_kill_ends_what_ran_away(self, bare: LocalSandboxes, bare_run: UUID) -> None:
        spec = make_spec(bare_run, "setsid sh -c 'sleep 567890' & sleep 567890")
        await bare.start(spec)
        await eventually(lambda: len(processes_with("567890")) >= 2)
        await bare.kill(spec.id)
        assert processes_with("567890") == []


def test_every_protection_is_named_with_its_state(local: LocalSandboxes) -> None:
    named = {protection.name: protection for protection in local.protections()}
    assert {"user namespace", "mount namespace", "network namespace", "memory limit", "wall time limit"} <= set(named)
    assert all(protection.detail for protection in named.values())


EXAMINE = """
import ctypes, sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) == 0
print("apart", flush=True)
sys.stdin.readline()
Path("/proc/sys/user/max_user_namespaces").write_text("0")

from adapters.sandbox.local import LocalSandboxes
for protection in LocalSandboxes(Path(sys.argv[1])).protections():
    print(protection.name, protection.active, protection.detail, sep="|")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do without user namespaces")
def test_root_separates_steps_where_the_host_gives_no_user_namespaces(tmp_path: Path) -> None:
    program = [sys.executable, "-c", EXAMINE, str(tmp_path / "state")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "apart\n"
        for kind in ("uid", "gid"):
            Path(f"/proc/{process.pid}/{kind}_map").write_text("0 0 100000")
        process.stdin.write("go\n")
        process.stdin.flush()
        found = {line.split("|")[0]: line.strip().split("|")[1:] for line in process.stdout}
    assert process.returncode == 0
    missing = {name for name, (active, _) in found.items() if active == "False"}
    assert missing == {"user namespace", "no nested user namespaces"}
    assert "steps run as uid 61000 without capabilities instead" in found["user namespace"][1]
