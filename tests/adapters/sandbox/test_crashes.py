"""Promises D2, D3 and D9 as far as the sandbox keeps them: real processes, really killed, at many points."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.spawn import FORK_SERVER
from domain.errors import Unavailable
from tests.adapters.sandbox.support import NEVER, end_of, make_spec, processes_with, whole_log
from tests.support.eventually import eventually

REPOSITORY = Path(__file__).parents[3]

STARTER = r"""
import asyncio, os, signal, sys
from pathlib import Path
from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import LocalSandboxes, spawn

sandboxes = LocalSandboxes(Path(sys.argv[1]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while line := sys.stdin.readline():
    if os.fork() == 0:
        os.setpgid(0, 0)
        spawn.FORK_SERVER = spawn.ForkServer()
        os.write(1, b"%d\n" % os.getpid())
        asyncio.run(sandboxes.start(SandboxSpec.model_validate_json(line)))
        os.write(1, b"started\n")
        signal.pause()
"""
"""A process that forks a worker for each spec that it is given, so that a worker costs a millisecond."""

COUNTED = ("echo x >> count", "echo out-1", "sleep 0.05", "echo out-2")


@pytest.fixture(scope="module")
def starter(local: LocalSandboxes) -> Iterator["Starter"]:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(local.root)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        started = Starter(process)
        assert started.line() == b"ready\n"
        yield started
        process.kill()


class Starter:
    """Other workers: each starts one sandbox at once, and may be killed at any moment."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def launch(self, spec: SandboxSpec) -> int:
        """The pid of a worker that is about to start the sandbox."""
        assert self.process.stdin is not None
        self.process.stdin.write(spec.model_dump_json().encode() + b"\n")
        while not (said := self.line().strip()).isdigit():
            assert said == b"started"
        return int(said)


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
        pid = starter.launch(spec)
        assert starter.line() == b"started\n"
        os.kill(pid, signal.SIGKILL)
        assert (await local.inspect(spec.id)).phase == "running"
        await assert_ran_once(local, run_id, spec)

    @pytest.mark.parametrize("delay_milliseconds", range(0, 100, 5))
    async def test_at_any_moment_of_the_start_it_runs_exactly_once(
        self, local: LocalSandboxes, run_id: UUID, starter: Starter, delay_milliseconds: int
    ) -> None:
        spec = make_spec(run_id, *COUNTED)
        pid = starter.launch(spec)
        await asyncio.sleep(delay_milliseconds / 1000)
        os.kill(pid, signal.SIGKILL)
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
        for supervisor in await eventually(psutil.Process(FORK_SERVER.pid).children, interval_seconds=0):
            supervisor.kill()
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


class TestForkServerKilled:
    async def test_what_it_forked_goes_on_and_the_next_start_gets_a_new_one(
        self, local: LocalSandboxes, run_id: UUID
    ) -> None:
        first, second = make_spec(run_id, "sleep 0.5", *COUNTED), make_spec(run_id, "true")
        await local.start(first)
        kill_fork_server()
        await local.start(second)
        state = await end_of(local, second.id)
        assert state.outcome is not None
        assert state.outcome.exit_code == 0
        await assert_ran_once(local, run_id, first)

    async def test_at_any_moment_of_a_start_it_runs_at_most_once(self, local: LocalSandboxes, run_id: UUID) -> None:
        for microseconds in range(0, 4000, 200):
            spec = make_spec(run_id, *COUNTED)
            task = asyncio.create_task(local.start(spec))
            await asyncio.sleep(microseconds / 1e6)
            kill_fork_server()
            with contextlib.suppress(Unavailable):
                await task
            await assert_ran_once(local, run_id, spec)
            (local.workspace_path(run_id) / "count").unlink()


class TestAtOnce:
    async def test_two_processes_that_start_together_run_it_once(
        self, local: LocalSandboxes, run_id: UUID, starter: Starter
    ) -> None:
        for _ in range(20):
            spec = make_spec(run_id, "echo x >> count")
            pids = [starter.launch(spec) for _ in range(2)]
            await local.start(spec)
            state = await end_of(local, spec.id)
            assert state.outcome is not None
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert (local.workspace_path(run_id) / "count").read_text() == "x\n"
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


def kill_fork_server() -> None:
    os.kill(FORK_SERVER.pid, signal.SIGKILL)
    os.waitid(os.P_PID, FORK_SERVER.pid, os.WEXITED | os.WNOWAIT)
