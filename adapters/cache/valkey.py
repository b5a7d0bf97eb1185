"""A cache in Valkey (Redis), with expiry by the server."""

import asyncio
import logging

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# Finding out takes a millisecond or two: a cache that answers later than this is of no use.
TIMEOUT_SECONDS = 0.2
CONNECTIONS = 4
# After a failure nobody asks again for so long: an outage costs one timeout a second, not one per request.
PAUSE_SECONDS = 1.0

# What a server that is away, starting or stopping leads to.
_OUTAGE = (RedisError, OSError, TimeoutError)


class ValkeyCache:
    """``Cache`` on a Valkey or Redis server.

    Args:
        url: ``redis://[user]:password@host:port/number`` (``rediss`` for TLS).
    """

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            protocol=2,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis.from_pool(pool)
        self._paused_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """See ``Cache.get``."""
        if self._is_paused():
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                value = await self._client.get(key)
        except _OUTAGE as error:
            self._pause(error)
            return None
        return value if isinstance(value, bytes) else None

    async def set(self, key: str, value: bytes, *, ttl_seconds: int) -> None:
        """See ``Cache.set``."""
        if self._is_paused():
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._client.set(key, value, ex=ttl_seconds)
        except _OUTAGE as error:
            self._pause(error)

    async def close(self) -> None:
        """See ``Cache.close``."""
        await self._client.aclose()

    def _is_paused(self) -> bool:
        return asyncio.get_running_loop().time() < self._paused_until

    def _pause(self, error: Exception) -> None:
        self._paused_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
        logger.debug("the cache is away: %s", error)
