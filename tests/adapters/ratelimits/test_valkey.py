"""What only a real server can do: be away, come back, forget."""

import uuid

import pytest

from adapters.ratelimits.base import Used
from adapters.ratelimits.valkey import PREFIX, ValkeyCounters
from deploy.local.ports import free_ports
from domain.errors import Unavailable
from tests.support.stack import Stack


async def test_a_server_that_is_away_is_said_to_be() -> None:
    counters = ValkeyCounters(f"redis://127.0.0.1:{free_ports()['valkey']}/0")
    with pytest.raises(Unavailable) as caught:
        await counters.add({"key": 1}, window=1, window_seconds=60)
    assert caught.value.neighbour == "bus"
    await counters.close()


async def test_a_server_that_was_killed_is_used_again_when_it_is_back(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    counters, key = ValkeyCounters(idle_stack.bus_url), str(uuid.uuid4())
    await counters.add({key: 1}, window=1, window_seconds=60)
    await idle_stack.kill("valkey")
    with pytest.raises(Unavailable):
        await counters.add({key: 1}, window=1, window_seconds=60)
    await idle_stack.start("valkey")
    assert (await counters.add({key: 1}, window=1, window_seconds=60))[key].present >= 1
    await counters.close()


async def test_counts_forget_themselves(idle_stack: Stack) -> None:
    await idle_stack.start("valkey")
    counters, key = ValkeyCounters(idle_stack.bus_url), str(uuid.uuid4())
    assert await counters.add({key: 1}, window=7, window_seconds=60) == {key: Used(0, 1)}
    left_seconds = await counters._client.ttl(f"{PREFIX}/60/7/{key}")
    assert 120 < left_seconds <= 180
    await counters.close()
