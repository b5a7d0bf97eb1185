"""Single SELECTs straight through the driver, for what every request pays for."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg

from domain.errors import Unavailable

CONNECTIONS_MAX = 4
# Over everything: the wait for a connection, the statement, and its repetition.
TIMEOUT_SECONDS = 5.0

# What asyncpg raises when the server went away, is starting, or is shutting down.
_AWAY = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError, OSError)


class Reader:
    """A few connections of its own, each used by one statement at a time.

    A pool that resets, pings or begins a transaction would cost more than the statements that this is for.

    Args:
        url: ``postgresql+asyncpg://...``.
    """

    def __init__(self, url: str) -> None:
        self._dsn = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[asyncpg.Connection] = []

    async def fetch(self, statement: str, parameters: tuple[object, ...]) -> list[Mapping[str, Any]]:
        """Runs a SELECT; repeats it once where a connection turns out to be older than the server.

        Raises:
            Unavailable: The server does not answer within ``TIMEOUT_SECONDS``.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._fetch_patiently(statement, parameters)
        except TimeoutError as error:
            raise database_away() from error

    async def _fetch_patiently(self, statement: str, parameters: tuple[object, ...]) -> list[Mapping[str, Any]]:
        async with self._slots:
            reused = bool(self._idle)
            try:
                return await self._fetch(statement, parameters)
            except _AWAY as error:
                self._drop_idle()
                if not reused:
                    raise database_away() from error
            try:
                return await self._fetch(statement, parameters)
            except _AWAY as error:
                raise database_away() from error

    async def _fetch(self, statement: str, parameters: tuple[object, ...]) -> list[Mapping[str, Any]]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            rows: list[Mapping[str, Any]] = await connection.fetch(statement, *parameters)
        except asyncpg.PostgresError:
            # The server's own refusal leaves the connection fit for the next statement, unless it ended it.
            if not connection.is_closed():
                self._idle.append(connection)
            raise
        except BaseException:
            # Cancelled or cut off half-way: an answer may still be on its way on this connection.
            connection.terminate()
            raise
        self._idle.append(connection)
        return rows

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=TIMEOUT_SECONDS,
            server_settings={"jit": "off", "default_transaction_read_only": "on"},
        )

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().terminate()

    async def close(self) -> None:
        """Closes the connections."""
        self._drop_idle()


def database_away() -> Unavailable:
    """The one way to say that PostgreSQL is away."""
    return Unavailable("The database does not answer. What was acknowledged is kept; try again.", neighbour="database")
