"""What every cache promises; the stand-in and the real one pass the same tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from adapters.cache.base import Cache
from adapters.cache.memory import MemoryCache
from adapters.cache.valkey import ValkeyCache
from tests.support.eventually import eventually
from tests.support.stack import Stack


@pytest.fixture(params=["memory", "valkey"])
async def cache(request: pytest.FixtureRequest, idle_stack: Stack) -> AsyncIterator[Cache]:
    if request.param == "valkey":
        await idle_stack.start("valkey")
    cache: Cache = MemoryCache() if request.param == "memory" else ValkeyCache(idle_stack.bus_url)
    yield cache
    await cache.close()


@pytest.fixture
def key() -> str:
    return f"held/{uuid.uuid4()}/platform"


async def test_what_was_never_set_is_not_there(cache: Cache, key: str) -> None:
    assert await cache.get(key) is None


@pytest.mark.parametrize("value", [b"", b"\0\xff\r\n", b"x" * 100_000])
async def test_any_bytes_come_back(cache: Cache, key: str, value: bytes) -> None:
    await cache.set(key, value, ttl_seconds=60)
    assert await cache.get(key) == value


async def test_the_last_value_stays_and_others_are_not_touched(cache: Cache, key: str) -> None:
    await cache.set(f"{key}/other", b"other", ttl_seconds=60)
    for value in (b"first", b"second"):
        await cache.set(key, value, ttl_seconds=60)
    assert await cache.get(key) == b"second"
    assert await cache.get(f"{key}/other") == b"other"


async def test_it_forgets_in_time(cache: Cache, key: str) -> None:
    await cache.set(key, b"short", ttl_seconds=1)
    assert await cache.get(key) == b"short"

    async def forgotten() -> bool:
        return await cache.get(key) is None

    await eventually(forgotten, timeout_seconds=5)


async def test_many_at_once(cache: Cache, key: str) -> None:
    async def there_and_back(number: int) -> bool:
        await cache.set(f"{key}/{number}", str(number).encode(), ttl_seconds=60)
        found = await cache.get(f"{key}/{number}")
        assert found in (None, str(number).encode()), "an answer to another question"
        return found is not None

    async def all_there() -> bool:
        # A cache may forget, and does where the machine is too busy for its timeout.
        return all(await asyncio.gather(*(there_and_back(number) for number in range(20))))

    await eventually(all_there)
