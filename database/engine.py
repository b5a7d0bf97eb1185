"""The connection pool and the one way to open a transaction."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

from asyncpg import CharacterNotInRepertoireError, UntranslatableCharacterError
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from database.reading import Reader, database_away
from database.store.audit import write_recorded
from database.store.audit_keys import AuditKeys
from domain.errors import InvalidInput

Session = AsyncSession
"""An open transaction, for the signatures of code that hands one on but speaks no SQL itself."""

CONNECT_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_MS = 30_000
# A server that hangs cannot enforce its own timeout on statements; over it, so that a living one decides.
TRANSACTION_TIMEOUT_SECONDS = 60.0


# SQLSTATE classes (PostgreSQL's manual, appendix A): no connection, no room, the server is shutting down or starting.
_AWAY_STATES = ("08", "53", "57P")
# What it says to a NUL in a text and in a jsonb.
_NUL_STATES = (CharacterNotInRepertoireError.sqlstate, UntranslatableCharacterError.sqlstate)


def _is_outage(error: DBAPIError) -> bool:
    """Whether the server is away, as opposed to the statement being wrong."""
    return error.connection_invalidated or _state(error).startswith(_AWAY_STATES)


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None))


def _nul_refused() -> InvalidInput:
    return InvalidInput(
        "A text holds a NUL character (U+0000), which can neither be kept nor looked for. Nothing was changed; send it "
        "without.",
        code="nul_character",
    )


def _refuse_closed(connection: Any, *_: object) -> None:  # noqa: ANN401  # SQLAlchemy's adapter has no public type
    """Has the pool replace connections that the server closed, when one is taken instead of when it is used.

    The driver knows at once that its socket was closed, so this costs nothing, and a restart of the server between
    two requests is not seen by the second.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


class Database:
    """PostgreSQL behind a pool.

    Args:
        url: ``postgresql+asyncpg://user:password@host:port/name``.
        pool_size: Connections at most; opened when first needed and kept.
        timeout_seconds: Of a whole transaction; what takes longer is an outage of the server.
        audit_keys: What audit rows are written with; without them, a transaction that records something fails.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 20,
        timeout_seconds: float = TRANSACTION_TIMEOUT_SECONDS,
        audit_keys: AuditKeys | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._audit_keys = audit_keys.for_one_database() if audit_keys is not None else None
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            # No overflow: a connection that is opened for a moment costs more than the wait for one of the pool.
            max_overflow=0,
            pool_use_lifo=True,
            pool_timeout=CONNECT_TIMEOUT_SECONDS,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "server_settings": {"statement_timeout": str(STATEMENT_TIMEOUT_MS), "jit": "off"},
            },
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
        self._reader = Reader(url)
        self._sessions = async_sessionmaker(
            self._engine,
            expire_on_commit=False,
            autoflush=False,
            # The store's UPDATEs do not look for objects in memory to change as well: it costs a third of their time.
            execution_options={"synchronize_session": False},
        )

    @property
    def audit_keys(self) -> AuditKeys:
        """What the audit log is read with.

        Raises:
            RuntimeError: It was opened without.
        """
        if self._audit_keys is None:
            raise RuntimeError("this Database was opened without audit_keys, so it cannot read the audit log")
        return self._audit_keys

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: commits at the end of the block, rolls back on any error.

        What was recorded for the audit log in the block is written as the last thing before the commit.

        What else the block raises passes through as it is, also where it looks like a broken connection: only errors
        of the driver speak of the server.

        Raises:
            InvalidInput: A text holds a NUL, which PostgreSQL cannot keep (code ``nul_character``).
            Unavailable: The server does not answer, or not in time. After a failed commit nobody knows whether it
                happened, so every operation of the store can be repeated.
        """
        deadline = asyncio.timeout(self._timeout_seconds)
        try:
            async with deadline, self._sessions() as session, session.begin():
                try:
                    await session.connection()
                except (OSError, PoolTimeoutError) as error:
                    raise database_away() from error
                yield session
                used = await write_recorded(session, self._audit_keys)
            if used and self._audit_keys is not None:
                self._audit_keys.remember(used)
        except TimeoutError as error:
            if deadline.expired():
                raise database_away() from error
            raise
        except DBAPIError as error:
            if _is_outage(error):
                raise database_away() from error
            if _state(error) in _NUL_STATES:
                raise _nul_refused() from error
            raise

    async def read(self, statement: str, *parameters: object) -> list[Mapping[str, Any]]:
        """Runs one SELECT of its own, straight through the driver: no BEGIN and COMMIT, no mapping, no unit of work.

        For the few statements that are run most often; everything else goes through ``transaction``.

        Args:
            statement: SQL with ``$1``, ``$2``, ... It can change nothing, and is repeated once on a fresh connection
                when the server went away and came back between two requests.
            parameters: Their values.

        Raises:
            InvalidInput: A parameter holds a NUL (code ``nul_character``).
            Unavailable: The server does not answer.
        """
        try:
            return await self._reader.fetch(statement, parameters)
        except CharacterNotInRepertoireError as error:
            raise _nul_refused() from error

    async def ping(self) -> None:
        """Asks the server for an answer.

        Raises:
            Unavailable: There was none.
        """
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Closes every connection."""
        await self._reader.close()
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        """Hands out itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes."""
        await self.close()
