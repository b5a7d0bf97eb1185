"""Work in threads that nobody leaves behind."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def run_in_thread(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """``asyncio.to_thread`` that ends only when the thread has ended, also if it is cancelled meanwhile.

    A thread cannot be stopped. Whoever goes on after a cancellation, to remove what the thread was making, must know
    that it makes no more.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        while not thread.done():
            try:
                await asyncio.wait({thread})
            except asyncio.CancelledError:
                continue
        raise
