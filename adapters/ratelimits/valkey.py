"""Counters in Valkey (Redis): one integer for each key and window, which forgets itself."""

import asyncio
from collections.abc import Mapping
from itertools import islice

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from adapters.ratelimits.base import Used
from domain.errors import Unavailable

PREFIX = "perdure/requests"
TIMEOUT_SECONDS = 1.0
KEYS_AT_ONCE = 1000

# What a server that is away, starting or stopping leads to.
_OUTAGE = (RedisError, OSError, TimeoutError)


class ValkeyCounters:
    """``Counters`` on a Valkey or Redis server, one round trip for up to a thousand keys.

    Args:
        url: ``redis://[user]:password@host:port/number`` (``rediss`` for TLS).
    """

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=2,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_keepalive=True,
            # A batch that is sent twice counts twice, so it is the caller who decides.
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis.from_pool(pool)

    async def add(self, spent: Mapping[str, int], *, window: int, window_seconds: int) -> Mapping[str, Used]:
        """See ``Counters.add``."""
        used: dict[str, Used] = {}
        rest = iter(spent.items())
        try:
            while batch := dict(islice(rest, KEYS_AT_ONCE)):
                async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                    used |= await self._add(batch, window, window_seconds)
        except _OUTAGE as error:
            raise Unavailable(
                f"The counters of rate limits do not answer ({error}). Each API process counts by itself meanwhile.",
                neighbour="bus",
            ) from error
        return used

    async def _add(self, spent: Mapping[str, int], window: int, window_seconds: int) -> dict[str, Used]:
        pipeline = self._client.pipeline(transaction=False)
        for key, count in spent.items():
            present = f"{PREFIX}/{window_seconds}/{window}/{key}"
            pipeline.get(f"{PREFIX}/{window_seconds}/{window - 1}/{key}")
            pipeline.incrby(present, count)
            # It is read as the window before during the whole of the next one.
            pipeline.expire(present, 3 * window_seconds)
        answers = await pipeline.execute()
        triples = zip(spent, answers[::3], answers[1::3], strict=True)
        return {key: Used(int(previous or 0), int(present)) for key, previous, present in triples}

    async def close(self) -> None:
        """See ``Counters.close``."""
        await self._client.aclose()
