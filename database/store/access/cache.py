"""What identities hold, from the nearest place that surely knows: this process, the shared cache, the database.

Whoever asks brings the version of the rights, read in the same statement as the credential. A copy of another version
is never used, so nothing has to be told to forget: a message that is lost, a process that was asleep, or a cache that
came back with old content cost a SELECT and never a wrong verdict.
"""

import hmac
from collections import OrderedDict
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from uuid import UUID

from database.engine import Database
from database.store.access.rights import HELD, held_from, rights_ctes, version_sql
from domain.access.held import Held, Version

ENTRIES_MAX = 10_000
"""Of one process: some 3 kB each for who holds a common role."""
TTL_SECONDS = 3600
_SEAL_SIZE_BYTES = sha256().digest_size

_HELD_BY = (
    f"WITH RECURSIVE {rights_ctes('$1::uuid', '$2::uuid')} "  # constants
    f"SELECT {HELD} AS held, {version_sql('$1::uuid')} AS version"
)


class SharedCache(Protocol):
    """The part of ``adapters.cache.base.Cache`` that is used here."""

    async def get(self, key: str) -> bytes | None:
        """What was set last, if it is still there and the cache is not away."""
        ...

    async def set(self, key: str, value: bytes, *, ttl_seconds: int) -> None:
        """Keeps ``value`` for ``ttl_seconds`` at most."""
        ...


class HeldCache:
    """What was asked for last, in this process.

    Args:
        entries_max: Beyond this, what was not asked for the longest goes.
    """

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[tuple[UUID, UUID | None], Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, subject_id: UUID, project_id: UUID | None, *, version: Version, moment: datetime) -> Held | None:
        """What the subject holds there, if it was read at ``version`` and nothing in it has ended by ``moment``."""
        held = self._entries.get((subject_id, project_id))
        if held is None or not held.is_good(version, moment):
            return None
        self._entries.move_to_end((subject_id, project_id))
        return held

    def put(self, subject_id: UUID, project_id: UUID | None, held: Held) -> None:
        """Keeps what was read, unless something later is known."""
        key = (subject_id, project_id)
        known = self._entries.get(key)
        if known is not None and known.version > held.version:
            return
        self._entries[key] = held
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


class SharedHeld:
    """What any process of the installation asked for last.

    Each value is sealed with its key (HMAC-SHA256): whoever can write to the cache can make verdicts slower, and not
    give anybody a right.

    Args:
        cache: Where it is kept.
        secret_key: The same in all processes.
    """

    def __init__(self, cache: SharedCache, secret_key: bytes) -> None:
        self._cache = cache
        self._seal_key = hmac.digest(secret_key, b"held rights in a shared cache", "sha256")

    async def get(self, subject_id: UUID, project_id: UUID | None) -> Held | None:
        """What was put last, of whatever version, if it is still there and as we wrote it."""
        key = _key(subject_id, project_id)
        value = await self._cache.get(key)
        if value is None:
            return None
        seal, content = value[:_SEAL_SIZE_BYTES], value[_SEAL_SIZE_BYTES:]
        if not hmac.compare_digest(seal, self._seal(key, content)):
            return None
        try:
            return Held.from_json(content)
        except ValueError:  # Written by a release that keeps it in another way.
            return None

    async def put(self, subject_id: UUID, project_id: UUID | None, held: Held) -> None:
        """Hands it to the other processes."""
        key, content = _key(subject_id, project_id), held.to_json()
        await self._cache.set(key, self._seal(key, content) + content, ttl_seconds=TTL_SECONDS)

    def _seal(self, key: str, content: bytes) -> bytes:
        return hmac.digest(self._seal_key, key.encode() + b"\n" + content, "sha256")


def _key(subject_id: UUID, project_id: UUID | None) -> str:
    return f"held/{subject_id}/{project_id or 'platform'}"


class Rights:
    """What identities hold.

    Args:
        shared: What the processes of an installation know together; ``None`` for a process that is alone.
    """

    def __init__(self, shared: SharedHeld | None = None) -> None:
        self._own = HeldCache()
        self._shared = shared

    async def held(
        self, database: Database, subject_id: UUID, project_id: UUID | None, *, version: Version, moment: datetime
    ) -> Held:
        """What ``subject_id`` holds everywhere, and on ``project_id`` if it is given; not narrowed by any credential.

        Args:
            version: Of the subject's rights, read from the database for this question.
            moment: Of the database's clock when it was read.

        Returns:
            What was held at ``version``, or at a later one where a change was committed in between.

        Raises:
            Unavailable: Nobody nearer knows, and the database does not answer.
        """
        held = self._own.get(subject_id, project_id, version=version, moment=moment)
        if held is not None:
            return held
        if self._shared is not None:
            held = await self._shared.get(subject_id, project_id)
            if held is not None and held.is_good(version, moment):
                self._own.put(subject_id, project_id, held)
                return held
        held = await read_held(database, subject_id, project_id)
        self._own.put(subject_id, project_id, held)
        if self._shared is not None:
            await self._shared.put(subject_id, project_id, held)
        return held


async def changes_of_rights(database: Database) -> int:
    """A number that is another one after every change of anybody's rights and every end of a credential.

    Raises:
        Unavailable: The database does not answer.
    """
    (row,) = await database.read("SELECT changes FROM rights_epoch")
    return int(row["changes"])


async def read_held(database: Database, subject_id: UUID, project_id: UUID | None) -> Held:
    """``rights.held_by`` outside of a transaction.

    Raises:
        Unavailable: The database does not answer.
    """
    (row,) = await database.read(_HELD_BY, subject_id, project_id)
    return held_from(row["held"], row["version"])
