"""What every bus promises; the stand-in and the real one pass the same tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from adapters.bus.base import Bus, run_channel
from adapters.bus.memory import MemoryBus
from adapters.bus.valkey import ValkeyBus
from tests.support.stack import Stack


@pytest.fixture(params=["memory", "valkey"])
async def bus(request: pytest.FixtureRequest, idle_stack: Stack) -> AsyncIterator[Bus]:
    if request.param == "valkey":
        await idle_stack.start("valkey")
    bus: Bus = MemoryBus() if request.param == "memory" else ValkeyBus(idle_stack.bus_url)
    yield bus
    await bus.close()


@pytest.fixture
def channel() -> str:
    return run_channel(uuid.uuid4())


async def test_without_a_hint_waiting_ends_in_time(bus: Bus, channel: str) -> None:
    async with bus.subscribe(channel) as subscription:
        assert not await subscription.wait(timeout_seconds=0.05)


async def test_a_hint_that_came_before_the_wait_is_not_lost(bus: Bus, channel: str) -> None:
    async with bus.subscribe(channel) as subscription:
        await bus.publish(channel)
        assert await subscription.wait(timeout_seconds=5)


async def test_hints_in_between_collapse_to_one(bus: Bus, channel: str) -> None:
    async with bus.subscribe(channel) as subscription, bus.subscribe(f"{channel}/last") as last:
        for _ in range(100):
            await bus.publish(channel)
        await bus.publish(f"{channel}/last")
        assert await last.wait(timeout_seconds=5)
        assert await subscription.wait(timeout_seconds=5)
        assert not await subscription.wait(timeout_seconds=0.05)


async def test_everybody_hears_their_channel_and_no_other(bus: Bus, channel: str) -> None:
    async with (
        bus.subscribe(channel) as first,
        bus.subscribe(channel) as second,
        bus.subscribe(f"{channel}/other") as other,
    ):
        await bus.publish(channel)
        assert await first.wait(timeout_seconds=5)
        assert await second.wait(timeout_seconds=5)
        assert not await other.wait(timeout_seconds=0.05)


async def test_a_channel_can_be_left_and_joined_again(bus: Bus, channel: str) -> None:
    for _ in range(20):
        async with bus.subscribe(channel) as subscription:
            await bus.publish(channel)
            assert await subscription.wait(timeout_seconds=5)
    async with bus.subscribe(channel) as stays:
        async with bus.subscribe(channel):
            pass
        await bus.publish(channel)
        assert await stays.wait(timeout_seconds=5)


async def test_many_channels_at_once(bus: Bus, channel: str) -> None:
    async def hear(number: int) -> bool:
        async with bus.subscribe(f"{channel}/{number}") as subscription:
            await bus.publish(f"{channel}/{number}")
            return await subscription.wait(timeout_seconds=5)

    assert all(await asyncio.gather(*(hear(number) for number in range(200))))


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind(bus: Bus, channel: str) -> None:
    async def wait_for_ever() -> None:
        async with bus.subscribe(channel) as subscription:
            await subscription.wait(timeout_seconds=3600)

    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bus.publish(channel)
    await bus.ping()
