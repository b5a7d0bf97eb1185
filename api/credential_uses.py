"""When each credential was last used: noted in memory, written now and then, never on the way of a request."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from database.engine import Database, Session
from database.store.access.sessions import note_session_uses
from database.store.access.tokens import Use, note_token_uses
from domain.errors import PerdureError

logger = logging.getLogger(__name__)

WRITE_INTERVAL_SECONDS = 5.0
RESOLUTION = timedelta(minutes=1)
ENDED_AGAIN_SECONDS = 600.0
_REMEMBERED_MAX = 10_000


class _Uses(ABC):
    """Collects uses; each credential costs at most one row change a minute, all of them together one UPDATE."""

    def __init__(self) -> None:
        self._written: dict[UUID, datetime] = {}
        self._noted: dict[UUID, Use] = {}

    def note(self, credential_id: UUID, ip: str | None = None) -> None:
        """Remembers that the credential was used now, from this address."""
        now = datetime.now(UTC)
        written = self._written.get(credential_id)
        if written is None or now - written >= RESOLUTION:
            self._noted[credential_id] = Use(now, ip)

    async def write(self, database: Database) -> None:
        """Stores what was noted; what could not be stored is kept for the next time."""
        noted, self._noted = self._noted, {}
        oldest = datetime.now(UTC) - RESOLUTION
        self._written = {one: moment for one, moment in self._written.items() if moment > oldest}
        if not noted:
            return
        try:
            async with database.transaction() as session:
                await self._store(session, noted)
        except BaseException:
            self._noted = noted | self._noted
            raise
        self._written |= {one: use.moment for one, use in noted.items()}

    async def write_forever(self, database: Database) -> None:
        """Writes every few seconds until cancelled; an outage of the database only delays it."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            try:
                await self.write(database)
            except PerdureError as error:
                logger.warning("The last uses of credentials are not stored yet: %s", error.message)

    @abstractmethod
    async def _store(self, session: Session, noted: dict[UUID, Use]) -> None: ...


class TokenUses(_Uses):
    """Of API tokens.

    A crash loses the uses of the last seconds: ``last_used_at`` tells people which tokens are dead, nothing decides
    by it.
    """

    async def _store(self, session: Session, noted: dict[UUID, Use]) -> None:
        await note_token_uses(session, noted)


class SessionUses(_Uses):
    """Of browser sessions, whose idle end moves on with each use.

    A crash loses the uses of the last seconds, so a session may end for idleness up to a minute early, never late.

    Args:
        lifetime: After which a session ends whatever happens.
        idle: After which it ends when nobody uses it.
    """

    def __init__(self, *, lifetime: timedelta, idle: timedelta) -> None:
        super().__init__()
        self._lifetime = lifetime
        self._idle = idle

    async def _store(self, session: Session, noted: dict[UUID, Use]) -> None:
        moments = {one: use.moment for one, use in noted.items()}
        await note_session_uses(session, moments, lifetime=self._lifetime, idle=self._idle)


@dataclass
class EndedUses:
    """Uses of API tokens that have ended, each told once in ``ENDED_AGAIN_SECONDS``.

    A program with an old token asks every few seconds: its second question is no other news than its first.
    """

    _told: dict[str, float] = field(default_factory=dict)

    def is_news(self, secret_hash: str) -> bool:
        """Whether it was not told lately; from now on it was."""
        now = time.monotonic()
        told = self._told.get(secret_hash)
        if told is not None and now - told < ENDED_AGAIN_SECONDS:
            return False
        if len(self._told) >= _REMEMBERED_MAX:
            self._told.clear()
        self._told[secret_hash] = now
        return True
