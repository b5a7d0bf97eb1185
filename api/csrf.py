"""Cross-site request forgery: a token bound to the browser session, and the Origin header, on every unsafe request.

Only cookies need this: a request with a Bearer token was made by somebody who has the token.
"""

import hashlib
import hmac
from uuid import UUID

from starlette.requests import Request

from domain.errors import PermissionMissing

FIELD = "csrf_token"
HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def csrf_token(secret_key: bytes, session_id: UUID | str) -> str:
    """The token of a browser session (or of a login page's own cookie): HMAC-SHA-256, so nothing is stored."""
    return hmac.new(secret_key, f"csrf/{session_id}".encode(), hashlib.sha256).hexdigest()


def check_origin(request: Request, public_url: str) -> None:
    """Refuses a request that a page of another origin made.

    The allowed origins are the public address and the one that the request itself names as its host, so that
    ``localhost`` and ``127.0.0.1`` both work.

    Raises:
        PermissionMissing: The Origin header names another origin (code ``cross_origin``).
    """
    origin = request.headers.get("origin")
    if origin is None:
        return
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin not in (public_url, own):
        raise PermissionMissing(
            f"This request was made by a page of {origin[:200]}, not of this platform; nothing was changed.",
            code="cross_origin",
        )


async def check_csrf(request: Request, secret_key: bytes, session_id: UUID | str, public_url: str) -> None:
    """Checks an unsafe request of a browser session: Origin, and the token in ``X-CSRF-Token`` or ``csrf_token``.

    Raises:
        PermissionMissing: One of them is wrong (codes ``cross_origin``, ``csrf_token``).
    """
    check_origin(request, public_url)
    sent = request.headers.get(HEADER)
    if sent is None and "form" in request.headers.get("content-type", ""):
        field = (await request.form()).get(FIELD)
        sent = field if isinstance(field, str) else None
    if sent is None or not hmac.compare_digest(sent.encode(), csrf_token(secret_key, session_id).encode()):
        raise PermissionMissing(
            f"The request lacks the right CSRF token; nothing was changed. Send it in {HEADER} or in the form field "
            f"{FIELD}; GET /api/v1/me and every page have it. Reload the page and try again.",
            code="csrf_token",
        )
