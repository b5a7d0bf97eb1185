"""Promises D2, D3 and D9 as far as the sandbox keeps them: real processes, really killed, at many points."""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import LocalSandboxes
from tests.adapters.sandbox.support import NEVER, end_of, make_spec, processes_with, whole_log
from tests.support.eventually import eventually

REPOSITORY = Path(__file__).parents[3]

STARTER = """
import asyncio, sys
from pathlib import Path
from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import LocalSandboxes

async def main():
    sandboxes = LocalSandboxes(Path(sys.argv[1]))
    spec = SandboxSpec.model_validate_json(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    await sandboxes.start(spec)
    print("started", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""

COUNTED = ("echo x >> count", "echo out-1", "sleep 0.05", "echo out-2")


@pytest.fixture
def starter(local_root: Path) -> "Starter":
    return Starter(local_root)


class Starter:
    """Another process that starts a sandbox when told, to be killed at any moment."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def launch(self, spec: SandboxSpec) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(self.root), spec.model_dump_json()],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    @staticmethod
    def go(process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()

    @staticmethod
    def end(process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


async def assert_ran_once(local: LocalSandboxes, run_id: UUID, spec: SandboxSpec) -> None:
    await local.start(spec)
    state = await end_of(local, spec.id)
    assert state.outcome is not None, state
    assert state.outcome.exit_code == 0, state
    assert (local.workspace_path(run_id) / "count").read_text() == "x\n"
    log = await whole_log(local, spec.id)
    assert log.count(b"\nout-1\n") == log.count(b"\nout-2\n") == 1
    assert state.outcome.log_size_bytes == len(log)


class TestStarterKilled:
    async def test_after_the_start_the_sandbox_goes_on_and_is_found_again(
        self, local: LocalSandboxes, run_id: UUID, starter: Starter
    ) -> None:
        spec = make_spec(run_id, "echo before; sleep 0.5; echo after", *COUNTED)
        process = starter.launch(spec)
        starter.go(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        starter.end(process)
        assert (await local.inspect(spec.id)).phase == "running"
        await assert_ran_once(local, run_id, spec)

    @pytest.mark.parametrize("delay_milliseconds", [0, 1, 2, 4, 6, 8, 10, 12, 15, 18, 22, 26, 32, 40, 60])
    async def test_at_any_moment_of_the_start_it_runs_exactly_once(
        self, local: LocalSandboxes, run_id: UUID, starter: Starter, delay_milliseconds: int
    ) -> None:
        spec = make_spec(run_id, *COUNTED)
        process = await asyncio.to_thread(starter.launch, spec)
        starter.go(process)
        await asyncio.sleep(delay_milliseconds / 1000)
        starter.end(process)
        await assert_ran_once(local, run_id, spec)


class TestSupervisorKilled:
    async def test_the_sandbox_is_lost_and_nothing_survives(self, local: LocalSandboxes, run_id: UUID) -> None:
        stubborn = "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 345670\" & echo up; sleep 345670"
        spec = make_spec(run_id, stubborn)
        await local.start(spec)
        await eventually(lambda: len(processes_with("345670")) >= 2)
        kill_supervisor(local, spec)
        state = await end_of(local, spec.id)
        assert state.phase == "lost"
        assert state.outcome is None
        assert "supervisor" in (state.reason or "")
        assert processes_with("345670") == []
        await local.start(spec)
        await local.kill(spec.id)
        assert (await local.inspect(spec.id)).phase == "lost"

    @pytest.mark.parametrize("seed", range(12))
    async def test_at_any_moment_it_is_ended_or_lost_and_never_runs_twice(
        self, local: LocalSandboxes, run_id: UUID, seed: int
    ) -> None:
        spec = make_spec(run_id, *COUNTED)
        await local.start(spec)
        await asyncio.sleep(random.Random(seed).uniform(0, 0.1))  # noqa: S311  a repeatable spread of moments
        kill_supervisor(local, spec)
        state = await end_of(local, spec.id)
        await local.start(spec)
        assert await local.inspect(spec.id) == state
        count = local.workspace_path(run_id) / "count"
        runs = count.read_text() if count.exists() else ""
        assert runs in (("x\n",) if state.phase == "ended" else ("", "x\n"))
        assert processes_with(spec.id) == []

    async def test_before_it_began_the_next_start_runs_it(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, *COUNTED)
        task = asyncio.create_task(local.start(spec))
        await eventually(lambda: processes_with(spec.id), interval_seconds=0)
        for pid in processes_with(spec.id):
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(task, return_exceptions=True)
        if (await local.inspect(spec.id)).phase == "absent":
            await assert_ran_once(local, run_id, spec)

    async def test_a_supervisor_that_cannot_write_says_why(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo up; sleep 600")
        await local.start(spec)
        await local.wait(spec.id, log_offset=0, timeout_seconds=10)
        holder = local._record(spec.id).holder()
        assert holder is not None
        # Python turns the signal into no exception; a limit on its files stands in for a full disk.
        resource.prlimit(holder, resource.RLIMIT_FSIZE, (0, 0))
        await local.kill(spec.id)
        state = await local.inspect(spec.id)
        assert state.phase == "lost"
        assert state.reason


class TestAtOnce:
    async def test_two_processes_that_start_together_run_it_once(
        self, local: LocalSandboxes, run_id: UUID, starter: Starter
    ) -> None:
        for _ in range(4):
            spec = make_spec(run_id, *COUNTED)
            processes = [await asyncio.to_thread(starter.launch, spec) for _ in range(2)]
            for process in processes:
                starter.go(process)
            await assert_ran_once(local, run_id, spec)
            for process in processes:
                starter.end(process)
            (local.workspace_path(run_id) / "count").unlink()

    async def test_twenty_starts_at_once_run_it_once(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, *COUNTED)
        await asyncio.gather(*(local.start(spec) for _ in range(20)))
        await assert_ran_once(local, run_id, spec)

    async def test_kill_and_start_together_leave_nothing_running(self, local: LocalSandboxes, run_id: UUID) -> None:
        for _ in range(10):
            spec = make_spec(run_id, "sleep 234560")
            await asyncio.gather(local.start(spec), local.kill(spec.id))
            state = await local.inspect(spec.id)
            assert state.outcome is not None
            assert state.outcome.killed
        assert processes_with("234560") == []

    async def test_kill_and_the_natural_end_tell_one_story(self, local: LocalSandboxes, run_id: UUID) -> None:
        for attempt in range(10):
            spec = make_spec(run_id, "sleep 0.02")
            await local.start(spec)
            await asyncio.sleep(0.005 * attempt)
            await local.kill(spec.id)
            outcome = (await local.inspect(spec.id)).outcome
            assert outcome is not None
            assert outcome.killed != (outcome.exit_code == 0)

    async def test_kill_run_while_steps_start_leaves_nothing_running(self, local: LocalSandboxes, run_id: UUID) -> None:
        specs = [make_spec(run_id, "sleep 123450") for _ in range(8)]
        starts = [asyncio.create_task(local.start(spec)) for spec in specs]
        await asyncio.sleep(0.01)
        await local.kill_run(run_id)
        await asyncio.gather(*starts)
        states = [await local.inspect(spec.id) for spec in specs]
        assert [state.phase for state in states] == ["ended"] * 8
        assert processes_with("123450") == []


class TestNewWorker:
    async def test_it_watches_kills_and_reads_what_another_started(
        self, local: LocalSandboxes, run_id: UUID, local_root: Path
    ) -> None:
        spec = make_spec(run_id, "echo here; sleep 600")
        await local.start(spec)
        other = LocalSandboxes(local_root, host=local._host)
        assert (await other.wait(spec.id, log_offset=0, timeout_seconds=10)).phase == "running"
        waiting = asyncio.create_task(local.wait(spec.id, log_offset=NEVER, timeout_seconds=30))
        await other.kill(spec.id)
        assert (await waiting).phase == "ended"
        assert (await whole_log(other, spec.id)).startswith(b"\x1b[36m+ echo here")


def kill_supervisor(local: LocalSandboxes, spec: SandboxSpec) -> None:
    holder = local._record(spec.id).holder()
    if holder:
        os.kill(holder, signal.SIGKILL)
