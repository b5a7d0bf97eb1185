"""Limits that are really hit."""

import time
from dataclasses import replace
from uuid import UUID

import pytest

from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.cgroups import NO_CGROUPS
from tests.adapters.sandbox.support import make_spec, processes_with, run
from tests.support.eventually import eventually

MIB = 1024**2
HOG = "perl -e '$x = \"a\" x (1024 * 1024 * 300); sleep 600'"


@pytest.fixture(params=["as found", "without control groups"])
def sandboxes(request: pytest.FixtureRequest, local: LocalSandboxes, monkeypatch: pytest.MonkeyPatch) -> LocalSandboxes:
    """The limits hold where the host has control groups and where it has none."""
    if request.param == "without control groups":
        monkeypatch.setattr(local, "_host", replace(local._host, cgroups=NO_CGROUPS))
    elif local._host.cgroups.memory is None:
        pytest.skip("no control groups can be made here; the other parameter tests what is used instead")
    return local


class TestMemory:
    async def test_one_process_over_the_limit_is_oom(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, HOG, limits={"memory_bytes": 100 * MIB})
        assert outcome.oom
        assert (outcome.exit_code, outcome.signal) == (None, None)

    async def test_many_small_processes_are_summed(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        each = "perl -e '$x = \"a\" x (1024 * 1024 * 20); sleep 600'"
        outcome, _ = await run(
            sandboxes,
            run_id,
            f"for i in 1 2 3 4 5 6 7 8; do {each} & done; wait; exit 3",
            limits={"memory_bytes": 100 * MIB},
        )
        assert outcome.oom

    async def test_what_fits_is_left_alone_and_measured(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        command = "perl -e '$x = \"a\" x (1024 * 1024 * 50); select undef, undef, undef, 0.3'"
        outcome, _ = await run(sandboxes, run_id, command, limits={"memory_bytes": 400 * MIB})
        assert outcome.exit_code == 0
        assert outcome.memory_peak_bytes is not None
        assert 50 * MIB < outcome.memory_peak_bytes < 400 * MIB


class TestProcesses:
    async def test_a_fork_bomb_is_contained(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        bomb = "perl -e '$| = 1; $n++ while $p = fork; print qq(forks $n\\n) if not defined $p; sleep 600'"
        spec = make_spec(run_id, bomb, limits={"processes": 40})
        await sandboxes.start(spec)

        async def said() -> int:
            log = (await sandboxes.read_log(spec.id, offset=0, size_bytes_max=65536)).decode()
            return int(log.rpartition("\nforks ")[2].split()[0]) if "\nforks " in log else 0

        assert 20 < await eventually(said) <= 40
        await sandboxes.kill(spec.id)


class TestTime:
    async def test_processor_time_of_one_process(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "while :; do :; done", limits={"cpu_seconds": 1})
        assert outcome.signal == 24
        assert outcome.cpu_seconds is not None
        assert 0.5 < outcome.cpu_seconds < 6

    async def test_processor_time_of_all_processes_together(self, sandboxes: LocalSandboxes, run_id: UUID) -> None:
        command = "for i in 1 2 3; do (while :; do :; done) & done; wait"
        outcome, _ = await run(sandboxes, run_id, command, limits={"cpu_seconds": 2, "wall_seconds": 50})
        assert outcome.signal == 24

    async def test_wall_time_ends_what_will_not_listen(self, local: LocalSandboxes, run_id: UUID) -> None:
        stubborn = "trap '' TERM INT HUP; setsid sh -c \"trap '' TERM; sleep 456780\" & sleep 456780 & wait; wait"
        started = time.monotonic()
        outcome, _ = await run(local, run_id, stubborn, limits={"wall_seconds": 0.5})
        assert outcome.timed_out
        assert time.monotonic() - started < 10
        assert processes_with("456780") == []


class TestFiles:
    async def test_a_file_over_the_limit_cannot_be_written(self, local: LocalSandboxes, run_id: UUID) -> None:
        command = "head -c 3000000 /dev/zero > big"
        outcome, _ = await run(local, run_id, command, limits={"file_size_bytes": MIB})
        assert outcome.signal == 25
        assert (local.workspace_path(run_id) / "big").stat().st_size == MIB

    async def test_temporary_space_is_limited(self, local: LocalSandboxes, run_id: UUID) -> None:
        command = "for d in /tmp /dev/shm; do head -c 9000000 /dev/zero > $d/big 2>/dev/null || echo full $d; done"
        _, output = await run(local, run_id, command, limits={"tmp_size_bytes": 8 * MIB})
        assert output.split("\n") == ["full /tmp", "full /dev/shm", ""]

    async def test_open_files_are_limited(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "ulimit -n", limits={"open_files": 77})
        assert output == "77\n"


class TestCgroups:
    async def test_none_is_left_behind(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "true")
        await local.start(spec)
        await local.wait(spec.id, log_offset=1 << 40, timeout_seconds=20)
        groups = [p.path for p in (local._host.cgroups.memory, local._host.cgroups.pids, local._host.cgroups.cpu) if p]
        await eventually(lambda: not [g for g in groups if (g / f"perdure-{spec.id}").exists()])
