"""Identities: found, made, changed, taken out of use."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.access import User


async def user_by_name(session: AsyncSession, name: str) -> User | None:
    """The identity that is called so, active or not."""
    return (await session.execute(select(User).where(User.name == name))).scalar_one_or_none()  # type: ignore[arg-type]  # SQLModel types columns as values


async def replace_password_hash(session: AsyncSession, user_id: UUID, password_hash: str) -> None:
    """Stores a newer hash of the same password (its cost parameters changed)."""
    await session.execute(
        text("UPDATE users SET password_hash = :hash WHERE id = :id"), {"hash": password_hash, "id": user_id}
    )
