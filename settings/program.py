"""How a program of the installation begins and ends: settings or a complaint, an event loop, an exit status."""

import asyncio
import sys
from collections.abc import Callable, Coroutine

import uvloop
from pydantic import ValidationError

from domain.errors import PerdureError
from settings.values import Settings, load_settings


def run_program(title: str, program: Callable[[Settings], Coroutine[object, object, None]]) -> int:
    """Reads the settings and runs ``program`` with them to its end.

    What is wrong with the settings, or keeps the program from starting, is said on stderr in plain lines.

    Args:
        title: What those lines call it, at the beginning of a sentence.

    Returns:
        The exit status: 1 if it did not start.
    """
    try:
        settings = load_settings()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(program(settings))
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        print("The settings cannot be used:", *lines, sep="\n", file=sys.stderr)  # noqa: T201  # for the terminal
        return 1
    except PerdureError as error:
        print(f"{title} did not start: {error.message}", file=sys.stderr)  # noqa: T201  # for the terminal
        return 1
    return 0
