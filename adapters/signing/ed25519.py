"""Ed25519 (RFC 8032) signatures for the checkpoints of the audit log."""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_SIZE_BYTES = 32


class PublicKey:
    """The key that signatures are checked with.

    Args:
        raw: 32 bytes.

    Raises:
        ValueError: They are no key.
    """

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.raw = raw

    @classmethod
    def from_text(cls, text: str) -> "PublicKey":
        """From what ``text`` gives.

        Raises:
            ValueError: It is something else.
        """
        try:
            raw = base64.b64decode(text.strip(), validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != KEY_SIZE_BYTES:
            raise ValueError("a public key is the base64 of 32 bytes, as `perdure audit key` prints it")
        return cls(raw)

    @property
    def text(self) -> str:
        """Base64 of the 32 bytes."""
        return base64.b64encode(self.raw).decode()

    @property
    def id(self) -> str:
        """Names the key in what it signs: the first 16 hex digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is one of this key for this message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The key that signs.

    Args:
        seed: 32 random bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        """``PublicKey.id``."""
        return self.public.id

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(message)

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """``PublicKey.is_signed``."""
        return self.public.is_signed(message, signature)
