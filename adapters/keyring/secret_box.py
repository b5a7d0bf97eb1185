"""Secrets at rest in our tables: AES-256-GCM under a key that is derived from the installation's secret key.

A sealed secret is ``key id (4 bytes) || nonce (12) || ciphertext and tag`` (NIST SP 800-38D). What it is and whose is
authenticated with it, so that nobody who can write to a table turns one row's secret into another's. The key id is
derived like the key itself (HKDF, RFC 5869), so a secret of another installation, or of a key that was replaced, is
told from one that was damaged.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.errors import PerdureError

KEY_ID_SIZE_BYTES = 4
NONCE_SIZE_BYTES = 12


class SecretUnreadable(PerdureError):
    """A sealed secret cannot be opened; the message says why."""

    code = "secret_unreadable"
    title = "A stored secret cannot be read"
    retryable = False


def derived_key(secret_key: bytes, purpose: str, size_bytes: int = 32) -> bytes:
    """A key for one purpose; two purposes' keys tell nothing of one another."""
    return HKDF(SHA256(), size_bytes, salt=None, info=f"perdure/{purpose}".encode()).derive(secret_key)


class SecretBox:
    """Seals and opens secrets.

    Args:
        secret_key: The installation's; it seals.
        retired: Secret keys of before, which only open.
    """

    def __init__(self, secret_key: bytes, retired: Sequence[bytes] = ()) -> None:
        self._key_id = _key_id(secret_key)
        self._ciphers = {_key_id(key): AESGCM(derived_key(key, "secrets")) for key in (*retired, secret_key)}

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypts ``secret``; ``context`` says what it is and whose, and must be the same to open it."""
        nonce = os.urandom(NONCE_SIZE_BYTES)
        return self._key_id + nonce + self._ciphers[self._key_id].encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The reverse.

        Raises:
            SecretUnreadable: Sealed with a key that is not known here, or for another context, or damaged.
        """
        key_id, rest = sealed[:KEY_ID_SIZE_BYTES], sealed[KEY_ID_SIZE_BYTES:]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretUnreadable(
                f"A stored secret was sealed with the key {key_id.hex()}, which is not derived from the present "
                "api.secret_key. Add the old key to api.retired_secret_keys and try again; nothing was changed."
            )
        try:
            return cipher.decrypt(rest[:NONCE_SIZE_BYTES], rest[NONCE_SIZE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                "A stored secret was damaged, or moved to a row that it does not belong to; nothing was changed."
            ) from None


def _key_id(secret_key: bytes) -> bytes:
    return derived_key(secret_key, "secrets/key-id", KEY_ID_SIZE_BYTES)


def mac(secret_key: bytes, purpose: str, data: bytes) -> bytes:
    """HMAC-SHA-256 of ``data`` under the key of one purpose."""
    return hmac.new(derived_key(secret_key, purpose), data, hashlib.sha256).digest()
