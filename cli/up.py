"""`perdure up`: starts everything, shows it, serves until Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable

import click

from cli.demo import DemoFailed, show_demo
from cli.protections import missing_protections
from cli.terminal import Terminal
from deploy.local.installation import Installation, chosen_ports, open_installation
from deploy.local.part import PartFailed
from deploy.local.ports import PORT_MAX, PORT_MIN, PORT_NAMES, block_of_ports, free_ports
from deploy.local.state import AlreadyRunning, StateDirectory
from deploy.local.supervisor import Supervisor

PORTS_SHOWN = ("api", "worker", "temporal", "temporal_ui", "postgres", "valkey", "s3")


@click.command()
@click.option("--port-base", type=int, help="First port of the block of fixed ports (the API's). Default: 7400.")
@click.option("--port", "single", multiple=True, metavar="NAME=N", help=f"One port: {', '.join(PORTS_SHOWN)}, ...")
@click.option("--ports", type=click.Choice(["auto"]), help="auto: free ports, chosen by the system.")
@click.option("--demo/--no-demo", default=True, help="Whether the first run shows the demo project. Default: yes.")
def up(port_base: int | None, single: tuple[str, ...], ports: str | None, demo: bool) -> None:
    """Start everything and serve until Ctrl-C.

    Chosen ports are remembered. The first run pushes a demo project and follows its pipeline.
    """
    state = StateDirectory.of_this_process()
    try:
        with state.lock():
            chosen = _choose_ports(state, port_base=port_base, single=single, automatic=ports == "auto")
            installation = open_installation(state, ports=chosen)
            asyncio.run(_serve(installation, Terminal(), demo=demo))
    except (AlreadyRunning, PartFailed, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _choose_ports(
    state: StateDirectory, *, port_base: int | None, single: tuple[str, ...], automatic: bool
) -> dict[str, int] | None:
    if automatic and port_base is not None:
        raise ValueError("choose one of --ports auto and --port-base")
    if not (automatic or port_base is not None or single):
        return None
    if automatic:
        ports = free_ports()
    elif port_base is not None:
        ports = block_of_ports(port_base)
    else:
        ports = chosen_ports(state)
    for choice in single:
        name, _, number = choice.partition("=")
        if name not in PORT_NAMES:
            raise ValueError(f"--port {choice}: there is no port called {name!r}; there are {', '.join(PORT_NAMES)}")
        if not number.isdigit() or not PORT_MIN <= int(number) <= PORT_MAX:
            raise ValueError(f"--port {choice}: the port must be a number from {PORT_MIN} to {PORT_MAX}")
        ports[name] = int(number)
    doubled = sorted(name for name, port in ports.items() if list(ports.values()).count(port) > 1)
    if doubled:
        raise ValueError(f"these would listen on the same port: {', '.join(doubled)}")
    return ports


async def _serve(installation: Installation, terminal: Terminal, *, demo: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup a closed terminal is to be ignored.
        if signal.getsignal(wanted) is not signal.SIG_IGN:
            loop.add_signal_handler(wanted, stop.set)
    supervisor = Supervisor(
        installation.state, installation.stages, external=installation.external, announce=terminal.happening
    )
    terminal.line(f"Perdure in {installation.state.path}", bold=True)
    stopped = asyncio.create_task(stop.wait())
    try:
        if not await _unless(stopped, supervisor.up()):
            return
        for protection in await missing_protections(installation.worker.address):
            terminal.line(f"  missing protection of steps: {protection}", colour="yellow")
        if demo and not await _unless(stopped, _demo(installation, terminal)):
            return
        _banner(installation, terminal)
        await stopped
    finally:
        if stopped.done():
            terminal.line("stopping; all data is kept")
        stopped.cancel()
        await supervisor.down()


async def _unless(stopped: asyncio.Task[bool], work: Awaitable[None]) -> bool:
    """Runs ``work`` until it is done or we are asked to stop; whether it got done. Its failure is raised."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return not stopped.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


async def _demo(installation: Installation, terminal: Terminal) -> None:
    try:
        await show_demo(installation, terminal)
    except DemoFailed as error:
        # The platform serves all the same; the next start shows the demo again.
        terminal.line(f"The demo did not get to its end: {error}", colour="yellow")


def _banner(installation: Installation, terminal: Terminal) -> None:
    password_path = installation.admin_password_path
    terminal.line()
    terminal.line(f"  Dashboard     {installation.public_url}", bold=True)
    terminal.line(f"  Temporal UI   {installation.temporal_ui_url}")
    terminal.line(f"  Sign in as    {installation.admin_name}, first password: cat {password_path}")
    terminal.line(f"  Logs          {installation.state.logs}")
    terminal.line("  Ctrl-C stops everything; `perdure status` shows it")
