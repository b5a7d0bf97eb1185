"""`perdure down`: stops everything in order, from another terminal or after a crash."""

import signal
import time

import click

from cli.terminal import Terminal
from deploy.local.identity import ProcessIdentity
from deploy.local.orphans import stop_orphans
from deploy.local.state import AlreadyRunning, StateDirectory

STOP_TIMEOUT_SECONDS = 60.0
"""The supervisor's own limits for all parts together are below this."""


@click.command()
def down() -> None:
    """Stop everything in order; all data is kept."""
    state = StateDirectory.of_this_process()
    terminal = Terminal()
    if not state.path.exists():
        terminal.line(f"Nothing runs: there is no {state.path}.")
        return
    began = time.monotonic()
    asked = _stop_supervisor(state)
    try:
        with state.lock():
            left = stop_orphans(state, announce=lambda text: terminal.line(f"  {text}"))
    except AlreadyRunning as error:
        raise click.ClickException(f"It was started again meanwhile. {error}") from error
    if not asked and not left:
        terminal.line("Nothing runs.")
        return
    terminal.line(f"Stopped in {time.monotonic() - began:.1f} s; all data is kept in {state.path}.")


def _stop_supervisor(state: StateDirectory) -> bool:
    """Asks the supervisor to stop everything and waits; whether there was one."""
    pid = state.supervisor_pid()
    supervisor = ProcessIdentity.of(pid) if pid else None
    if supervisor is None:
        return False
    supervisor.stop(signal.SIGTERM, timeout_seconds=STOP_TIMEOUT_SECONDS)
    return True
