"""A client of the stack's Temporal with the real converter, and workers of tests' own queues."""

import base64
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import Worker

from adapters.objects.memory import MemoryObjects
from deploy.local.temporal import Temporal
from temporal.client import connect
from temporal.codec import PayloadKeys
from temporal.converter import data_converter
from temporal.namespace import ensure_namespace
from worker.assembly import Tuning, build_worker
from worker.registry import Registration
from worker.sandbox import workflow_runner

TEST_KEY = base64.b64encode(b"a key for tests, of 32 bytes ...").decode()


def converter_for_tests() -> DataConverter:
    """The real converter with a fixed key, large payloads in memory."""
    return data_converter(PayloadKeys({"test": TEST_KEY}, "test"), MemoryObjects())


@pytest.fixture(scope="session")
async def temporal_client(temporal_server: Temporal) -> Client:
    """Connected to a namespace that has our search attributes."""
    client = await connect(temporal_server.address, temporal_server.namespace, converter_for_tests(), program="test")
    await ensure_namespace(client)
    return client


def unique_queue() -> str:
    """A task queue that no other test polls."""
    return f"test-{uuid4()}"


@asynccontextmanager
async def working(
    client: Client,
    *,
    workflows: Sequence[type] = (),
    activities: Sequence[Callable[..., Any]] = (),
    queues: Sequence[str] | None = None,
    tuning: Tuning | None = None,
) -> AsyncIterator[list[Worker]]:
    """Workers as in production, each serving all of it, on queues of the test's own; stopped at the end.

    Args:
        queues: Default: one of ``unique_queue``; it is ``workers[0].task_queue``.
    """
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                build_worker(
                    client,
                    Registration(queue=queue, workflows=tuple(workflows), activities=tuple(activities)),
                    tuning or Tuning(),
                    runner=workflow_runner("tests"),
                )
            )
            for queue in queues or [unique_queue()]
        ]


def payloads_in(message: Message) -> Iterator[Payload]:
    """Every payload anywhere in a message (a history event, say), to be read or changed in place."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [value[key] for key in value if isinstance(value[key], Message)]
        else:
            inner = [value] if isinstance(value, Message) else list(value)
        for one in inner:
            yield from payloads_in(one)


async def decode_in_place(message: Message, converter: DataConverter) -> None:
    """Decodes every payload of a message, so that it can be read and replayed without keys."""
    assert converter.payload_codec is not None
    for payload in payloads_in(message):
        [decoded] = await converter.payload_codec.decode([payload])
        payload.CopyFrom(decoded)
