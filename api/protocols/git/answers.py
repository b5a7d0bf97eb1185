"""Answers as git reads them: never cached, errors as plain text (git shows nothing else of an error's body)."""

import asyncio
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Send

from api.protocols.git.bodies import STALL_SECONDS, ClientGone
from domain.errors import PerdureError, TooManyRequests, Unauthenticated, Unavailable

_NEVER_CACHED = {
    "cache-control": "no-cache, max-age=0, must-revalidate",
    "expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "pragma": "no-cache",
}


def in_plain_text(error: PerdureError, request_id: str) -> Response:
    """The refusal or failure of a git request: the same status and message as elsewhere, in the form git shows."""
    headers = dict(_NEVER_CACHED)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = 'Basic realm="Perdure", charset="UTF-8"'
    if isinstance(error, TooManyRequests | Unavailable):
        headers["retry-after"] = str(error.retry_after_seconds)
    hidden = error.status == HTTPStatus.INTERNAL_SERVER_ERROR
    text = f"{error.title}; the server's log tells more (request {request_id})." if hidden else error.message
    return Response(f"{text}\n", status_code=error.status, headers=headers, media_type="text/plain")


class Answer:
    """An answer whose head is sent with its first piece, so that until then an error can still be told properly."""

    def __init__(self, send: Send, *, media_type: str) -> None:
        self._send = send
        self._headers = [(name.encode(), value.encode()) for name, value in _NEVER_CACHED.items()]
        self._headers.append((b"content-type", media_type.encode()))
        self.started = False

    async def piece(self, data: bytes) -> None:
        """Sends some bytes and waits while the client is slow.

        Raises:
            ClientGone: It read nothing for ``STALL_SECONDS``.
        """
        if data:
            await self._body(data, more=True)

    async def end(self, data: bytes = b"") -> None:
        """Sends the last bytes."""
        await self._body(data, more=False)

    async def _body(self, data: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                if not self.started:
                    self.started = True
                    await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise ClientGone from None
