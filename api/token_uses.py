"""When each API token was last used: noted in memory, written now and then, never on the way of a request."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from database.engine import Database
from database.store.access.tokens import note_token_uses
from domain.errors import PerdureError

logger = logging.getLogger(__name__)

WRITE_INTERVAL_SECONDS = 5.0
RESOLUTION = timedelta(minutes=1)


class TokenUses:
    """Collects uses; each token costs at most one row change a minute, all of them together one UPDATE.

    A crash loses the uses of the last seconds: ``last_used_at`` tells people which tokens are dead, nothing decides
    by it.
    """

    def __init__(self) -> None:
        self._written: dict[UUID, datetime] = {}
        self._noted: dict[UUID, datetime] = {}

    def note(self, token_id: UUID) -> None:
        """Remembers that the token was used now."""
        now = datetime.now(UTC)
        written = self._written.get(token_id)
        if written is None or now - written >= RESOLUTION:
            self._noted[token_id] = now

    async def write(self, database: Database) -> None:
        """Stores what was noted; what could not be stored is kept for the next time."""
        noted, self._noted = self._noted, {}
        oldest = datetime.now(UTC) - RESOLUTION
        self._written = {token: moment for token, moment in self._written.items() if moment > oldest}
        if not noted:
            return
        try:
            async with database.transaction() as session:
                await note_token_uses(session, noted)
        except BaseException:
            self._noted = noted | self._noted
            raise
        self._written |= noted

    async def write_forever(self, database: Database) -> None:
        """Writes every few seconds until cancelled; an outage of the database only delays it."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            try:
                await self.write(database)
            except PerdureError as error:
                logger.warning("The last uses of tokens are not stored yet: %s", error.message)
