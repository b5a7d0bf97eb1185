"""Moves bytes between a client and a git process, both ways at once, with back-pressure and bounded memory."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from adapters.repositories.base import GitStream
from api.protocols.git.bodies import ClientGone, RequestBody
from domain.errors import PerdureError


async def relay(
    process: GitStream, body: RequestBody, take: Callable[[bytes], Awaitable[None]], *, before: bytes = b""
) -> int:
    """Feeds the body to git and git's output to ``take`` until git has ended.

    Args:
        before: What was read from the body already.

    Returns:
        Git's exit code.

    Raises:
        ClientGone: The client went away; git was told to end.
        PerdureError: The body is malformed or too long; git was told to end.
    """
    feeding = asyncio.create_task(_feed(process, body, before))
    try:
        while data := await process.read():
            await take(data)
        code = await process.wait()
        if feeding.done():
            feeding.result()
        return code
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError, ClientGone, PerdureError):
            await feeding


async def _feed(process: GitStream, body: RequestBody, before: bytes) -> None:
    """Ends by being cancelled, or with the reason for which git was told to end."""
    try:
        listening = not before or await process.write(before)
        if listening:
            while listening and (piece := await body.next_piece()):
                listening = await process.write(piece)
        if not listening:
            # Git has seen enough, for instance a pack that is none; what it says about that comes by the other way.
            await body.drain()
        process.close_input()
        await body.until_gone()
        raise ClientGone
    except (ClientGone, PerdureError):
        process.terminate()
        raise
