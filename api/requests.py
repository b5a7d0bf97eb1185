"""Facts about a request that several parts need: its id, where it came from, what kind of answer it wants."""

import re
import secrets
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from starlette.requests import HTTPConnection

from domain.actors import Origin

USER_AGENT_LENGTH_MAX = 400
_SCOPE_KEY = "perdure.request_id"
_SCOPE_CREDENTIAL = "perdure.credential"
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}\Z")
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?\Z"
)

Scope = Any
"""An ASGI scope: a mutable mapping of the server's making."""


def assign_request_id(scope: Scope) -> str:
    """Gives the request its id: the one in ``X-Request-Id`` if that is 8 to 64 plain characters, else a new one."""
    request_id = secrets.token_hex(12)
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.match(value):
            request_id = value.decode("ascii")
    scope[_SCOPE_KEY] = request_id
    return request_id


def request_id_of(scope: Scope) -> str:
    """The id that the request was given."""
    request_id: str = scope.get(_SCOPE_KEY, "")
    return request_id


def note_credential(scope: Scope, credential_id: str) -> None:
    """Notes that the request's credential is good, and which token or session it is; for rate limits."""
    scope[_SCOPE_CREDENTIAL] = credential_id


def credential_in(scope: Scope) -> str | None:
    """What ``note_credential`` noted."""
    found: str | None = scope.get(_SCOPE_CREDENTIAL)
    return found


def origin_of(connection: HTTPConnection) -> Origin:
    """Where the request came from, for the actor and the audit log."""
    client = connection.scope.get("client")
    agent = connection.headers.get("user-agent")
    return Origin(
        ip=client[0] if client and _is_ip(client[0]) else None,
        user_agent=agent[:USER_AGENT_LENGTH_MAX] if agent else None,
        request_id=request_id_of(connection.scope) or None,
        trace_id=trace_id_of(connection.headers.get("traceparent")),
    )


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace that a ``traceparent`` header names (W3C Trace Context, 3.2); ``None`` if it is not valid."""
    found = _TRACEPARENT.match(traceparent) if traceparent else None
    if found is None or found["version"] == "ff" or set(found["trace"]) == {"0"} or set(found["span"]) == {"0"}:
        return None
    # Version 00 ends after the flags; later ones may go on after a dash.
    if found["version"] == "00" and found["more"]:
        return None
    return found["trace"]


@lru_cache(maxsize=1024)
def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def wants_html(connection: HTTPConnection) -> bool:
    """Whether a person with a browser asks: not the API, and HTML is accepted by name."""
    return not connection.url.path.startswith("/api/") and "text/html" in connection.headers.get("accept", "")


def login_url(connection: HTTPConnection) -> str:
    """The login page that leads back to the page asked for."""
    return f"/login?next={_here(connection)}"


def proof_url(connection: HTTPConnection) -> str:
    """The page that asks who it is once more, and then leads back to what was asked for."""
    return f"/me/proof?next={_here(connection)}"


def _here(connection: HTTPConnection) -> str:
    query = f"?{connection.url.query}" if connection.url.query else ""
    return quote(connection.url.path + query, safe="")
