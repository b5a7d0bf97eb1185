"""The connection pool and the one way to open a transaction."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from domain.errors import Unavailable

Session = AsyncSession
"""An open transaction, for the signatures of code that hands one on but speaks no SQL itself."""

CONNECT_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_MS = 30_000


def _is_outage(error: BaseException) -> bool:
    """Whether the server is away, as opposed to the statement being wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(
        error, (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError, OSError, asyncio.TimeoutError)
    )


def _database_away() -> Unavailable:
    return Unavailable("The database does not answer. What was acknowledged is kept; try again.", neighbour="database")


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
                raise _database_away() from error
            raise

    async def read(self, statement: str, *parameters: object) -> list[Mapping[str, Any]]:
        """Runs one SELECT of its own, straight through the driver: no BEGIN and COMMIT, no mapping, no unit of work.

        For the few statements that every request pays for; everything else goes through ``transaction``.

        Args:
            statement: SQL with ``$1``, ``$2``, ... It must change nothing: it is repeated once on a fresh connection
                when the server went away and came back between two requests.
            parameters: Their values.

        Raises:
            Unavailable: The server does not answer.
        """
        try:
            return await self._read(statement, parameters)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError):
            # Every pooled connection is as old as this one: all are replaced, not found dead one request at a time.
            await self._engine.dispose()
        try:
            return await self._read(statement, parameters)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError) as error:
            raise _database_away() from error

    async def _read(self, statement: str, parameters: tuple[object, ...]) -> list[Mapping[str, Any]]:
        try:
            async with self._engine.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                rows: list[Mapping[str, Any]] = await driver.fetch(statement, *parameters)  # type: ignore[union-attr]  # a live connection has its driver's
                return rows
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            if _is_outage(error):
                raise _database_away() from error
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
