"""The middleware of rate limits: whom a request counts for, and what it is told about that.

A request with a good credential counts for that token or session alone; every other one counts for its address. A
credential is good when a request with it was found to be (``api/dependencies.py`` says so in the scope): the first
one with each credential counts for its address too, so that making credentials up leads nowhere.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import answer
from api.ratelimit import Limit, RateLimiter, Verdict
from api.requests import credential_in
from domain.access.bans import network_of
from domain.errors import TooManyRequests

UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
UNLIMITED_PREFIX = "/static/"
KNOWN_CREDENTIALS_MAX = 50_000
_UNAUTHENTICATED = 401


class RateLimited(TooManyRequests):
    """More requests than the limit; the ``RateLimit`` headers say which."""

    code = "rate_limited"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits and who counts."""

    limiter: RateLimiter
    credential: Limit
    address: Limit


@dataclass(slots=True)
class _Known:
    """Which credentials were good: a keyed hash of the header to the id of the token or session."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    ids: dict[bytes, str] = field(default_factory=dict)

    def hash(self, scope: Scope) -> bytes | None:
        """Of what the request brings as a credential; ``None`` if it brings none."""
        cookie: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                return hashlib.blake2b(value, digest_size=16, key=self.key).digest()
            if name == b"cookie":
                cookie = value
        return None if cookie is None else hashlib.blake2b(cookie, digest_size=16, key=self.key).digest()

    def add(self, credential: bytes, credential_id: str) -> None:
        self.ids[credential] = credential_id
        if len(self.ids) > KNOWN_CREDENTIALS_MAX:
            del self.ids[next(iter(self.ids))]


class Throttle:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits
        self._known = _Known()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS or scope["path"].startswith(UNLIMITED_PREFIX):
            await self._app(scope, receive, send)
            return
        limits, known = self._limits, self._known
        credential = known.hash(scope)
        credential_id = None if credential is None else known.ids.get(credential)
        if credential_id is None:
            verdict = limits.limiter.spend(limits.address, _address(scope))
        else:
            verdict = limits.limiter.spend(limits.credential, credential_id)
        if not verdict.allowed:
            await answer(HTTPConnection(scope), _refusal(verdict), _headers(verdict))(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = verdict
                if credential is not None:
                    told = self._found_out(scope, credential, credential_id, message["status"]) or verdict
                headers = [(name.encode(), value.encode()) for name, value in _headers(told).items()]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _found_out(self, scope: Scope, credential: bytes, before: str | None, status: int) -> Verdict | None:
        """Remembers whether the credential was good; a verdict for it, if that is news."""
        found = credential_in(scope)
        if found is None:
            if status == _UNAUTHENTICATED:
                self._known.ids.pop(credential, None)
            return None
        if found == before:
            return None
        self._known.add(credential, found)
        return self._limits.limiter.spend(self._limits.credential, found, anyway=True)


def _refusal(verdict: Verdict) -> RateLimited:
    limit = verdict.limit
    whom = "with this credential" if limit.name == "credential" else "from this address without a good credential"
    return RateLimited(
        f"At most {limit.requests} requests in {limit.window_seconds} s are answered {whom}. Nothing was done; come "
        f"back in {verdict.reset_seconds} s.",
        retry_after_seconds=verdict.reset_seconds,
    )


def _headers(verdict: Verdict) -> dict[str, str]:
    return {"ratelimit-policy": verdict.limit.policy, "ratelimit": verdict.state}


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return _network(client[0]) if client else "unknown"


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    try:
        return network_of(host)
    except ValueError:
        return "unknown"
