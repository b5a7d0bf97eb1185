"""Payloads as they lie in a history: compressed, encrypted, and where they are large only referred to.

What a worker or the API hands to Temporal becomes one of two payloads, told apart by their ``encoding``:

``binary/perdure-encrypted``
    ``nonce (12) || AES-256-GCM(flag (1) || body)``: the flag says whether the body was compressed with zlib, the body
    is the original payload (its metadata included) as protobuf. The metadata ``perdure-key-id`` names the key; it and
    the format's name are authenticated (NIST SP 800-38D), so neither can be exchanged for another.
``binary/perdure-reference``
    JSON ``{"key", "sha256", "size_bytes", "key_id"}``: the ciphertext lies in the object store (claim check), because
    it is above ``REFERENCE_ABOVE_BYTES`` and a payload above 2 MB would not be taken by the server at all.

Keys rotate without downtime: every process knows all keys, one of them writes. A key may be removed once no history
that was written with it is kept any more.
"""

import asyncio
import base64
import binascii
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from domain.errors import InvalidInput, PerdureError

ENCRYPTED: Final = b"binary/perdure-encrypted"
REFERENCE: Final = b"binary/perdure-reference"
KEY_ID: Final = "perdure-key-id"

KEY_SIZE_BYTES = 32
NONCE_SIZE_BYTES = 12
COMPRESS_ABOVE_BYTES = 512
"""Below this, zlib costs more time than the bytes are worth."""
REFERENCE_ABOVE_BYTES = 64 * 1024
"""Above this a payload travels by reference: a history holds at most 50 MB over its whole life."""
PAYLOAD_PREFIX = "payloads/"

_PLAIN: Final = b"\x00"
_ZLIB: Final = b"\x01"
_FORMAT: Final = b"perdure-payload-1\x00"


class PayloadUnreadable(PerdureError):
    """A payload of a history cannot be read here; the message says which key or object is missing."""

    code = "payload_unreadable"
    title = "A payload cannot be read"


class PayloadStore(Protocol):
    """Where large payloads lie; ``adapters.objects.base.Objects`` is one."""

    async def put(self, key: str, data: bytes) -> object:
        """Stores ``data`` durably under ``key``."""
        ...

    async def get(self, key: str) -> bytes:
        """Reads what was stored."""
        ...


class PayloadReference(BaseModel):
    """What stands in the history in place of a large payload."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str
    size_bytes: int
    key_id: str


class PayloadKeys:
    """The keys that payloads are encrypted with, by id; one of them writes.

    Args:
        keys: Key id to base64 of 32 bytes.
        writing_key_id: The one that new payloads are encrypted with.

    Raises:
        domain.errors.InvalidInput: A key is malformed or the writing key is not among them; names the id, never the
            key.
    """

    def __init__(self, keys: Mapping[str, str], writing_key_id: str) -> None:
        self._ciphers = {key_id: AESGCM(_key_bytes(key_id, text)) for key_id, text in keys.items()}
        if writing_key_id not in self._ciphers:
            raise InvalidInput(
                f"The payload key {writing_key_id!r} shall write but is not among the keys {sorted(keys)}. "
                "Add it to temporal.payload_keys or name another in temporal.payload_key_id."
            )
        self.writing_key_id = writing_key_id

    def encrypt(self, data: bytes) -> bytes:
        """``nonce || ciphertext`` under the writing key."""
        nonce = os.urandom(NONCE_SIZE_BYTES)
        return nonce + self._ciphers[self.writing_key_id].encrypt(nonce, data, _FORMAT + self.writing_key_id.encode())

    def decrypt(self, key_id: str, data: bytes) -> bytes:
        """The reverse.

        Raises:
            PayloadUnreadable: The key is not known here, or these bytes were not written with it.
        """
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise PayloadUnreadable(
                f"A payload was encrypted with the key {key_id!r}, which this process does not have "
                f"(it has {', '.join(sorted(self._ciphers))}). Add the key to temporal.payload_keys and try again.",
                details={"key_id": key_id},
            )
        try:
            return cipher.decrypt(data[:NONCE_SIZE_BYTES], data[NONCE_SIZE_BYTES:], _FORMAT + key_id.encode())
        except InvalidTag:
            raise PayloadUnreadable(
                f"A payload that names the key {key_id!r} was changed, or was written with another key of that name.",
                details={"key_id": key_id},
            ) from None


def _key_bytes(key_id: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_SIZE_BYTES:
        raise InvalidInput(f"The payload key {key_id!r} is not the base64 of {KEY_SIZE_BYTES} bytes.")
    return key


class EncryptedPayloads(PayloadCodec):
    """The codec of every client and worker of ours. See the module's docstring for the format.

    Args:
        keys: What to encrypt with and what can be read.
        store: Where payloads above ``REFERENCE_ABOVE_BYTES`` go.
    """

    def __init__(self, keys: PayloadKeys, store: PayloadStore) -> None:
        self._keys = keys
        self._store = store

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypts each payload.

        Raises:
            domain.errors.Unavailable: A large one could not be stored.
        """
        return [await self._encode(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Reads each payload; those that we did not write are handed on as they are.

        Raises:
            PayloadUnreadable: A key or a referred object is missing or does not fit.
            domain.errors.Unavailable: The store of large ones does not answer.
        """
        return [await self._decode(payload) for payload in payloads]

    async def _encode(self, payload: Payload) -> Payload:
        data = self._keys.encrypt(_packed(payload.SerializeToString()))
        key_id = self._keys.writing_key_id
        if len(data) <= REFERENCE_ABOVE_BYTES:
            return Payload(metadata={"encoding": ENCRYPTED, KEY_ID: key_id.encode()}, data=data)
        digest = sha256(data).hexdigest()
        # The day leads, so that objects older than every kept history can be found by listing.
        key = f"{PAYLOAD_PREFIX}{datetime.now(UTC):%Y-%m-%d}/{digest}"
        await self._store.put(key, data)
        reference = PayloadReference(key=key, sha256=digest, size_bytes=len(data), key_id=key_id)
        return Payload(metadata={"encoding": REFERENCE}, data=reference.model_dump_json().encode())

    async def _decode(self, payload: Payload) -> Payload:
        encoding = payload.metadata.get("encoding")
        if encoding == ENCRYPTED:
            key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
            return _unpacked(self._keys.decrypt(key_id, payload.data))
        if encoding == REFERENCE:
            return await self._fetch(payload)
        return payload

    async def _fetch(self, payload: Payload) -> Payload:
        try:
            reference = PayloadReference.model_validate_json(payload.data)
        except ValidationError as error:
            raise PayloadUnreadable("A payload refers to the object store in a way that is not ours.") from error
        if not reference.key.startswith(PAYLOAD_PREFIX):
            # Whoever can write a history must not be able to read logs and artifacts through it.
            raise PayloadUnreadable(f"A payload refers to {reference.key!r}, which is not a payload.")
        data = await self._store.get(reference.key)
        if sha256(data).hexdigest() != reference.sha256:
            raise PayloadUnreadable(f"The object {reference.key!r} is not the payload that was stored there.")
        return await asyncio.to_thread(lambda: _unpacked(self._keys.decrypt(reference.key_id, data)))


def _packed(body: bytes) -> bytes:
    if len(body) > COMPRESS_ABOVE_BYTES:
        compressed = zlib.compress(body, level=1)
        if len(compressed) < len(body):
            return _ZLIB + compressed
    return _PLAIN + body


def _unpacked(data: bytes) -> Payload:
    flag, body = data[:1], data[1:]
    return Payload.FromString(zlib.decompress(body) if flag == _ZLIB else body)
