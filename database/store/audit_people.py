"""Erasing a person from the audit log (crypto-shredding): the key goes, the rows and their hashes stay."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict


async def erase_person(session: AsyncSession, actor: Actor, person_id: UUID) -> bool:
    """Removes the key of a person's data in the log; the ids stay.

    Also good for somebody who never acted: no key will ever be made for them.

    Returns:
        ``False`` if they were erased before.

    Raises:
        Conflict: The identity is active, so it would go on acting (code ``identity_active``).
    """
    active = await session.execute(
        text("SELECT 1 FROM users WHERE id = :person AND is_active FOR UPDATE"), {"person": person_id}
    )
    if active.scalar_one_or_none() is not None:
        raise Conflict(
            "The identity is active, and what it does is written down. Nothing was erased; deactivate it first.",
            code="identity_active",
        )
    done = await session.execute(
        text(
            "INSERT INTO audit_person_keys AS k (person_id, erased_at) VALUES (:person, now()) "
            "ON CONFLICT (person_id) DO UPDATE SET wrapped_key = NULL, erased_at = now() "
            "WHERE k.wrapped_key IS NOT NULL RETURNING person_id"
        ),
        {"person": person_id},
    )
    if done.scalar_one_or_none() is None:
        return False
    await record(session, actor, AuditAction.AUDIT_ERASE, "user", person_id)
    return True
