"""What only a real S3 server can do: be away, refuse, come back."""

import asyncio
import uuid

import pytest

from adapters.objects.s3 import S3Objects
from deploy.local.ports import free_ports
from domain.errors import Unavailable
from tests.support.eventually import eventually
from tests.support.objects import s3_objects
from tests.support.stack import Stack


async def test_a_server_that_is_not_there_is_unavailable_in_every_call() -> None:
    objects = S3Objects(
        f"127.0.0.1:{free_ports()['s3']}", access_key="a", secret_key="b" * 8, bucket="perdure", secure=False
    )
    calls = [
        objects.put("key", b"data"),
        objects.get("key"),
        objects.stat("key"),
        objects.compose("key", ["other"]),
        objects.delete(["key"]),
        objects.delete(["key", "other"]),
        objects.list_keys("key"),
        objects.ensure_bucket(),
        objects.ping(),
    ]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert error.neighbour == "objects"
    await objects.close()


async def test_a_wrong_secret_is_named(idle_stack: Stack) -> None:
    await idle_stack.start("s3")
    objects = S3Objects(**(idle_stack.objects | {"secret_key": "wrong-secret"}))
    with pytest.raises(Unavailable, match="SignatureDoesNotMatch"):
        await objects.put("key", b"data")
    await objects.close()


async def test_a_bucket_that_is_missing_is_named_and_can_be_made(idle_stack: Stack) -> None:
    await idle_stack.start("s3")
    objects = S3Objects(**(idle_stack.objects | {"bucket": f"other-{uuid.uuid4()}"}))
    with pytest.raises(Unavailable, match="no bucket"):
        await objects.ping()
    await asyncio.gather(objects.ensure_bucket(), objects.ensure_bucket())
    await objects.ping()
    await objects.close()


async def test_what_was_acknowledged_survives_a_kill_of_the_server(idle_stack: Stack) -> None:
    objects = await s3_objects(idle_stack)
    prefix = f"killed/{uuid.uuid4()}"
    acknowledged: list[str] = []

    async def write() -> None:
        for number in range(10_000):
            ref = await objects.put(f"{prefix}/{number}", b"%d" % number)
            acknowledged.append(ref.key)

    writing = asyncio.create_task(write())
    await eventually(lambda: len(acknowledged) >= 20)
    await idle_stack.kill("s3")
    with pytest.raises(Unavailable):
        await writing
    await idle_stack.start("s3")
    for key in acknowledged[-40:]:
        assert await objects.get(key) == key.rpartition("/")[2].encode()
    await objects.close()
