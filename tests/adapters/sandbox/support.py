"""Short ways to say what the tests of sandboxes say often."""

import os
from pathlib import Path
from uuid import UUID, uuid4

from adapters.sandbox.base import Sandboxes, SandboxLimits, SandboxOutcome, SandboxSpec, SandboxState
from domain.ids import sandbox_id

END_SECONDS_MAX = 60.0
NEVER = 1 << 60


def make_spec(
    run_id: UUID,
    *commands: str,
    limits: dict[str, float] | None = None,
    env: dict[str, str] | None = None,
    network: bool = False,
) -> SandboxSpec:
    return SandboxSpec(
        id=sandbox_id(uuid4(), 1),
        run_id=run_id,
        commands=commands,
        env=env or {},
        limits=SandboxLimits.model_validate(limits or {}),
        network=network,
    )


async def end_of(sandboxes: Sandboxes, sandbox: str) -> SandboxState:
    """The final state."""
    return await sandboxes.wait(sandbox, log_offset=NEVER, timeout_seconds=END_SECONDS_MAX)


async def run(
    sandboxes: Sandboxes,
    run_id: UUID,
    *commands: str,
    limits: dict[str, float] | None = None,
    env: dict[str, str] | None = None,
    network: bool = False,
) -> tuple[SandboxOutcome, str]:
    """Runs commands to their end; the outcome and the output without the lines that announce commands."""
    spec = make_spec(run_id, *commands, limits=limits, env=env, network=network)
    await sandboxes.start(spec)
    state = await end_of(sandboxes, spec.id)
    assert state.outcome is not None, state
    return state.outcome, without_markers(await whole_log(sandboxes, spec.id))


async def whole_log(sandboxes: Sandboxes, sandbox: str) -> bytes:
    parts = []
    offset = 0
    while part := await sandboxes.read_log(sandbox, offset=offset, size_bytes_max=1 << 20):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def without_markers(log: bytes) -> str:
    lines = log.decode("utf-8", "replace").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("\x1b[36m+ "))


def processes_with(text: str) -> list[int]:
    """Pids whose command line holds ``text``; zombies have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line:
                found.append(int(entry.name))
    return found
