import asyncio
from collections.abc import Mapping

import pytest

from adapters.ratelimits.base import Counters, Used
from adapters.ratelimits.local import LocalCounters
from api.ratelimit import Limit, RateLimiter
from domain.errors import Unavailable
from tests.support.eventually import eventually

LIMIT = Limit("credential", 10, 60)


class Clock:
    """Stands still until it is told otherwise; begins at the start of a window."""

    def __init__(self) -> None:
        self.now = 60_000.0

    def __call__(self) -> float:
        return self.now


class Away:
    """Counters that can be made to be away."""

    def __init__(self) -> None:
        self.inner = LocalCounters()
        self.is_away = True

    async def add(self, spent: Mapping[str, int], *, window: int, window_seconds: int) -> Mapping[str, Used]:
        if self.is_away:
            raise Unavailable("away", neighbour="bus")
        return await self.inner.add(spent, window=window, window_seconds=window_seconds)

    async def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _limiter(clock: Clock, counters: Counters | None = None, *, keys_max: int = 1000) -> RateLimiter:
    return RateLimiter(counters or LocalCounters(), clock=clock, keys_max=keys_max)


def _spend(limiter: RateLimiter, times: int, key: str = "ada") -> int:
    """How many of them were let through."""
    return sum(limiter.spend(LIMIT, key).allowed for _ in range(times))


def test_over_the_limit_is_refused_and_told_when_the_next_one_fits(clock: Clock) -> None:
    limiter = _limiter(clock)
    assert _spend(limiter, 25) == 10
    refused = limiter.spend(LIMIT, "ada")
    assert (refused.allowed, refused.remaining) == (False, 0)
    clock.now += refused.reset_seconds - 1
    assert not limiter.spend(LIMIT, "ada").allowed
    clock.now += 1.01
    assert limiter.spend(LIMIT, "ada").allowed


def test_keys_and_limits_are_apart(clock: Clock) -> None:
    limiter = _limiter(clock)
    assert _spend(limiter, 25) == 10
    assert _spend(limiter, 25, "bob") == 10
    assert limiter.spend(Limit("address", 1, 60), "ada").allowed


def test_the_headers_tell_policy_rest_and_time(clock: Clock) -> None:
    limiter = _limiter(clock)
    clock.now += 20.5
    verdict = limiter.spend(LIMIT, "ada")
    assert verdict.limit.policy == '"credential";q=10;w=60'
    assert verdict.state == '"credential";r=9;t=40'
    assert limiter.spend(LIMIT, "ada").remaining == 8


def test_the_window_slides_so_that_its_edge_gives_no_second_helping(clock: Clock) -> None:
    limiter = _limiter(clock)
    clock.now += 59
    assert _spend(limiter, 10) == 10
    clock.now += 2
    assert _spend(limiter, 10) == 0, "two seconds later all ten still lie within the last minute"
    clock.now += 29
    assert _spend(limiter, 10) == 5
    clock.now += 600
    assert _spend(limiter, 20) == 10


@pytest.mark.parametrize("offset", [0, 1, 17, 30, 59])
def test_no_minute_sees_much_more_than_the_limit(clock: Clock, offset: int) -> None:
    limiter = _limiter(clock)
    clock.now += offset
    passed: list[float] = []
    for _ in range(600):
        clock.now += 0.5
        if limiter.spend(LIMIT, "ada").allowed:
            passed.append(clock.now)
    busiest = max(sum(begin <= moment < begin + 60 for moment in passed) for begin in passed)
    assert busiest <= 1.5 * LIMIT.requests, "an estimate, but never twice"
    assert len(passed) >= 0.7 * LIMIT.requests * 5


async def test_processes_share_a_limit(clock: Clock) -> None:
    counters = LocalCounters()
    one, other = _limiter(clock, counters), _limiter(clock, counters)
    assert _spend(one, 6) == 6
    assert _spend(other, 2) == 2
    await one.exchange()
    await other.exchange()
    assert _spend(other, 10) == 2
    await other.exchange()
    assert _spend(one, 1) == 1, "it has not heard of the others yet"
    await one.exchange()
    assert _spend(one, 10) == 0


async def test_what_comes_in_while_they_talk_is_counted_once(clock: Clock) -> None:
    counters = LocalCounters()
    limiter = _limiter(clock, counters)
    for _ in range(5):
        talking = asyncio.create_task(limiter.exchange())
        _spend(limiter, 1)
        await talking
    await limiter.exchange()
    await limiter.exchange()
    assert (await counters.add({"credential/ada": 0}, window=1000, window_seconds=60))["credential/ada"].present == 5
    assert _spend(limiter, 20) == 5


async def test_with_the_counters_away_each_process_limits_by_itself_and_tells_later(clock: Clock) -> None:
    counters = Away()
    limiter = _limiter(clock, counters)
    assert _spend(limiter, 25) == 10
    for _ in range(3):
        with pytest.raises(Unavailable):
            await limiter.exchange()
    assert _spend(limiter, 25) == 0, "neither open nor forgotten"
    counters.is_away = False
    await limiter.exchange()
    assert _spend(_limiter(clock), 1) == 1
    other = _limiter(clock, counters)
    _spend(other, 1)
    await other.exchange()
    assert _spend(other, 10) == 0


async def test_an_outage_across_windows_forgets_and_does_not_grow(clock: Clock) -> None:
    counters = Away()
    limiter = _limiter(clock, counters)
    for number in range(50):
        _spend(limiter, 1, f"key-{number}")
        clock.now += 60
        with pytest.raises(Unavailable):
            await limiter.exchange()
        limiter._forget_old()
    assert len(limiter._counts) <= 3
    assert len(limiter._untold) <= 3


def test_memory_is_bounded_and_what_is_used_stays(clock: Clock) -> None:
    limiter = _limiter(clock, keys_max=100)
    _spend(limiter, 10, "busy")
    clock.now += 60
    assert _spend(limiter, 10, "idle") == 10
    clock.now += 1
    _spend(limiter, 1, "busy")
    for number in range(99):
        _spend(limiter, 1, f"made-up-{number}")
    assert len(limiter._counts) == 100
    assert _spend(limiter, 10, "busy") == 0, "it still lies within the minute, and is not forgotten"


async def test_the_exchange_goes_on_through_an_outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    counters = Away()
    limiter = _limiter(clock, counters)
    _spend(limiter, 1)
    task = asyncio.create_task(limiter.exchange_forever())
    try:
        await eventually(lambda: "away" in caplog.text)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert caplog.text.count("away") == 1
