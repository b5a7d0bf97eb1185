"""The connection pool and the one way to open a transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from domain.errors import Unavailable

CONNECT_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_MS = 30_000


def _is_outage(error: BaseException) -> bool:
    """Whether the server is away, as opposed to the statement being wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(
        error, (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError, OSError, asyncio.TimeoutError)
    )


class Database:
    """PostgreSQL behind a pool.

    Args:
        url: ``postgresql+asyncpg://user:password@host:port/name``.
        pool_size: Connections kept; as many again may be opened for a moment.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=CONNECT_TIMEOUT_SECONDS,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "server_settings": {"statement_timeout": str(STATEMENT_TIMEOUT_MS), "jit": "off"},
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: commits at the end of the block, rolls back on any error.

        Raises:
            Unavailable: The server does not answer. After a failed commit nobody knows whether it happened, so
                every operation of the store can be repeated.
        """
        try:
            async with self._sessions() as session, session.begin():
                yield session
        except Exception as error:
            if _is_outage(error):
                raise Unavailable(
                    "The database does not answer. What was acknowledged is kept; try again.", neighbour="database"
                ) from error
            raise

    async def ping(self) -> None:
        """Asks the server for an answer.

        Raises:
            Unavailable: There was none.
        """
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        """Hands out itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes."""
        await self.close()
