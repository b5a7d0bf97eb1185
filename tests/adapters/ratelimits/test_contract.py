"""What all counters promise; the stand-in and the real ones pass the same tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from adapters.ratelimits.base import Counters, Used
from adapters.ratelimits.local import LocalCounters
from adapters.ratelimits.valkey import KEYS_AT_ONCE, ValkeyCounters
from tests.support.stack import Stack


@pytest.fixture(params=["local", "valkey"])
async def counters(request: pytest.FixtureRequest, idle_stack: Stack) -> AsyncIterator[Counters]:
    if request.param == "valkey":
        await idle_stack.start("valkey")
    counters: Counters = LocalCounters() if request.param == "local" else ValkeyCounters(idle_stack.bus_url)
    yield counters
    await counters.close()


@pytest.fixture
def key() -> str:
    return f"credential/{uuid.uuid4()}"


async def test_what_nobody_used_is_nothing(counters: Counters, key: str) -> None:
    assert await counters.add({}, window=10, window_seconds=60) == {}
    assert await counters.add({key: 0}, window=10, window_seconds=60) == {key: Used(0, 0)}


async def test_what_is_added_adds_up_and_is_seen_from_the_next_window(counters: Counters, key: str) -> None:
    await counters.add({key: 3}, window=10, window_seconds=60)
    assert await counters.add({key: 4}, window=10, window_seconds=60) == {key: Used(0, 7)}
    assert await counters.add({key: 1}, window=11, window_seconds=60) == {key: Used(7, 1)}
    assert await counters.add({key: 0}, window=13, window_seconds=60) == {key: Used(0, 0)}


async def test_keys_and_lengths_of_windows_are_apart(counters: Counters, key: str) -> None:
    await counters.add({key: 3, f"{key}/other": 5}, window=10, window_seconds=60)
    assert await counters.add({key: 0}, window=10, window_seconds=60) == {key: Used(0, 3)}
    assert await counters.add({key: 0}, window=10, window_seconds=3600) == {key: Used(0, 0)}


async def test_what_is_added_at_the_same_time_is_not_lost(counters: Counters, key: str) -> None:
    await asyncio.gather(*(counters.add({key: 1}, window=10, window_seconds=60) for _ in range(50)))
    assert await counters.add({key: 0}, window=10, window_seconds=60) == {key: Used(0, 50)}


async def test_many_keys_at_once(counters: Counters, key: str) -> None:
    spent = {f"{key}/{number}": number for number in range(2 * KEYS_AT_ONCE + 1)}
    used = await counters.add(spent, window=10, window_seconds=60)
    assert {one: sums.present for one, sums in used.items()} == spent
