"""The log: every byte once, in order, out of the step's reach."""

import asyncio
from pathlib import Path
from uuid import UUID

from adapters.sandbox.local import LocalSandboxes
from tests.adapters.sandbox.support import NEVER, end_of, make_spec, run, whole_log
from tests.support.eventually import eventually

MIB = 1024**2


class TestCommands:
    async def test_each_is_announced_before_it_runs(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo 'it''s'", "printf '%s' \"a  b\"")
        await local.start(spec)
        await end_of(local, spec.id)
        expected = b"\x1b[36m+ echo 'it''s'\x1b[0m\nits\n\x1b[36m+ printf '%s' \"a  b\"\x1b[0m\na  b"
        assert await whole_log(local, spec.id) == expected

    async def test_they_share_one_shell(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "mkdir -p d", "cd d", "X=1", "echo $X $(pwd)")
        assert output == "1 /work/d\n"

    async def test_the_first_that_fails_is_the_last(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, output = await run(local, run_id, "echo one", "false; echo not reached", "echo two")
        assert (outcome.exit_code, output) == (1, "one\n")

    async def test_an_open_quote_does_not_swallow_the_next(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, output = await run(local, run_id, "echo 'open", "echo next")
        assert outcome.exit_code not in (0, None)
        assert "next" not in output
        assert "quote" in output.lower()

    async def test_an_unknown_program_is_named(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, output = await run(local, run_id, "no-such-program --at-all")
        assert outcome.exit_code == 127
        assert "no-such-program" in output

    async def test_many_lines_and_here_documents_work(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "cat <<EOF\nzeile ü\nEOF\nfor i in 1 2\ndo echo $i\ndone")
        assert output.endswith("zeile ü\n1\n2\n")

    async def test_too_large_a_variable_is_a_start_error(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, _ = await run(local, run_id, "true", env={"BIG": "x" * 200_000})
        assert "long" in (outcome.start_error or "")

    async def test_nothing_is_read_from_standard_input(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, output = await run(local, run_id, "cat; echo end")
        assert (outcome.exit_code, output) == (0, "end\n")


class TestBytes:
    async def test_both_streams_keep_their_order(self, local: LocalSandboxes, run_id: UUID) -> None:
        command = "i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
        _, output = await run(local, run_id, command)
        assert output.split() == [f"{stream}{i}" for i in range(200) for stream in "oe"]

    async def test_any_byte_passes(self, local: LocalSandboxes, run_id: UUID) -> None:
        everything = bytes(range(256)) * 4
        (local.workspace_path(run_id) / "bytes").write_bytes(everything)
        spec = make_spec(run_id, "cat bytes")
        await local.start(spec)
        await end_of(local, spec.id)
        assert (await whole_log(local, spec.id)).endswith(b"\n" + everything)

    async def test_the_step_cannot_take_back_what_it_wrote(self, local: LocalSandboxes, run_id: UUID) -> None:
        tries = (": > /dev/stdout", ": > /proc/self/fd/1", "truncate -s 0 /dev/stdout", "truncate -s 0 /proc/1/fd/1")
        _, output = await run(
            local, run_id, "echo first", *(f"({one}) 2>/dev/null || true" for one in tries), "echo last"
        )
        assert output == "first\nlast\n"

    async def test_the_last_bytes_of_a_killed_step_are_kept(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "echo kept; sleep 600")
        await local.start(spec)
        offset = 0
        while b"kept\n" not in await whole_log(local, spec.id):
            await local.wait(spec.id, log_offset=offset, timeout_seconds=10)
            offset = len(await whole_log(local, spec.id))
        await local.kill(spec.id)
        state = await local.inspect(spec.id)
        assert state.outcome is not None
        assert state.outcome.log_size_bytes == len(await whole_log(local, spec.id))

    async def test_200_mib_pass_through_a_supervisor_that_stays_small(
        self, local: LocalSandboxes, run_id: UUID
    ) -> None:
        spec = make_spec(run_id, f"head -c {200 * MIB} /dev/zero", "sleep 600")
        await local.start(spec)

        async def written() -> bool:
            return (await local.wait(spec.id, log_offset=200 * MIB, timeout_seconds=1)).phase != "absent" and (
                local.root / "sandboxes" / spec.id / "log"
            ).stat().st_size > 200 * MIB

        await eventually(written, timeout_seconds=60)
        holder = local._record(spec.id).holder()
        status = await asyncio.to_thread(Path(f"/proc/{holder}/status").read_text)
        peak_kib = int(status.partition("VmHWM:")[2].split()[0])
        assert peak_kib < 32 * 1024
        await local.kill(spec.id)


class TestWaiting:
    async def test_the_end_is_told_within_milliseconds(self, local: LocalSandboxes, run_id: UUID) -> None:
        spec = make_spec(run_id, "sleep 0.5")
        await local.start(spec)
        state = await local.wait(spec.id, log_offset=NEVER, timeout_seconds=20)
        assert state.outcome is not None
