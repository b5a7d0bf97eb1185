"""Functions in processes of their own that begin in milliseconds: forked from one that has imported what is slow."""

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

from api.app import _modules

# Everything that takes seconds to import and is started, killed and started again by tests.
PRELOADED = [*_modules(), "tests.support.git_server", "tests.support.pump_process"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def fork(function: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Runs a function, which a module must hold under its name, until it returns or its process is killed."""
    process = _context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


async def ended(process: ForkServerProcess) -> int:
    """Waits for a forked process; returns its exit code, negative for a signal."""
    await asyncio.to_thread(process.join)
    assert process.exitcode is not None
    return process.exitcode
