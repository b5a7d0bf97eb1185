"""Our own signing keys: made, kept sealed, and used to sign JWTs (RFC 7519) that others verify by our key set.

RSA keys have 3,072 bits (as strong as AES-128, NIST SP 800-57); EdDSA is Ed25519 (RFC 8037). A key's id is its
thumbprint (RFC 7638), so two keys never share one.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from joserfc.jwk import OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from domain.access.signing import ALGORITHMS

RSA_BITS = 3072


class Box(Protocol):
    """Seals secrets; ``adapters.keyring.secret_box.SecretBox`` is one."""

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypts ``secret`` for ``context``."""
        ...

    def open(self, sealed: bytes, context: str) -> bytes:
        """The reverse."""
        ...


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key, ready to be stored.

    Attributes:
        private_key: Sealed.
        public_jwk: What the key set shows.
    """

    kid: str
    algorithm: str
    private_key: bytes = field(repr=False)
    public_jwk: dict[str, Any]


class _Registry(JWSRegistry):
    """Our two algorithms, without joserfc's warning that EdDSA has a newer name (RFC 9864) that few know yet."""

    def __init__(self) -> None:
        super().__init__(algorithms=list(ALGORITHMS))

    def get_alg(self, name: str) -> Any:  # noqa: ANN401  # joserfc does not export the type
        return self.algorithms[name]


_REGISTRY = _Registry()


class Keyring:
    """Makes keys and signs with them.

    Args:
        box: Seals private keys at rest.
    """

    def __init__(self, box: Box) -> None:
        self._box = box

    async def make(self, algorithm: str) -> MadeKey:
        """A new key of one of ``ALGORITHMS``; in a thread, because an RSA key takes some tenths of a second."""
        return await asyncio.to_thread(self._make, algorithm)

    def _make(self, algorithm: str) -> MadeKey:
        key: RSAKey | OKPKey
        key = RSAKey.generate_key(RSA_BITS) if algorithm == "RS256" else OKPKey.generate_key("Ed25519")
        kid = key.thumbprint()
        private = json.dumps(key.as_dict(private=True)).encode()
        public = {**key.as_dict(private=False), "kid": kid, "alg": algorithm, "use": "sig"}
        return MadeKey(kid, algorithm, self._box.seal(private, _context(kid)), public)

    async def sign(self, kid: str, algorithm: str, sealed: bytes, claims: Mapping[str, object]) -> str:
        """A JWT of these claims.

        Raises:
            domain.errors.PerdureError: The key cannot be opened with the secrets of this installation.
        """
        return await asyncio.to_thread(self._sign, kid, algorithm, sealed, claims)

    def _sign(self, kid: str, algorithm: str, sealed: bytes, claims: Mapping[str, object]) -> str:
        private = json.loads(self._box.open(sealed, _context(kid)))
        key = RSAKey.import_key(private) if algorithm == "RS256" else OKPKey.import_key(private)
        header = {"alg": algorithm, "kid": kid, "typ": "JWT"}
        payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode()
        return serialize_compact(header, payload, key, registry=_REGISTRY)


def _context(kid: str) -> str:
    return f"signing-key/{kid}"
