"""Signatures of other issuers: their key sets (RFC 7517), and JWTs checked against them (RFC 7519, RFC 8725).

joserfc does the cryptography. Which algorithms are acceptable is said here and never by the token: asymmetric ones
only, so ``none`` and a public key used as an HMAC secret are out before a key is looked at.
"""

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, deserialize_compact

from domain.access.claims import UntrustedToken
from domain.errors import Unavailable

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
TOKEN_LENGTH_MAX = 16 * 1024
KEYS_MAX = 100
RSA_BITS_MIN = 2048
REFETCH_SECONDS_MIN = 30.0
"""Between two fetches that an unknown key id or a failure leads to: nobody makes us ask an issuer more often."""
RETRY_SECONDS_MIN = 3.0
"""Between two fetches while there is no key at all."""
FRESH_SECONDS = 3600.0
"""So long a key set is used without asking for news."""
STALE_SECONDS_MAX = 86400.0
"""So long it is used while its issuer does not answer."""

_KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_KIND_OF_ALGORITHM = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class _Registry(JWSRegistry):
    """The algorithms above, without joserfc's warning that EdDSA has a newer name (RFC 9864): issuers still use it."""

    max_header_length = 4096
    max_payload_length = TOKEN_LENGTH_MAX

    def __init__(self) -> None:
        super().__init__(algorithms=sorted(ALGORITHMS), strict_check_header=False)

    def get_alg(self, name: str) -> Any:  # noqa: ANN401  # joserfc does not export the type
        return self.algorithms[name]


_REGISTRY = _Registry()


class KeySet:
    """The public keys of one issuer, fetched when first needed and again when a key id is unknown.

    Args:
        fetch: Brings the JWK Set; raises ``domain.errors.Unavailable``.
        clock: Monotonic seconds.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Mapping[str, Any]]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[tuple[str | None, Key]] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failure: Unavailable | None = None
        self._lock = asyncio.Lock()

    async def key_for(self, header: Mapping[str, Any]) -> Key:
        """The key that a token of this header was signed with.

        Raises:
            UntrustedToken: The issuer has no such key, also after asking it anew.
            domain.errors.Unavailable: The issuer does not answer and was not asked lately with success.
        """
        if self._age() > FRESH_SECONDS:
            await self._renew(needed=self._age() > STALE_SECONDS_MAX)
        key = self._find(header)
        if key is None:
            await self._renew(needed=False)
            key = self._find(header)
        if key is None:
            raise UntrustedToken("it is signed with a key that its issuer does not publish")
        return key

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    async def _renew(self, *, needed: bool) -> None:
        """Fetches, unless that was done or tried a moment ago; one at a time."""
        asked_at = self._clock()
        async with self._lock:
            if self._fetched_at is not None and self._fetched_at >= asked_at:
                return
            waited = float("inf") if self._tried_at is None else self._clock() - self._tried_at
            if needed and self._failure is not None and waited < RETRY_SECONDS_MIN:
                raise self._failure
            if not needed and waited < REFETCH_SECONDS_MIN:
                return
            self._tried_at = self._clock()
            try:
                self._keys = usable_keys(await self._fetch())
            except Unavailable as error:
                self._failure = error
                if needed:
                    raise
                return
            self._fetched_at, self._failure = self._clock(), None

    def _find(self, header: Mapping[str, Any]) -> Key | None:
        algorithm, kid = header["alg"], header.get("kid")
        fitting = [
            (known, key)
            for known, key in self._keys
            if key.key_type == _KIND_OF_ALGORITHM[algorithm[:2]] and key.alg in (None, algorithm)
        ]
        if kid is None:
            # Without an id there must be no choice.
            return fitting[0][1] if len(fitting) == 1 else None
        return next((key for known, key in fitting if known == kid), None)


def usable_keys(jwks: Mapping[str, Any]) -> list[tuple[str | None, Key]]:
    """The public keys for signatures in a JWK Set; others, and what is malformed or weak, are left out."""
    listed = jwks.get("keys")
    found: list[tuple[str | None, Key]] = []
    for jwk in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        if (
            not isinstance(jwk, dict)
            or jwk.get("use", "sig") != "sig"
            or "verify" not in jwk.get("key_ops", ["verify"])
        ):
            continue
        kind = _KINDS.get(str(jwk.get("kty")))
        if kind is None or (kind is RSAKey and _modulus_bits(jwk) < RSA_BITS_MIN):
            continue
        # Only what makes a public key: a set that leaks private parts is used like any other.
        public = {name: jwk[name] for name in ("kty", "kid", "alg", "n", "e", "crv", "x", "y") if name in jwk}
        try:
            key = kind.import_key(public)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        found.append((key.kid, key))
    return found


def _modulus_bits(jwk: Mapping[str, Any]) -> int:
    try:
        return int.from_bytes(_decoded(str(jwk.get("n", "")))).bit_length()
    except ValueError:
        return 0


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def header_of(token: str) -> dict[str, Any]:
    """The unverified header of a JWT, for finding the key; its algorithm is one of ``ALGORITHMS``.

    Raises:
        UntrustedToken: It is no JWT, or its algorithm is not acceptable.
    """
    header = _part(token, 0)
    if header.get("alg") not in ALGORITHMS:
        raise UntrustedToken(f"its algorithm {str(header.get('alg'))[:20]!r} is not accepted")
    if not isinstance(header.get("kid", ""), str) or "crit" in header:
        raise UntrustedToken("its header is not understood")
    return header


def claims_unverified(token: str) -> dict[str, Any]:
    """The claims before anything is checked: only for finding out whose keys to check with.

    Raises:
        UntrustedToken: It is no JWT.
    """
    return _part(token, 1)


def _part(token: str, index: int) -> dict[str, Any]:
    parts = token.split(".")
    if len(token) > TOKEN_LENGTH_MAX or len(parts) != 3 or not token.isascii():  # noqa: PLR2004  # header, claims, signature
        raise UntrustedToken("it is not a signed JWT")
    try:
        value = json.loads(_decoded(parts[index]))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UntrustedToken("it is not a signed JWT")
    return value


async def verified_claims(token: str, keys: KeySet) -> dict[str, Any]:
    """The claims of a token whose signature is right. Nothing of them is checked yet.

    Raises:
        UntrustedToken: It is malformed, or not signed by a key of the set.
        domain.errors.Unavailable: The key set cannot be had.
    """
    header = header_of(token)
    key = await keys.key_for(header)
    try:
        payload = deserialize_compact(token, key, registry=_REGISTRY).payload
        claims = json.loads(payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise UntrustedToken("its signature is not right") from error
    if not isinstance(claims, dict):
        raise UntrustedToken("it has no claims")
    return claims
