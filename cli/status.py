"""`perdure status`: each part, its process, port, memory and health."""

import asyncio
import json
from dataclasses import asdict, dataclass

import click
import psutil

from cli.terminal import Terminal
from deploy.local.installation import Installation, open_installation
from deploy.local.part import Part
from deploy.local.state import PartRecord, RunRecord, StateDirectory

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class PartStatus:
    """One line.

    Attributes:
        state: ``starting``, ``ready``, ``restarting``, ``stopped`` or ``external``.
        health: ``ok`` (it answers now), ``failing`` (it runs and does not answer), ``down``, or ``unknown`` for a
            server that the operator runs elsewhere.
        memory_bytes: Of the process and all its children, shared memory counted in proportion; 0 if it does not run.
    """

    part: str
    state: str
    health: str
    pid: int | None
    port: int | None
    address: str
    memory_bytes: int
    restarts: int
    last_end: str | None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show each part: pid, port, memory, health and restarts.

    Exit code 0 if everything is well, else 1.
    """
    state = StateDirectory.of_this_process()
    record = RunRecord.load(state.record_path)
    terminal = Terminal()
    if record is None:
        if as_json:
            _print_json(terminal, state, None, [], memory_bytes=0)
        else:
            terminal.line(f"Perdure never ran in {state.path}: start it with `perdure up`.")
        raise SystemExit(1)
    supervisor_pid = state.supervisor_pid()
    try:
        installation = open_installation(state)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    parts = asyncio.run(_inspect(record, installation))
    together = sum(part.memory_bytes for part in parts) + _memory_bytes(supervisor_pid, alone=True)
    show = _print_json if as_json else _print_table
    show(terminal, state, supervisor_pid, parts, memory_bytes=together)
    if supervisor_pid is None or any(part.health not in {"ok", "unknown"} for part in parts):
        raise SystemExit(1)


async def _inspect(record: RunRecord, installation: Installation) -> list[PartStatus]:
    known = {part.name: part for part in installation.parts}
    return list(await asyncio.gather(*(_inspect_part(part, known.get(part.name)) for part in record.parts)))


async def _inspect_part(record: PartRecord, part: Part | None) -> PartStatus:
    alive = record.identity is not None and record.identity.alive
    if record.state == "external" or part is None:
        health = "unknown"
    elif not alive:
        health = "down"
    else:
        health = "ok" if await part.is_ready() else "failing"
    pid = record.identity.pid if record.identity is not None and alive else None
    return PartStatus(
        part=record.name,
        # A killed supervisor could not write that its parts went with it.
        state="stopped" if record.state != "external" and not alive and record.state == "ready" else record.state,
        health=health,
        pid=pid,
        port=record.ports[0] if record.ports else None,
        address=record.address,
        memory_bytes=_memory_bytes(pid),
        restarts=record.restarts,
        last_end=record.last_end,
    )


def _memory_bytes(pid: int | None, *, alone: bool = False) -> int:
    if pid is None:
        return 0
    try:
        root = psutil.Process(pid)
        family = [root] if alone else [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def _print_json(
    terminal: Terminal,
    state: StateDirectory,
    supervisor_pid: int | None,
    parts: list[PartStatus],
    *,
    memory_bytes: int,
) -> None:
    answer = {
        "running": supervisor_pid is not None,
        "directory": str(state.path),
        "supervisor_pid": supervisor_pid,
        "memory_bytes": memory_bytes,
        "parts": [asdict(part) for part in parts],
    }
    terminal.line(json.dumps(answer, indent=2))


def _print_table(
    terminal: Terminal,
    state: StateDirectory,
    supervisor_pid: int | None,
    parts: list[PartStatus],
    *,
    memory_bytes: int,
) -> None:
    head = f"runs, supervised by pid {supervisor_pid}" if supervisor_pid else "does not run"
    terminal.line(f"Perdure in {state.path} {head}", bold=True)
    terminal.line(f"  {'part':<10} {'state':<11} {'health':<8} {'pid':>8} {'port':>6} {'memory':>9} {'restarts':>8}")
    for part in parts:
        colour = "green" if part.health == "ok" else "yellow" if part.state == "external" else "red"
        health = terminal.paint(f"{part.health:<8}", colour=colour)
        memory = f"{part.memory_bytes / MEBIBYTE:.0f} MiB" if part.memory_bytes else "-"
        ended = f"  last: {part.last_end}" if part.last_end else ""
        terminal.line(
            f"  {part.part:<10} {part.state:<11} {health} {part.pid or '-':>8} {part.port or '-':>6} {memory:>9} "
            f"{part.restarts:>8}{ended}"
        )
    terminal.line(f"  {'together':<10} {'':<11} {'':<8} {'':>8} {'':>6} {f'{memory_bytes / MEBIBYTE:.0f} MiB':>9}")
