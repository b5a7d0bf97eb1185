"""What every implementation of ``Sandboxes`` promises; the real one and the stand-in are held to the same words.

Each command has beside it the environment that makes the stand-in behave alike.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.sandbox.base import Sandboxes
from adapters.sandbox.dummy import DummySandboxes
from domain.errors import NotFound
from domain.ids import sandbox_id
from tests.adapters.sandbox.support import NEVER, end_of, make_spec, run, whole_log

SLEEP = {"DUMMY_SLEEP": "600"}


@pytest.fixture(params=["local", "dummy"])
def sandboxes(request: pytest.FixtureRequest, tmp_path: Path) -> Sandboxes:
    if request.param == "dummy":
        return DummySandboxes(tmp_path / "dummy")
    found: Sandboxes = request.getfixturevalue("local")
    return found


@pytest.fixture
async def run_id(sandboxes: Sandboxes) -> AsyncIterator[UUID]:
    ready = uuid4()
    await sandboxes.create_workspace(ready)
    await sandboxes.hand_over_workspace(ready)
    yield ready
    await sandboxes.destroy_run(ready)


class TestBadInput:
    async def test_nul_in_the_environment_is_a_start_error(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "true", env={"A": "b\0c"})
        assert "NUL" in (outcome.start_error or "")

    async def test_nul_in_a_command_is_a_start_error(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "echo \0")
        assert "NUL" in (outcome.start_error or "")

    async def test_a_run_without_workspace_starts_nothing(self, sandboxes: Sandboxes) -> None:
        stranger = uuid4()
        outcome, _ = await run(sandboxes, stranger, "true")
        assert "workspace" in (outcome.start_error or "")
        await sandboxes.destroy_run(stranger)

    async def test_a_workspace_that_was_not_handed_over_starts_nothing(self, sandboxes: Sandboxes) -> None:
        early = uuid4()
        await sandboxes.create_workspace(early)
        outcome, _ = await run(sandboxes, early, "true")
        assert "handed over" in (outcome.start_error or "")
        await sandboxes.destroy_run(early)

    async def test_handing_over_what_is_not_there_is_refused(self, sandboxes: Sandboxes) -> None:
        with pytest.raises(NotFound, match="workspace"):
            await sandboxes.hand_over_workspace(uuid4())

    async def test_an_unknown_sandbox_is_absent(self, sandboxes: Sandboxes) -> None:
        unknown = sandbox_id(uuid4(), 1)
        assert (await sandboxes.inspect(unknown)).phase == "absent"
        assert await sandboxes.read_log(unknown, offset=0, size_bytes_max=10) == b""
        assert (await sandboxes.wait(unknown, log_offset=0, timeout_seconds=0.02)).phase == "absent"


class TestEnds:
    async def test_success_has_exit_code_0(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "true")
        assert (outcome.exit_code, outcome.signal, outcome.start_error) == (0, None, None)
        assert outcome.started_at <= outcome.ended_at

    async def test_no_command_is_success(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id)
        assert outcome.exit_code == 0

    async def test_failure_keeps_its_exit_code(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "exit 7", env={"DUMMY_EXIT_CODE": "7"})
        assert outcome.exit_code == 7

    async def test_a_fatal_signal_is_named(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "sh -c 'kill -SEGV $$'", env={"DUMMY_SIGNAL": "11"})
        assert (outcome.exit_code, outcome.signal) == (None, 11)

    async def test_wall_time_is_limited(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        outcome, _ = await run(sandboxes, run_id, "sleep 600", env=SLEEP, limits={"wall_seconds": 0.2})
        assert outcome.timed_out
        assert outcome.exit_code is None

    async def test_log_size_is_limited_to_the_byte(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(
            run_id, "yes", env={"DUMMY_OUTPUT": "y\n" * 10_000, **SLEEP}, limits={"log_size_bytes": 10_000}
        )
        await sandboxes.start(spec)
        state = await end_of(sandboxes, spec.id)
        assert state.outcome is not None
        assert state.outcome.log_limit
        assert state.outcome.log_size_bytes == len(await whole_log(sandboxes, spec.id)) == 10_000


class TestLog:
    async def test_bytes_can_be_read_from_any_offset(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "printf abcdef", env={"DUMMY_OUTPUT": "abcdef"})
        await sandboxes.start(spec)
        await end_of(sandboxes, spec.id)
        size = len(await whole_log(sandboxes, spec.id))
        assert await sandboxes.read_log(spec.id, offset=size - 6, size_bytes_max=3) == b"abc"
        assert await sandboxes.read_log(spec.id, offset=size, size_bytes_max=3) == b""

    async def test_output_is_seen_while_the_sandbox_runs(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo early; sleep 600", env={"DUMMY_OUTPUT": "early\n", **SLEEP})
        await sandboxes.start(spec)
        offset = 0
        while b"early\n" not in await whole_log(sandboxes, spec.id):
            state = await sandboxes.wait(spec.id, log_offset=offset, timeout_seconds=20)
            assert state.phase == "running"
            offset = len(await whole_log(sandboxes, spec.id))

    async def test_wait_gives_up_after_its_time(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "sleep 600", env=SLEEP)
        await sandboxes.start(spec)
        started = time.monotonic()
        assert (await sandboxes.wait(spec.id, log_offset=NEVER, timeout_seconds=0.3)).phase == "running"
        assert 0.25 < time.monotonic() - started < 5


class TestIdempotence:
    async def test_starting_twice_runs_once(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo once >> count", env={"DUMMY_OUTPUT": "once\n"})
        await asyncio.gather(*(sandboxes.start(spec) for _ in range(5)))
        state = await end_of(sandboxes, spec.id)
        await sandboxes.start(spec)
        assert await sandboxes.inspect(spec.id) == state

    async def test_kill_ends_it_and_may_be_repeated(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "sleep 600", env=SLEEP)
        await sandboxes.start(spec)
        await asyncio.gather(*(sandboxes.kill(spec.id) for _ in range(3)))
        state = await sandboxes.inspect(spec.id)
        assert state.outcome is not None
        assert state.outcome.killed
        await sandboxes.kill(spec.id)
        assert await sandboxes.inspect(spec.id) == state

    async def test_kill_after_the_end_changes_nothing(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "true")
        await sandboxes.start(spec)
        state = await end_of(sandboxes, spec.id)
        await sandboxes.kill(spec.id)
        assert await sandboxes.inspect(spec.id) == state

    async def test_kill_before_the_start_keeps_it_from_running(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo ran > ran", env={"DUMMY_WRITE": "ran=ran"})
        await sandboxes.kill(spec.id)
        await sandboxes.start(spec)
        state = await end_of(sandboxes, spec.id)
        assert state.outcome is not None
        assert state.outcome.killed
        assert not (sandboxes.workspace_path(run_id) / "ran").exists()


class TestRuns:
    async def test_a_file_of_a_step_is_in_the_workspace(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        await run(sandboxes, run_id, "printf content > made", env={"DUMMY_WRITE": "made=content"})
        assert (sandboxes.workspace_path(run_id) / "made").read_text() == "content"

    async def test_a_workspace_is_emptied_until_it_is_handed_over(self, sandboxes: Sandboxes) -> None:
        ready = uuid4()
        path = await sandboxes.create_workspace(ready)
        (path / "half").write_text("a checkout that was cut off")
        assert list((await sandboxes.create_workspace(ready)).iterdir()) == []
        (path / "whole").write_text("checked out")
        assert not await sandboxes.workspace_ready(ready)
        await sandboxes.hand_over_workspace(ready)
        await sandboxes.hand_over_workspace(ready)
        assert await sandboxes.workspace_ready(ready)
        assert [entry.name for entry in (await sandboxes.create_workspace(ready)).iterdir()] == ["whole"]
        await sandboxes.destroy_run(ready)

    async def test_kill_run_kills_what_runs_and_what_comes_later(self, sandboxes: Sandboxes, run_id: UUID) -> None:
        specs = [make_spec(run_id, "sleep 600", env=SLEEP) for _ in range(3)]
        for spec in specs:
            await sandboxes.start(spec)
        assert not await sandboxes.is_run_killed(run_id)
        await sandboxes.kill_run(run_id)
        assert await sandboxes.is_run_killed(run_id)
        late = make_spec(run_id, "sleep 600", env=SLEEP)
        await sandboxes.start(late)
        for spec in [*specs, late]:
            state = await sandboxes.inspect(spec.id)
            assert state.outcome is not None
            assert state.outcome.killed

    async def test_destroy_leaves_nothing_and_may_be_repeated(self, sandboxes: Sandboxes) -> None:
        doomed = uuid4()
        await sandboxes.create_workspace(doomed)
        await sandboxes.hand_over_workspace(doomed)
        spec = make_spec(doomed, "echo here; sleep 600", env=SLEEP)
        await sandboxes.start(spec)
        assert doomed in await sandboxes.run_ids()
        await sandboxes.destroy_run(doomed)
        await sandboxes.destroy_run(doomed)
        assert doomed not in await sandboxes.run_ids()
        assert not sandboxes.workspace_path(doomed).exists()
        assert (await sandboxes.inspect(spec.id)).phase == "absent"

    async def test_two_that_end_a_run_at_once_leave_nothing_either(self, sandboxes: Sandboxes) -> None:
        for _ in range(5):
            doomed = uuid4()
            await sandboxes.create_workspace(doomed)
            await sandboxes.hand_over_workspace(doomed)
            specs = [make_spec(doomed, "echo here; sleep 600", env=SLEEP) for _ in range(3)]
            await asyncio.gather(*(sandboxes.start(spec) for spec in specs))
            await asyncio.gather(
                sandboxes.destroy_run(doomed), sandboxes.kill_run(doomed), sandboxes.destroy_run(doomed)
            )
            await sandboxes.destroy_run(doomed)
            for spec in specs:
                assert (await sandboxes.inspect(spec.id)).phase == "absent"

    async def test_protections_are_named(self, sandboxes: Sandboxes) -> None:
        assert all(protection.name and protection.detail for protection in sandboxes.protections())
