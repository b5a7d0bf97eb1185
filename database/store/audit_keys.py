"""The keys that personal data in the audit log is encrypted with: one per person, so that a person can be erased.

A person's key (AES-256-GCM, NIST SP 800-38D) is made when they first act, kept encrypted in ``audit_person_keys``, and
removed when they are erased: what it encrypted stays in the log as bytes that nobody can read, and every hash still
fits. The key that encrypts the keys, and those of the keyed hashes, come from one secret of the settings.
"""

import base64
import copy
import hmac
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import InvalidInput

SECRET_SIZE_BYTES_MIN = 32
_NONCE_SIZE_BYTES = 12
_CACHE_SECONDS = 300.0
_CACHED_MAX = 20_000


@dataclass(frozen=True, slots=True)
class PersonKey:
    """One person's key, in clear; never leaves the process."""

    raw: bytes

    @classmethod
    def new(cls) -> "PersonKey":
        """A random one."""
        return cls(AESGCM.generate_key(256))

    def seal(self, plaintext: str, *, bound_to: UUID) -> str:
        """Encrypts; the text (base64) opens for the row ``bound_to`` only."""
        nonce = secrets.token_bytes(_NONCE_SIZE_BYTES)
        return base64.b64encode(nonce + AESGCM(self.raw).encrypt(nonce, plaintext.encode(), bound_to.bytes)).decode()

    def open(self, sealed: str, *, bound_to: UUID) -> str | None:
        """What ``seal`` was given; ``None`` where it was another key or another row."""
        try:
            data = base64.b64decode(sealed, validate=True)
            opened = AESGCM(self.raw).decrypt(data[:_NONCE_SIZE_BYTES], data[_NONCE_SIZE_BYTES:], bound_to.bytes)
        except (InvalidTag, ValueError):
            return None
        return opened.decode()


People = Mapping[UUID, PersonKey | None]
"""The keys of some people; ``None`` for those who were erased."""


class AuditKeys:
    """What the audit log is written and read with. One object per process; it remembers the keys of who acts often.

    Args:
        secret: At least 32 random bytes. Whoever loses it loses the personal data in the log, and nothing else.

    Raises:
        InvalidInput: It is too short.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_SIZE_BYTES_MIN:
            raise InvalidInput(f"audit.secret_key must be the base64 of at least {SECRET_SIZE_BYTES_MIN} random bytes.")
        self._wrapping = AESGCM(_derived(secret, b"wrapping of person keys"))
        self._hashing = _derived(secret, b"keyed hashes")
        self._cache: dict[UUID, tuple[float, PersonKey | None]] = {}

    def for_one_database(self) -> "AuditKeys":
        """The same keys with a memory of their own: a person's key is another one in every database."""
        made = copy.copy(self)
        made.forget_all()
        return made

    def forget_all(self) -> None:
        """Drops every person's key from memory."""
        self._cache = {}

    def forget(self, person: UUID) -> None:
        """Drops a person's key from memory; who was erased is written about without one at once."""
        self._cache.pop(person, None)

    def address_hash(self, address: str) -> str:
        """The keyed hash (hex) of an IP address, the same for every way of writing it."""
        try:
            address = ip_address(address).compressed
        except ValueError:
            address = address.strip().lower()
        return self._hash("address", address)

    def email_hash(self, email: str) -> str:
        """The keyed hash (hex) of an e-mail address; upper and lower case are the same."""
        return self._hash("email", email.strip().lower())

    def secret_hash(self, value: str) -> str:
        """The keyed hash (hex) that stands for a secret."""
        return self._hash("secret", value)

    def _hash(self, purpose: str, value: str) -> str:
        return hmac.new(self._hashing, f"{purpose}\0{value}".encode("utf-8", "replace"), sha256).hexdigest()

    def wrap(self, person: UUID, key: PersonKey) -> bytes:
        """A person's key, encrypted for storing."""
        nonce = secrets.token_bytes(_NONCE_SIZE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, key.raw, person.bytes)

    def unwrap(self, person: UUID, wrapped_key: bytes) -> PersonKey:
        """A person's key.

        Raises:
            InvalidInput: It was stored under another secret (code ``audit_secret_key``).
        """
        nonce, body = wrapped_key[:_NONCE_SIZE_BYTES], wrapped_key[_NONCE_SIZE_BYTES:]
        try:
            return PersonKey(self._wrapping.decrypt(nonce, body, person.bytes))
        except InvalidTag:
            raise InvalidInput(
                "The audit log was written with another audit.secret_key than this process has. Nothing was changed; "
                "give every process the secret that the installation began with.",
                code="audit_secret_key",
            ) from None

    def remembered(self, people: Collection[UUID]) -> dict[UUID, PersonKey | None]:
        """The keys of those of them who acted in the last minutes."""
        now = time.monotonic()
        found = {}
        for person in people:
            known = self._cache.get(person)
            if known is not None and now < known[0]:
                found[person] = known[1]
        return found

    def remember(self, people: People) -> None:
        """Keeps keys for a while. Only such as are committed: one that was rolled back would encrypt for nobody."""
        if len(self._cache) + len(people) > _CACHED_MAX:
            self._cache.clear()
        until = time.monotonic() + _CACHE_SECONDS
        self._cache.update((person, (until, key)) for person, key in people.items())


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"perdure audit v1: " + purpose).derive(secret)


async def keys_of(session: AsyncSession, keys: AuditKeys, people: Collection[UUID]) -> dict[UUID, PersonKey | None]:
    """The keys as they are stored now, for reading; who is not in the answer never had one."""
    if not people:
        return {}
    rows = await session.execute(
        text("SELECT person_id, wrapped_key FROM audit_person_keys WHERE person_id = ANY(:people)"),
        {"people": sorted(people)},
    )
    return {person: None if key is None else keys.unwrap(person, key) for person, key in rows}


async def ensure_keys(session: AsyncSession, keys: AuditKeys, people: Collection[UUID]) -> dict[UUID, PersonKey | None]:
    """The keys of these people, for writing; made where they are missing."""
    found = keys.remembered(people)
    unknown = set(people) - set(found)
    if not unknown:
        return found
    found.update(await keys_of(session, keys, unknown))
    missing = sorted(unknown - set(found))
    if missing:
        # In order of their ids: two transactions that make the same keys never wait for each other in a circle.
        await session.execute(
            text(
                "INSERT INTO audit_person_keys (person_id, wrapped_key) "
                "SELECT * FROM unnest(CAST(:people AS uuid[]), CAST(:keys AS bytea[])) ON CONFLICT DO NOTHING"
            ),
            {"people": missing, "keys": [keys.wrap(person, PersonKey.new()) for person in missing]},
        )
        # Another transaction may have been faster; what is stored counts.
        found.update(await keys_of(session, keys, missing))
    return found
