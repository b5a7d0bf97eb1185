"""The small formats between supervisor and worker."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.sandbox.base import SandboxLimits
from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.cgroups import CgroupParent, Cgroups, group_orders, meter_orders
from adapters.sandbox.local.record import Record
from adapters.sandbox.supervisor.files import number_after, process_identity
from domain.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "key", "number"),
    [
        ('{ "child-pid": 17 }', '"child-pid"', 17),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill ", 3),
        ("low 0\noom 2\noom_kill 1\noom_group_kill 0\n", "oom_kill ", 1),
        ("usage_usec 1500\nuser_usec 1000\n", "usage_usec", 1500),
        ("12345\n", "", 12345),
        ("", "", None),
        ("nothing here", "oom_kill ", None),
        ('"exit-code": ', '"exit-code"', None),
    ],
)
def test_numbers_are_found_in_kernel_files(text: str, key: str, number: int | None) -> None:
    assert number_after(text, key) == number


def test_a_process_is_known_by_its_start() -> None:
    pid, start = process_identity(os.getpid()).split()
    assert (int(pid), start.isdigit()) == (os.getpid(), True)
    assert process_identity(2**22 + 1) == f"{2**22 + 1} gone"


class TestRecord:
    def test_only_the_first_decision_counts(self, tmp_path: Path) -> None:
        record = Record(tmp_path / "sandbox")
        now = datetime.now(UTC)
        assert record.decide(now=now, killed=True)
        assert not record.decide(now=now, start_error="too late")
        assert (record.begun() or {})["outcome"]["killed"] is True

    def test_a_result_that_points_past_the_log_is_none(self, tmp_path: Path) -> None:
        result = '{"result": {"started_at": 1, "ended_at": 2, "exit_code": 0, "log_size_bytes": 5}}'
        (tmp_path / "journal").write_text(f'{{"processes": ["17 4"]}}\n{result}\n')
        (tmp_path / "log").write_bytes(b"1234")
        assert Record(tmp_path).result() is None
        (tmp_path / "log").write_bytes(b"12345")
        assert Record(tmp_path).result() is not None

    @pytest.mark.parametrize("torn", ['{"result": {"started_at": 1,', "\0" * 40, '{"result": {"exit'])
    def test_a_line_that_a_power_cut_tore_says_nothing(self, tmp_path: Path, torn: str) -> None:
        (tmp_path / "journal").write_text(f'{{"failure": "the disk is full"}}\n{torn}')
        assert Record(tmp_path).result() is None
        assert Record(tmp_path).failure() == "the disk is full"

    async def test_a_sandbox_of_an_earlier_boot_is_lost(self, local: LocalSandboxes) -> None:
        directory = local.root / "sandboxes" / "of-an-earlier-boot"
        directory.mkdir()
        (directory / "begun").write_text('{"pid": 1, "boot_id": "another", "begun_at": 1, "cgroups": []}')
        state = await local.inspect("of-an-earlier-boot")
        assert state.phase == "lost"
        assert "restarted" in (state.reason or "")

    async def test_an_id_that_leads_elsewhere_is_refused(self, local: LocalSandboxes) -> None:
        for name in ("../runs", "", "..", "a/b"):
            with pytest.raises(InvalidInput, match="id of a sandbox"):
                await local.inspect(name)


class TestCgroups:
    """Version 2 is not on every machine that runs the tests: at least the orders are right."""

    def test_version_2_is_one_group_with_all_limits(self, tmp_path: Path) -> None:
        parent = CgroupParent(version=2, path=tmp_path)
        memory = CgroupParent(version=2, path=tmp_path, files=frozenset({"memory.swap.max", "memory.oom.group"}))
        cgroups = Cgroups(memory=memory, pids=parent, cpu=parent)
        (group,) = group_orders(cgroups, "id", SandboxLimits(memory_bytes=1000, processes=10))
        assert group == {
            "directory": f"{tmp_path}/perdure-id",
            "writes": [
                ("memory.max", "1000"),
                ("memory.swap.max", "0"),
                ("memory.oom.group", "1"),
                ("pids.max", "14"),
            ],
            "join": "cgroup.procs",
        }
        assert meter_orders(cgroups, "id") == {
            "oom": f"{tmp_path}/perdure-id/memory.events",
            "memory_peak": f"{tmp_path}/perdure-id/memory.peak",
            "cpu": (f"{tmp_path}/perdure-id/cpu.stat", "usage_usec", 1_000_000),
        }
