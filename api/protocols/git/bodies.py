"""The body of a git request as a stream: inflated, bounded, and aware of a client that goes away."""

import asyncio
import zlib
from collections.abc import Iterator

from starlette.requests import Request
from starlette.types import Receive

from domain.errors import InvalidInput, TooLarge

STALL_SECONDS = 600.0
"""A client that neither sends nor reads for so long is given up."""
INFLATED_PIECE_SIZE_BYTES = 1024**2
_GZIP = 16 + zlib.MAX_WBITS


class ClientGone(Exception):
    """The client closed its connection, or stalled for ``STALL_SECONDS``; there is nobody to answer."""


class RequestBody:
    """Reads the body once, piece by piece; the server asks the client for more only when a piece was taken.

    Args:
        request: Whose body; nothing is read (and no ``100 Continue`` sent) before the first piece is asked for.
        size_bytes_max: After inflating.
    """

    def __init__(self, request: Request, *, size_bytes_max: int) -> None:
        self._receive: Receive = request.receive
        self._size_bytes_max = size_bytes_max
        self._inflated_bytes = 0
        self._ended = False
        self._inflating: Iterator[bytes] = iter(())
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise InvalidInput(f"A body encoded as {encoding[:40]!r} is not understood here; send it plain or as gzip.")
        self._inflater = None if encoding == "identity" else zlib.decompressobj(_GZIP)

    async def next_piece(self) -> bytes:
        """The next bytes, at most 1 MiB where they were compressed; empty at the end.

        Raises:
            ClientGone: The body will never be complete.
            InvalidInput: Not the gzip that it was announced as.
            TooLarge: More than the limit.
        """
        while True:
            piece = next(self._inflating, None)
            if piece is not None:
                self._inflated_bytes += len(piece)
                if self._inflated_bytes > self._size_bytes_max:
                    raise TooLarge(f"The request is longer than the limit of {self._size_bytes_max} bytes.")
                return piece
            if self._ended:
                break
            self._inflating = self._inflate(await self._next())
        if self._inflater is not None and not self._inflater.eof:
            raise InvalidInput("The gzip body ends too early; nothing was changed. Try again.")
        return b""

    async def drain(self) -> None:
        """Reads what is left and drops it, so that the client, who may read only after writing, gets its answer."""
        while not self._ended:
            await self._next()

    async def until_gone(self) -> None:
        """Waits until the client closes its connection; to be called when the body has ended."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise ClientGone from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    def _inflate(self, raw: bytes) -> Iterator[bytes]:
        """In bounded pieces, one at a time, so that a bomb never lies in memory."""
        if self._inflater is None:
            if raw:
                yield raw
            return
        while True:
            try:
                piece = self._inflater.decompress(raw, INFLATED_PIECE_SIZE_BYTES)
            except zlib.error as error:
                raise InvalidInput("The body is not the gzip that it was announced as; nothing was changed.") from error
            if piece:
                yield piece
            raw = self._inflater.unconsumed_tail
            if not raw and len(piece) < INFLATED_PIECE_SIZE_BYTES:
                return
