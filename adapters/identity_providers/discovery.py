"""What a provider says of itself (OpenID Connect Discovery 1.0, RFC 8414)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from adapters.identity_providers.outbound import Outbound
from adapters.identity_providers.verifying import KeySet
from domain.errors import Unavailable

FRESH_SECONDS = 3600.0
RETRY_SECONDS_MIN = 3.0
_SUFFIX = "/.well-known/openid-configuration"


class Discovery:
    """The metadata and the keys of one issuer, kept for a while.

    Args:
        issuer: As the operator wrote it; the document must say exactly the same.
        jwks_uri: Where the keys are, if the operator says so; then the document is not needed for them.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        outbound: Outbound,
        issuer: str,
        *,
        jwks_uri: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbound = outbound
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._clock = clock
        self._document: dict[str, Any] | None = None
        self._read_at = 0.0
        self._failed: tuple[float, Unavailable] | None = None
        self._lock = asyncio.Lock()
        self.keys = KeySet(self._jwks, clock=clock)

    async def document(self) -> Mapping[str, Any]:
        """The metadata; an old one is used while the provider does not answer.

        Raises:
            Unavailable: It was never read and cannot be read now, or it belongs to another issuer.
        """
        async with self._lock:
            if self._document is not None and self._clock() - self._read_at < FRESH_SECONDS:
                return self._document
            if self._failed is not None and self._clock() - self._failed[0] < RETRY_SECONDS_MIN:
                return self._known(self._failed[1])
            try:
                self._document = await self._read()
            except Unavailable as error:
                self._failed = self._clock(), error
                return self._known(error)
            self._read_at, self._failed = self._clock(), None
            return self._document

    async def endpoint(self, name: str) -> str:
        """An address of the provider, checked.

        Raises:
            Unavailable: It names none that may be asked.
        """
        return self._outbound.check_address((await self.document()).get(name), name)

    def _known(self, error: Unavailable) -> dict[str, Any]:
        if self._document is None:
            raise error
        return self._document

    async def _read(self) -> dict[str, Any]:
        url = self._outbound.check_address(self._issuer.rstrip("/") + _SUFFIX, "discovery document")
        document = await self._outbound.get_json(url, "discovery document")
        if document.get("issuer") != self._issuer:
            raise self._outbound.away(
                f"its discovery document is that of {str(document.get('issuer'))[:200]!r}, "
                f"but the settings say {self._issuer!r}"
            )
        return document

    async def _jwks(self) -> Mapping[str, Any]:
        if self._jwks_uri:
            url = self._outbound.check_address(self._jwks_uri, "jwks_uri")
        else:
            url = await self.endpoint("jwks_uri")
        return await self._outbound.get_json(url, "key set")
