"""What only a real server can do: be away, be killed, come back."""

import asyncio
import time
import uuid

import pytest

from adapters.bus.valkey import ValkeyBus
from deploy.local.ports import free_ports
from domain.errors import Unavailable
from tests.support.eventually import eventually
from tests.support.stack import Stack


async def test_a_server_that_is_away_costs_publishers_next_to_nothing() -> None:
    bus = ValkeyBus(f"redis://127.0.0.1:{free_ports()['valkey']}/0")
    started = time.monotonic()
    for _ in range(10_000):
        await bus.publish("run/1")
    assert time.monotonic() - started < 2
    with pytest.raises(Unavailable) as caught:
        await bus.ping()
    assert caught.value.neighbour == "bus"
    await bus.close()


async def test_one_can_wait_while_the_server_is_away() -> None:
    bus = ValkeyBus(f"redis://127.0.0.1:{free_ports()['valkey']}/0")
    async with bus.subscribe("run/1") as subscription:
        assert not await subscription.wait(timeout_seconds=0.05)
    await bus.close()


async def test_a_wrong_password_is_an_outage_and_no_crash(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    address = idle_stack.bus_url.rpartition("@")[2]
    bus = ValkeyBus(f"redis://:wrong@{address}")
    await bus.publish("run/1")
    async with bus.subscribe("run/1") as subscription:
        assert not await subscription.wait(timeout_seconds=0.05)
    with pytest.raises(Unavailable):
        await bus.ping()
    await bus.close()


async def test_subscriptions_survive_a_kill_and_each_looks_again(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    bus, other = ValkeyBus(idle_stack.bus_url), ValkeyBus(idle_stack.bus_url)
    channel = f"run/{uuid.uuid4()}"
    async with bus.subscribe(channel) as subscription:
        await idle_stack.kill("valkey")
        async with bus.subscribe(f"{channel}/joined-meanwhile") as joined:
            await other.publish(channel)  # Lost, and nobody is told.
            await idle_stack.start("valkey")
            assert await subscription.wait(timeout_seconds=10), "hints may have been lost, so it is woken"
            assert await joined.wait(timeout_seconds=10)
            assert not await subscription.wait(timeout_seconds=0.1)

            async def hears() -> bool:
                await other.publish(channel)
                return await subscription.wait(timeout_seconds=0.1)

            await eventually(hears)
    await asyncio.gather(bus.close(), other.close())


async def test_all_subscriptions_share_one_connection(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    bus = ValkeyBus(idle_stack.bus_url)

    async def subscribers() -> int:
        clients = await bus._client.client_list(_type="pubsub")
        return len([client for client in clients if client["name"] == "" and int(client["sub"]) >= 50])

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        leave = asyncio.Event()

        async def stay(number: int) -> None:
            async with bus.subscribe(f"run/{number}"):
                await leave.wait()

        for number in range(50):
            tasks.create_task(stay(number))
        assert await eventually(subscribers) == 1
        leave.set()
    await bus.close()
