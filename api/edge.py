"""The outermost layer, in plain ASGI: request ids, body limits, security headers, metrics, the last catch.

Plain ASGI because git's bodies stream through it: a middleware that buffers or copies would cost memory and time.
"""

import re
import time

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import answer, unexpected
from api.metrics import Metrics
from api.requests import assign_request_id
from domain.errors import NotFound, TooLarge

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_HTML_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

# Not even PostgreSQL can look for it.
_NOTHING_THERE = NotFound("There is nothing at an address that holds a NUL character (%00).")

# git's own bodies are bounded where they are read (adapters/repositories), and may be gigabytes.
_GIT_PATH = re.compile(r"/[^/]+/[^/]+\.git/")


class Edge:
    """Wraps the application.

    Args:
        app: What is wrapped.
        metrics: Where requests are counted.
        body_size_bytes_max: The limit for every body that is not git's.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, body_size_bytes_max: int) -> None:
        self._app = app
        self._metrics = metrics
        self._body_size_bytes_max = body_size_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = assign_request_id(scope).encode()
        started_at = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_headers(list(message.get("headers", ())), request_id)
            await send(message)

        self._metrics.in_flight += 1
        try:
            if "\0" in scope["path"]:
                await answer(HTTPConnection(scope), _NOTHING_THERE)(scope, receive, send_with_headers)
                return
            if scope["method"] not in ("GET", "HEAD") and not _GIT_PATH.match(scope["path"]):
                receive = self._limited(scope, receive)
            await self._app(scope, receive, send_with_headers)
        except _BodyTooLarge as error:
            # Reached only from code that reads its body outside of the framework's own error handling.
            await answer(HTTPConnection(scope), TooLarge(error.detail))(scope, receive, send_with_headers)
        except Exception as error:
            response = unexpected(HTTPConnection(scope), error)
            if status:
                # The head is out already: only closing the connection tells the client that this is not the end.
                raise
            await response(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight -= 1
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(route, scope["method"], status, time.perf_counter() - started_at)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that refuses a body over the limit, by its announced length or by counting."""
        size_bytes_max = self._body_size_bytes_max
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        size_bytes = int(announced) if announced.isdigit() else 0
        too_large = size_bytes > size_bytes_max
        received_bytes = 0

        async def limited() -> Message:
            nonlocal received_bytes
            if too_large:
                raise _BodyTooLarge(size_bytes_max)
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > size_bytes_max:
                raise _BodyTooLarge(size_bytes_max)
            return message

        return limited


class _BodyTooLarge(HTTPException):
    def __init__(self, size_bytes_max: int) -> None:
        super().__init__(413, f"The body is larger than the limit of {size_bytes_max} bytes; nothing was kept.")


def _with_headers(headers: list[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    headers.append((b"x-request-id", request_id))
    html = sniffed = stored = False
    for name, value in headers:
        if name == b"content-type":
            html = value.startswith(b"text/html")
        elif name == b"x-content-type-options":
            sniffed = True
        elif name == b"cache-control":
            stored = True
    if not sniffed:
        headers.append((b"x-content-type-options", b"nosniff"))
    if html:
        headers.extend(_HTML_HEADERS)
        if not stored:
            headers.append((b"cache-control", b"no-store"))
    return headers
