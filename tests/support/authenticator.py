"""A passkey in software (WebAuthn, CTAP2): makes keys and signs, well or badly as a test wants it."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40
ES256, EDDSA, RS256, ES256K = -7, -8, -257, -47

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_b64url(text: str) -> bytes:
    """The reverse."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One credential.

    Attributes:
        origin: What the browser says that it is at.
        algorithm: COSE.
        counts: Whether it has a signature counter; many have none.
    """

    origin: str
    algorithm: int = ES256
    counts: bool = True
    verifies: bool = True
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    count: int = 0
    rp_id: str = ""
    user_handle: bytes = b""
    key: Key = field(init=False)

    def __post_init__(self) -> None:
        """Makes the key."""
        if self.algorithm == EDDSA:
            self.key = ed25519.Ed25519PrivateKey.generate()
        elif self.algorithm == RS256:
            self.key = rsa.generate_private_key(65537, 2048)
        else:
            self.key = ec.generate_private_key(ec.SECP256R1() if self.algorithm == ES256 else ec.SECP256K1())

    def create(self, options: dict[str, Any], **wrong: Any) -> dict[str, Any]:  # noqa: ANN401  # handed on to _client_data
        """What ``navigator.credentials.create`` answers; ``wrong`` replaces what the browser would say."""
        self.rp_id = options["rp"]["id"]
        self.user_handle = from_b64url(options["user"]["id"])
        client_data = self._client_data("webauthn.create", options, wrong)
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self._cose()
        attestation = {
            "fmt": wrong.get("fmt", "none"),
            "attStmt": wrong.get("statement", {}),
            "authData": self._authenticator_data(ATTESTED, wrong) + attested,
        }
        response = {"clientDataJSON": b64url(client_data), "attestationObject": b64url(cbor2.dumps(attestation))}
        return self._credential({**response, "transports": ["internal", "carrier-pigeon"]})

    def get(self, options: dict[str, Any], **wrong: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
        """What ``navigator.credentials.get`` answers."""
        client_data = self._client_data("webauthn.get", options, wrong)
        data = self._authenticator_data(0, wrong)
        signature = self._sign(data + hashlib.sha256(client_data).digest())
        if "signature" in wrong:
            signature = wrong["signature"]
        return self._credential(
            {
                "clientDataJSON": b64url(client_data),
                "authenticatorData": b64url(data),
                "signature": b64url(signature),
                "userHandle": b64url(wrong.get("user_handle", self.user_handle)),
            }
        )

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        text = b64url(self.credential_id)
        return {"id": text, "rawId": text, "type": "public-key", "response": response, "clientExtensionResults": {}}

    def _client_data(self, kind: str, options: dict[str, Any], wrong: dict[str, Any]) -> bytes:
        said = {
            "type": wrong.get("type", kind),
            "challenge": wrong.get("challenge", options["challenge"]),
            "origin": wrong.get("origin", self.origin),
            "crossOrigin": wrong.get("cross_origin", False),
        }
        return json.dumps(said).encode()

    def _authenticator_data(self, flags: int, wrong: dict[str, Any]) -> bytes:
        self.count += 1 if self.counts else 0
        flags |= wrong.get("flags", PRESENT | (VERIFIED if self.verifies else 0))
        rp_id_hash = hashlib.sha256(wrong.get("rp_id", self.rp_id).encode()).digest()
        count: int = wrong.get("count", self.count)
        return rp_id_hash + bytes([flags]) + count.to_bytes(4, "big")

    def _cose(self) -> bytes:
        public = self.key.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            return cbor2.dumps({1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()})
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return cbor2.dumps({1: 3, 3: RS256, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")})
        point = public.public_numbers()
        curve = 1 if self.algorithm == ES256 else 8
        x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
        return cbor2.dumps({1: 2, 3: self.algorithm, -1: curve, -2: x, -3: y})

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), SHA256())
        return self.key.sign(data, ec.ECDSA(SHA256()))
