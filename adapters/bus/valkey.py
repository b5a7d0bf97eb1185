"""Hints through Valkey's (Redis's) publish and subscribe.

All subscriptions of a process share one connection, kept by one task; publishing has connections of its own. What
is lost while the server is away is made up for by waking every listener once it is subscribed again.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from adapters.bus.audience import Audience, Listener
from domain.errors import Unavailable

logger = logging.getLogger(__name__)

# A hint is worth less than the time of whoever sends it.
PUBLISH_TIMEOUT_SECONDS = 0.5
PUBLISH_CONNECTIONS = 4
# After a failure nobody tries again for so long: an outage costs one timeout a second, not one per hint.
PUBLISH_PAUSE_SECONDS = 1.0
SUBSCRIBED_WITHIN_SECONDS = 1.0
BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# An idle connection is asked for a sign of life; a server that vanished without a word shows by its silence.
SIGN_OF_LIFE_SECONDS = 10.0

# What a server that is away, starting or stopping leads to.
_OUTAGE = (RedisError, OSError, TimeoutError)


class ValkeyBus:
    """``Bus`` on a Valkey or Redis server.

    Args:
        url: ``redis://[user]:password@host:port/number`` (``rediss`` for TLS).
    """

    def __init__(self, url: str) -> None:
        # Few connections, for which publishers queue: opening hundreds at once takes longer than a hint may.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=PUBLISH_CONNECTIONS,
            timeout=PUBLISH_TIMEOUT_SECONDS,
            protocol=2,  # RESP2: hints arrive as plain arrays on the subscribed connection.
            socket_timeout=PUBLISH_TIMEOUT_SECONDS,
            socket_connect_timeout=PUBLISH_TIMEOUT_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis.from_pool(pool)
        self._audience = Audience()
        self._subscribed: dict[str, asyncio.Event] = {}
        self._connection: AbstractConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._paused_until = 0.0

    async def publish(self, channel: str) -> None:
        """See ``Bus.publish``."""
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                await self._client.publish(channel, b"")
        except _OUTAGE as error:
            self._paused_until = now + PUBLISH_PAUSE_SECONDS
            logger.debug("no hint to %s: %s", channel, error)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Listener]:
        """See ``Bus.subscribe``."""
        listener = self._audience.join(channel)
        try:
            await self._join(channel)
            yield listener
        finally:
            if self._audience.leave(channel, listener):
                self._subscribed.pop(channel, None)
                await self._tell("UNSUBSCRIBE", channel)

    async def ping(self) -> None:
        """See ``Bus.ping``."""
        try:
            async with asyncio.timeout(2 * PUBLISH_TIMEOUT_SECONDS):
                await self._client.ping()
        except _OUTAGE as error:
            raise Unavailable(
                f"The bus does not answer ({error}). Nothing is lost; live views are slower until it is back.",
                neighbour="bus",
            ) from error

    async def close(self) -> None:
        """See ``Bus.close``."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            self._reader = None
        await self._client.aclose()

    async def _join(self, channel: str) -> None:
        """Returns when the server has confirmed: whoever looks at the durable source after that misses nothing."""
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_for_ever(), name="bus")
        confirmed = self._subscribed.get(channel)
        if confirmed is None:
            confirmed = self._subscribed[channel] = asyncio.Event()
            await self._tell("SUBSCRIBE", channel)
        try:
            async with asyncio.timeout(SUBSCRIBED_WITHIN_SECONDS):
                await confirmed.wait()
        except TimeoutError:
            confirmed.set()  # The server is away; a confirmation that comes after this wakes the listeners.

    async def _tell(self, *command: str) -> None:
        """Sends on the shared connection if there is one; a new one begins by subscribing to everything anyway."""
        connection = self._connection
        if connection is not None and connection.is_connected:
            with contextlib.suppress(*_OUTAGE):
                await connection.send_command(*command, check_health=False)

    async def _read_for_ever(self) -> None:
        failures = 0
        while True:
            connection = self._new_connection()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py types only part of this class
                await self._resubscribe(connection)
                failures = 0
                await self._read(connection)
            except _OUTAGE as error:
                logger.info("the bus is away (%s); live views are slower meanwhile", error)
            finally:
                self._connection = None
                await connection.disconnect(nowait=True)
            await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1

    def _new_connection(self) -> AbstractConnection:
        pool = self._client.connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    async def _resubscribe(self, connection: AbstractConnection) -> None:
        # From here on newcomers subscribe by themselves; doing it twice is harmless.
        self._connection = connection
        for channel in self._audience.channels:
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
        await connection.send_command("PING", check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        asked = True
        while True:
            # ``None``: nothing came in time.
            answer = await connection.read_response(
                timeout=SIGN_OF_LIFE_SECONDS, disconnect_on_error=False, push_request=True
            )
            if answer is not None:
                asked = False
                self._heed(answer)
            elif asked:
                raise TimeoutError("no sign of life")
            else:
                asked = True
                await connection.send_command("PING", check_health=False)

    def _heed(self, answer: Any) -> None:  # noqa: ANN401  # whatever RESP2 can say
        if not isinstance(answer, list) or len(answer) < 2:  # noqa: PLR2004  # the kind, then the channel
            return
        kind, channel = answer[0], answer[1]
        if kind == b"message":
            self._audience.hint(channel.decode())
        elif kind == b"subscribe":
            self._confirm(channel.decode())

    def _confirm(self, channel: str) -> None:
        confirmed = self._subscribed.get(channel)
        if confirmed is None:
            return
        if confirmed.is_set():  # Subscribed anew: what was said in between was lost, so everybody looks again.
            self._audience.hint(channel)
        confirmed.set()
