"""The shape of an API token: ``prd_``, 43 base62 characters (32 random bytes), 6 base62 characters of CRC-32.

The prefix and the checksum make a token recognisable in a log or a push without asking the database, and a mistyped
one is refused without a query. The checksum proves nothing: only the SHA-256 that the database holds does.
"""

import hashlib
import re
from datetime import timedelta
from zlib import crc32

PREFIX = "prd_"
RANDOM_SIZE_BYTES = 32
LIFETIME_DEFAULT = timedelta(days=90)
LIFETIME_MAX = timedelta(days=366)
OVERLAP_DEFAULT = timedelta(hours=24)
"""How long the old secret of a rotated token still works."""
OVERLAP_MAX = timedelta(days=14)

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH = 43
_CHECKSUM_LENGTH = 6
_LENGTH = len(PREFIX) + _BODY_LENGTH + _CHECKSUM_LENGTH

TOKEN_PATTERN = re.compile(rf"\b{PREFIX}[0-9A-Za-z]{{{_BODY_LENGTH + _CHECKSUM_LENGTH}}}\b")
"""Finds what looks like a token in a text; ``is_token`` confirms it."""


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def format_token(random: bytes) -> str:
    """Makes the token of 32 random bytes.

    Raises:
        ValueError: Not exactly 32 bytes.
    """
    if len(random) != RANDOM_SIZE_BYTES:
        raise ValueError(f"a token is made of {RANDOM_SIZE_BYTES} random bytes, not {len(random)}")
    body = PREFIX + _base62(int.from_bytes(random), _BODY_LENGTH)
    return body + _base62(crc32(body.encode()), _CHECKSUM_LENGTH)


def is_token(text: str) -> bool:
    """Whether ``text`` has the shape of a token and its checksum is right."""
    if len(text) != _LENGTH or not text.startswith(PREFIX) or not text.isascii():
        return False
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return _base62(crc32(body.encode()), _CHECKSUM_LENGTH) == checksum


def hash_secret(secret: str) -> str:
    """What the database keeps of a token or of a session cookie: SHA-256 in hex.

    A plain hash is enough because the secret has 256 random bits: there is nothing to guess from.
    """
    return hashlib.sha256(secret.encode()).hexdigest()
