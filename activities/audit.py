"""Checkpoints of the audit log: signed in the database, then kept in the object store."""

from temporalio import activity

from activities.heartbeat import heartbeating
from adapters.objects.base import Objects, checkpoint_key
from adapters.signing.ed25519 import SigningKey
from database.engine import Database
from database.store.audit_checkpoints import checkpoint_numbers, make_checkpoint, signed_checkpoint
from domain.audit.messages import MadeCheckpoint, PublishedCheckpoints


class AuditActivities:
    """What the checkpoint workflow has done."""

    def __init__(self, database: Database, objects: Objects, signing_key: SigningKey) -> None:
        self._database = database
        self._objects = objects
        self._signing_key = signing_key

    @activity.defn
    async def make_checkpoint(self) -> MadeCheckpoint:
        """Signs where the audit log stands. A repetition makes one more checkpoint, which does no harm.

        Raises:
            Conflict: The log is not what was signed before (code ``audit_log_damaged``).
        """
        async with heartbeating(), self._database.transaction() as session:
            made = await make_checkpoint(session, self._signing_key)
        return MadeCheckpoint(number=made.number, at=made.at, rows=made.rows)

    @activity.defn
    async def publish_checkpoints(self) -> PublishedCheckpoints:
        """Brings every checkpoint to the object store that is not there yet; one that is there is never replaced.

        Raises:
            Conflict: The rows under one are not those that it signed (code ``audit_log_damaged``).
        """
        async with heartbeating():
            async with self._database.transaction() as session:
                numbers = await checkpoint_numbers(session)
            kept = set(await self._objects.list_keys(checkpoint_key()))
            missing = [number for number in numbers if checkpoint_key(number) not in kept]
            for number in missing:
                async with self._database.transaction() as session:
                    signed = await signed_checkpoint(session, number)
                await self._objects.put(
                    checkpoint_key(number), signed.to_json().encode(), content_type="application/json"
                )
        return PublishedCheckpoints(numbers=tuple(missing))
