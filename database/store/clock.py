"""The database's clock, by which every expiry is judged."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession


async def now(session: AsyncSession) -> datetime:
    """When the transaction began."""
    moment: datetime = (await session.execute(select(func.now()))).scalar_one()
    return moment


async def instant(session: AsyncSession) -> datetime:
    """This very moment: what was committed while the transaction waited for a lock is not in its future."""
    moment: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return moment
