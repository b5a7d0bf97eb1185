"""Bearer tokens of other issuers: signed JWTs, verified here without asking anybody (RFC 7519, RFC 8725, RFC 9068)."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from adapters.identity_providers.base import IssuerSettings
from adapters.identity_providers.discovery import Discovery
from adapters.identity_providers.outbound import Outbound
from adapters.identity_providers.verifying import claims_unverified, header_of, verified_claims
from domain.access.claims import SUBJECT_LENGTH_MAX, Expected, UntrustedToken, check_claims

ACTORS_MAX = 8
_TYPES = ("jwt", "at+jwt", "application/at+jwt")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Who a token speaks of, and for what it is good.

    Attributes:
        issuer: Of the token; its subject and its actors are known to it by the names that follow.
        subject: Whose rights it gives.
        actors: Who acts with them (RFC 8693, ``act``), the present one first; empty for the subject itself.
        scopes: The permissions, by the names of this platform and others, that it is narrowed to.
        expires_at: When it ends.
    """

    issuer: str
    subject: str
    actors: tuple[str, ...]
    scopes: frozenset[str]
    expires_at: datetime


class TokenIssuers:
    """The issuers that the operator trusts to say who calls the API.

    Args:
        issuers: No two of the same address.
        clock: Monotonic seconds, for how long keys are kept.
    """

    def __init__(self, issuers: Iterable[IssuerSettings] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuers: dict[str, tuple[IssuerSettings, Discovery]] = {}
        self._outbound: list[Outbound] = []
        for one in issuers:
            outbound = Outbound(
                f"the token issuer {one.name}", {urlsplit(one.issuer).hostname or "", *one.internal_hosts}
            )
            self._outbound.append(outbound)
            self._issuers[one.issuer] = one, Discovery(outbound, one.issuer, jwks_uri=one.jwks_uri, clock=clock)

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return bool(self._issuers)

    @property
    def names(self) -> frozenset[str]:
        """Their addresses, as the settings write them."""
        return frozenset(self._issuers)

    async def verify(self, token: str) -> VerifiedToken:
        """Checks a token.

        Raises:
            UntrustedToken: It is malformed, not signed by its issuer, for somebody else, or not good now.
            domain.errors.Unavailable: The keys of its issuer were never read and cannot be read now.
        """
        issuer = claims_unverified(token).get("iss")
        known = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if known is None:
            raise UntrustedToken("its issuer is not one that this platform trusts")
        settings, discovery = known
        kind = header_of(token).get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise UntrustedToken(f"it is of the type {str(kind)[:40]!r}, which is no access token")
        claims = await verified_claims(token, discovery.keys)
        expected = Expected(settings.issuer, settings.audience, lifetime_max=settings.lifetime_max)
        subject = check_claims(claims, expected, datetime.now(UTC))
        return VerifiedToken(
            issuer=settings.issuer,
            subject=subject,
            actors=_actors(claims, settings.issuer),
            scopes=_scopes(claims, settings),
            expires_at=datetime.fromtimestamp(float(claims["exp"]), UTC),
        )

    async def close(self) -> None:
        """Lets go of connections."""
        for outbound in self._outbound:
            await outbound.close()


def _scopes(claims: Mapping[str, Any], settings: IssuerSettings) -> frozenset[str]:
    if settings.scope_claim not in claims:
        return settings.scopes_without_claim
    value = claims[settings.scope_claim]
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(one for one in value if isinstance(one, str))
    raise UntrustedToken(f"its {settings.scope_claim} is neither a text nor a list")


def _actors(claims: Mapping[str, Any], issuer: str) -> tuple[str, ...]:
    """The chain of ``act``. An issuer speaks for its own identities only: it cannot say that somebody else's acted."""
    chain: list[str] = []
    actor = claims.get("act")
    while actor is not None:
        subject = actor.get("sub") if isinstance(actor, Mapping) else None
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH_MAX or len(chain) == ACTORS_MAX:
            raise UntrustedToken("its chain of actors (act) is not understood")
        if actor.get("iss", issuer) != issuer:
            raise UntrustedToken("its chain of actors (act) names one of another issuer")
        chain.append(subject)
        actor = actor.get("act")
    return tuple(chain)
