"""What every object store promises; the stand-in and the real one pass the same tests."""

import hashlib
import io
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.objects.base import PART_SIZE_BYTES_MIN, Objects
from adapters.objects.memory import MemoryObjects
from domain.errors import NotFound
from tests.support.objects import s3_objects
from tests.support.stack import Stack

MIB = 1024**2


@pytest.fixture(params=["memory", "s3"])
async def objects(request: pytest.FixtureRequest, idle_stack: Stack) -> AsyncIterator[Objects]:
    store: Objects = MemoryObjects() if request.param == "memory" else await s3_objects(idle_stack)
    yield store
    await store.close()


@pytest.fixture
def prefix() -> str:
    return f"contract/{uuid.uuid4()}"


def noise(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)  # noqa: S311  # content, not a secret


async def test_a_key_that_is_not_there_is_not_found(objects: Objects, prefix: str) -> None:
    missing = f"{prefix}/missing"
    with pytest.raises(NotFound):
        await objects.get(missing)
    with pytest.raises(NotFound):
        await objects.get(missing, size_bytes=0)
    with pytest.raises(NotFound):
        await objects.stat(missing)
    with pytest.raises(NotFound):
        _ = [chunk async for chunk in objects.stream(missing)]
    with pytest.raises(NotFound):
        await objects.compose(f"{prefix}/whole", [missing])
    await objects.delete([missing])
    await objects.delete([missing, f"{prefix}/also-missing"])
    assert await objects.list_keys(prefix) == []


async def test_sources_that_cannot_be_composed_are_refused(objects: Objects, prefix: str) -> None:
    await objects.put(f"{prefix}/small", b"small")
    with pytest.raises(ValueError, match=r"."):
        await objects.compose(f"{prefix}/whole", [])
    with pytest.raises(ValueError, match=str(PART_SIZE_BYTES_MIN)):
        await objects.compose(f"{prefix}/whole", [f"{prefix}/small", f"{prefix}/small"])
    with pytest.raises(NotFound):
        await objects.stat(f"{prefix}/whole")


async def test_a_file_that_is_shorter_than_promised_is_not_stored(objects: Objects, prefix: str) -> None:
    with pytest.raises(OSError, match="expected"):
        await objects.put_file(f"{prefix}/short", io.BytesIO(b"abc"), size_bytes=4)
    with pytest.raises(NotFound):
        await objects.stat(f"{prefix}/short")


@pytest.mark.parametrize("data", [b"", b"x", noise(70_000)])
async def test_what_is_put_is_got(objects: Objects, prefix: str, data: bytes) -> None:
    ref = await objects.put(f"{prefix}/it", data)
    assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await objects.get(ref.key) == data
    assert (await objects.stat(ref.key)).size_bytes == len(data)


async def test_any_range_is_read_and_the_end_is_an_end(objects: Objects, prefix: str) -> None:
    data = noise(3 * MIB + 17)
    key = (await objects.put(f"{prefix}/it", data)).key
    for offset, size in [(0, 1), (5, 0), (MIB, MIB), (len(data) - 1, 1), (len(data) - 3, 100), (0, len(data) + 1)]:
        assert await objects.get(key, offset=offset, size_bytes=size) == data[offset : offset + size]
    assert await objects.get(key, offset=2) == data[2:]
    assert await objects.get(key, offset=len(data)) == b""
    assert await objects.get(key, offset=len(data) + 9, size_bytes=9) == b""
    chunks = [chunk async for chunk in objects.stream(key)]
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= MIB


async def test_a_reader_may_leave_early(objects: Objects, prefix: str) -> None:
    data = noise(4 * MIB)
    key = (await objects.put(f"{prefix}/it", data)).key
    for _ in range(12):  # More often than there are connections.
        chunks = objects.stream(key)
        assert data.startswith(await anext(chunks))
        await chunks.aclose()  # type: ignore[attr-defined]  # each implementation is an async generator
    assert await objects.get(key) == data


async def test_a_second_put_replaces_the_first(objects: Objects, prefix: str) -> None:
    await objects.put(f"{prefix}/it", b"first and longer")
    await objects.put(f"{prefix}/it", b"second")
    assert await objects.get(f"{prefix}/it") == b"second"


async def test_a_file_is_stored_from_where_it_stands(objects: Objects, prefix: str, tmp_path: Path) -> None:
    data = noise(20 * MIB + 3)
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + data + b"left")
    with path.open("rb") as file:
        file.seek(7)
        ref = await objects.put_file(f"{prefix}/it", file, size_bytes=len(data), content_type="text/plain")
    assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await objects.get(ref.key) == data


async def test_objects_are_composed_in_order_and_outlive_their_sources(objects: Objects, prefix: str) -> None:
    parts = [noise(PART_SIZE_BYTES_MIN, 1), noise(PART_SIZE_BYTES_MIN + 3, 2), b"tail"]
    sources = [(await objects.put(f"{prefix}/{number}", part)).key for number, part in enumerate(parts)]
    whole = await objects.compose(f"{prefix}/whole", sources)
    one = await objects.compose(f"{prefix}/one", sources[-1:])
    await objects.delete(sources)
    assert await objects.list_keys(prefix) == [f"{prefix}/one", f"{prefix}/whole"]
    assert whole.size_bytes == sum(map(len, parts))
    assert await objects.get(whole.key) == b"".join(parts)
    assert await objects.get(one.key) == b"tail"


async def test_listing_goes_by_prefix_and_into_folders(objects: Objects, prefix: str) -> None:
    for name in ("a/1", "a/2/deep", "ab", "b"):
        await objects.put(f"{prefix}/{name}", b"x")
    assert sorted(await objects.list_keys(f"{prefix}/a")) == [f"{prefix}/{name}" for name in ("a/1", "a/2/deep", "ab")]
    assert sorted(await objects.list_keys(f"{prefix}/a/")) == [f"{prefix}/{name}" for name in ("a/1", "a/2/deep")]


async def test_the_bucket_may_be_ensured_again_and_the_store_answers(objects: Objects) -> None:
    await objects.ensure_bucket()
    await objects.ping()
