"""The verdict, asked again by activities that act for somebody: an order can outlive the right to give it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from database.engine import Database, Session
from database.store.access.standing import standing_of
from database.store.audit import record
from domain.access.decide import RightLost
from domain.access.permissions import Permission
from domain.actors import Actor


class _Refused(RightLost):
    """Carries what the audit row tells."""

    def __init__(self, actor: Actor, permission: Permission, project_id: UUID, reason: str) -> None:
        super().__init__(
            f"Stopped: this needs the permission {permission.value}, and {reason}. What was done until then is kept.",
            details={"permission": permission.value, "reason": reason},
        )
        self.actor = actor
        self.permission = permission
        self.project_id = project_id


@asynccontextmanager
async def transaction_while_allowed(database: Database) -> AsyncIterator[Session]:
    """A transaction in which ``ask_again`` may be called: a refusal undoes it and leaves its audit row.

    Raises:
        RightLost: ``ask_again`` refused.
    """
    try:
        async with database.transaction() as session:
            yield session
    except _Refused as refusal:
        async with database.transaction() as session:
            await record(
                session,
                refusal.actor,
                refusal.permission,
                "project",
                refusal.project_id,
                refusal.project_id,
                outcome="denied",
                detail={"answer": refusal.specific_code, **refusal.details},
            )
        raise


async def ask_again(session: Session, actor: Actor, permission: Permission, project_id: UUID) -> None:
    """Goes on only if the actor would be allowed now what it was allowed when it gave the order.

    Raises:
        RightLost: It would not: its right, its credential or its identity was taken back. Never retried.
    """
    standing = await standing_of(session, actor, permission, project_id)
    if not standing.verdict.allowed:
        raise _Refused(actor, permission, project_id, standing.verdict.reason)
