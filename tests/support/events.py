"""What happened to a run, as its readers are told."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.audit import Event


async def events_of(session: AsyncSession, run_id: UUID, *, after: int = 0) -> list[Event]:
    """The events of a run with a number above ``after``, oldest first."""
    query = select(Event).where(col(Event.pipeline_id) == run_id, col(Event.seq) > after).order_by(col(Event.seq))
    return list((await session.scalars(query)).all())
