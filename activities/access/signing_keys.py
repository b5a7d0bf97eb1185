"""Our signing keys, exchanged by the clock."""

from temporalio import activity

from database.engine import Database
from database.store.access.signing_keys import Keyring, rotate
from domain.actors import SYSTEM


class SigningKeyActivities:
    """Activities of signing keys.

    Args:
        keyring: Makes keys, sealed with the secret of the installation.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    @activity.defn
    async def rotate_signing_keys(self) -> None:
        """Makes the keys that are due and removes those that verify nothing any more. Doing it again does nothing.

        Raises:
            Unavailable: The database is away.
        """
        async with self._database.transaction() as session:
            done = await rotate(session, SYSTEM, self._keyring)
        if done.made or done.removed:
            activity.logger.info("signing keys: made %s, removed %s", done.made, done.removed)
