"""What only a real server can do: be away, hang, be killed, come back."""

import os
import signal
import time

from adapters.cache.valkey import PAUSE_SECONDS, TIMEOUT_SECONDS, ValkeyCache
from deploy.local.ports import free_ports
from tests.support.eventually import eventually
from tests.support.stack import Stack


async def test_a_server_that_is_away_costs_next_to_nothing() -> None:
    cache = ValkeyCache(f"redis://127.0.0.1:{free_ports()['valkey']}/0")
    started = time.monotonic()
    for _ in range(10_000):
        assert await cache.get("key") is None
        await cache.set("key", b"value", ttl_seconds=60)
    assert time.monotonic() - started < 2
    await cache.close()


async def test_a_wrong_password_is_an_outage_and_no_crash(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    cache = ValkeyCache(f"redis://:wrong@{idle_stack.bus_url.rpartition('@')[2]}")
    await cache.set("key", b"value", ttl_seconds=60)
    assert await cache.get("key") is None
    await cache.close()


async def test_it_is_back_soon_after_a_kill(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    cache = ValkeyCache(idle_stack.bus_url)
    await cache.set("before", b"value", ttl_seconds=60)
    await idle_stack.kill("valkey")
    await cache.set("meanwhile", b"value", ttl_seconds=60)
    assert await cache.get("before") is None
    await idle_stack.start("valkey")

    async def keeps() -> bool:
        await cache.set("after", b"value", ttl_seconds=60)
        return await cache.get("after") == b"value"

    await eventually(keeps, timeout_seconds=10)
    await cache.close()


async def test_a_server_that_hangs_is_waited_for_once_and_briefly(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    cache = ValkeyCache(idle_stack.bus_url)
    await cache.set("key", b"value", ttl_seconds=60)
    os.kill(idle_stack.pid("valkey"), signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert await cache.get("key") is None
        assert await cache.get("key") is None
        assert time.monotonic() - started < TIMEOUT_SECONDS + PAUSE_SECONDS
    finally:
        os.kill(idle_stack.pid("valkey"), signal.SIGCONT)

    async def answers() -> bool:
        return await cache.get("key") == b"value"

    await eventually(answers, timeout_seconds=10)
    await cache.close()
