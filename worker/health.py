"""Where the worker says that it is alive: ``GET /healthz`` on a port of its own, 200 or 503, with the reason as JSON.

A dozen lines of HTTP in place of a web framework, because the worker must not import the API and answers one question.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from domain.errors import InvalidInput

REQUEST_SIZE_BYTES_MAX = 8 * 1024
REQUEST_TIMEOUT_SECONDS = 5.0
ALIVE = "alive"
STARTING = "starting"
SILENT = "silent"

Report = Callable[[], dict[str, object]]
"""Says how the worker is; alive if its ``status`` is ``ALIVE``."""


@asynccontextmanager
async def health_endpoint(port: int, report: Report, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serves ``/healthz`` for the duration of the block.

    Args:
        port: 0 picks a free one.

    Yields:
        The port.

    Raises:
        InvalidInput: The port is taken.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                writer.write(_answer(await reader.readuntil(b"\r\n\r\n"), report))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError):
            # Whoever asked went away, or did not speak HTTP; nobody is left to answer.
            return
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=REQUEST_SIZE_BYTES_MAX)
    except OSError as error:
        raise InvalidInput(
            f"The worker's health endpoint cannot listen on {host} port {port}: {error.strerror}. "
            "Stop what holds it, or set worker.health_port."
        ) from error
    async with server:
        yield server.sockets[0].getsockname()[1]


def _answer(request: bytes, report: Report) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/healthz":
        return _response("404 Not Found", {"status": "unknown", "detail": "Only /healthz is served here."})
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", {"status": "unknown", "detail": "Ask with GET."})
    found = {**report(), "pid": os.getpid()}
    status = "200 OK" if found["status"] == ALIVE else "503 Service Unavailable"
    return _response(status, found, with_body=method == b"GET")


def _response(status: str, content: dict[str, object], *, with_body: bool = True) -> bytes:
    body = json.dumps(content).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
