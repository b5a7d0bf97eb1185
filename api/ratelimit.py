"""How often one may ask: a sliding window that is decided in memory and shared between processes behind it.

Each request is decided by what this process knows: what all of them had used when it last asked, and what it let
through since. A few times a second it tells what it let through and learns the sums (``adapters/ratelimits``). So no
request waits for Valkey, and with Valkey away each process goes on with its own counts. What that costs is
sharpness: several processes may together let through what comes in between two exchanges.

The window slides: the count of the window before weighs as much as of it still lies within the last window's length.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from adapters.ratelimits.base import Counters
from domain.errors import Unavailable

logger = logging.getLogger(__name__)

EXCHANGE_INTERVAL_SECONDS = 0.2
AWAY_INTERVAL_SECONDS = 2.0
KEYS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in so many seconds, for each key.

    Attributes:
        name: In the ``RateLimit`` headers, and before each key.
    """

    name: str
    requests: int
    window_seconds: int

    @property
    def policy(self) -> str:
        """The ``RateLimit-Policy`` header (draft-ietf-httpapi-ratelimit-headers-10, section 3)."""
        return f'"{self.name}";q={self.requests};w={self.window_seconds}'


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may go on.

    Attributes:
        remaining: Requests that may follow at once.
        reset_seconds: When there will be more: for a refused one when the next is let through, else when the window
            begins anew.
    """

    limit: Limit
    allowed: bool
    remaining: int
    reset_seconds: int

    @property
    def state(self) -> str:
        """The ``RateLimit`` header (same draft, section 4)."""
        return f'"{self.limit.name}";r={self.remaining};t={self.reset_seconds}'


class _Count:
    """What is known of one key: ``known`` was used by all at the last exchange, ``own`` by us and not told yet."""

    __slots__ = ("known", "limit", "own", "previous", "window")

    def __init__(self, limit: Limit, window: int) -> None:
        self.limit = limit
        self.window = window
        self.previous = 0
        self.known = 0
        self.own = 0

    def move_to(self, window: int) -> None:
        self.previous = self.known + self.own if window == self.window + 1 else 0
        self.known = self.own = 0
        self.window = window


class RateLimiter:
    """Counts requests by key.

    Args:
        counters: Where processes tell one another.
        clock: Seconds since the epoch; processes on several machines need clocks that agree to a second or so.
        keys_max: Counts kept in memory; the oldest are forgotten beyond it.
    """

    def __init__(self, counters: Counters, *, clock: Callable[[], float] = time.time, keys_max: int = KEYS_MAX) -> None:
        self._counters = counters
        self._clock = clock
        self._keys_max = keys_max
        self._counts: dict[str, _Count] = {}
        self._untold: set[str] = set()
        self._is_away = False

    def spend(self, limit: Limit, key: str, *, anyway: bool = False) -> Verdict:
        """Counts one request, if it is let through.

        Args:
            key: Unique within the limit.
            anyway: Counts it over the limit too: it was answered already.
        """
        now = self._clock() / limit.window_seconds
        window = int(now)
        key = f"{limit.name}/{key}"
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(limit, window)
            if len(self._counts) > self._keys_max:
                self._forget(next(iter(self._counts)))
        elif count.window != window:
            count.move_to(window)
            # To the end, so that what is forgotten first is what nobody uses.
            self._counts[key] = self._counts.pop(key)
        elapsed = now - window
        used = count.previous * (1 - elapsed) + count.known + count.own
        allowed = used <= limit.requests - 1
        if allowed or anyway:
            count.own += 1
            self._untold.add(key)
        if not allowed:
            return Verdict(limit, False, 0, math.ceil(_wait(count, elapsed) * limit.window_seconds) or 1)
        return Verdict(limit, True, int(limit.requests - used - 1), math.ceil((1 - elapsed) * limit.window_seconds))

    async def exchange(self) -> None:
        """Tells the others what was let through, and learns what they did; once.

        Raises:
            Unavailable: The counters are away; what was to be told is told later.
        """
        groups: dict[tuple[int, int], dict[str, int]] = {}
        for key in self._untold:
            count = self._counts[key]
            groups.setdefault((count.limit.window_seconds, count.window), {})[key] = count.own
        told, self._untold = self._untold, set()
        try:
            for (window_seconds, window), spent in groups.items():
                used = await self._counters.add(spent, window=window, window_seconds=window_seconds)
                told -= used.keys()
                for key, sums in used.items():
                    self._learn(key, window, spent[key], sums.previous, sums.present)
        finally:
            self._untold |= told & self._counts.keys()

    def _learn(self, key: str, window: int, spent: int, previous: int, present: int) -> None:
        count = self._counts.get(key)
        if count is None:
            return
        if count.window == window:
            count.previous = max(count.previous, previous)
            count.known = present
            count.own -= spent
        elif count.window == window + 1:
            count.previous = max(count.previous, present)

    async def exchange_forever(self) -> None:
        """Exchanges until cancelled; an outage of the counters is told once when it begins and when it ends."""
        while True:
            await asyncio.sleep(AWAY_INTERVAL_SECONDS if self._is_away else EXCHANGE_INTERVAL_SECONDS)
            self._forget_old()
            try:
                await self.exchange()
            except Unavailable as error:
                if not self._is_away:
                    logger.warning("%s", error.message)
                self._is_away = True
            else:
                if self._is_away:
                    logger.info("The counters of rate limits answer again.")
                self._is_away = False

    def _forget_old(self) -> None:
        now = self._clock()
        old = [key for key, count in self._counts.items() if now / count.limit.window_seconds - count.window > 2]  # noqa: PLR2004  # this window and the one before
        for key in old:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self._counts[key]
        self._untold.discard(key)

    async def close(self) -> None:
        """Lets go of the counters."""
        await self._counters.close()


def _wait(count: _Count, elapsed: float) -> float:
    """In windows: how long until one more request fits, if nobody else asks."""
    limit, present = count.limit.requests, count.known + count.own
    room = limit - 1 - present
    if room >= 0:
        # The window before has to slide out until only ``room`` of it is left.
        return max(0.0, 1 - room / count.previous - elapsed) if count.previous else 0.0
    return 1 - elapsed + max(0.0, 1 - (limit - 1) / present)
