import asyncio
from contextlib import suppress

import httpx
import pytest

from domain.errors import InvalidInput
from worker.health import ALIVE, REQUEST_SIZE_BYTES_MAX, SILENT, health_endpoint


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "request_bytes", [b"", b"\x16\x03\x01\x00", b"GET", b"\r\n\r\n", b"x" * (REQUEST_SIZE_BYTES_MAX * 2)]
)
async def test_noise_is_survived(request_bytes: bytes) -> None:
    async with health_endpoint(0, lambda: {"status": ALIVE}) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        writer.write_eof()
        with suppress(ConnectionResetError):  # closed with our noise unread
            assert b"200 OK" not in await reader.read()
        writer.close()
        assert b"200 OK" in await raw(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.1", b"404"),
        (b"GET /healthz/../etc HTTP/1.1", b"404"),
        (b"POST /healthz HTTP/1.1", b"405"),
        (b"GET /healthz?verbose HTTP/1.1", b"200"),
    ],
)
async def test_only_the_one_question_is_answered(line: bytes, status: bytes) -> None:
    async with health_endpoint(0, lambda: {"status": ALIVE}) as port:
        assert (await raw(port, line + b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)


async def test_a_worker_that_is_not_alive_answers_503_with_the_reason() -> None:
    async with (
        health_endpoint(0, lambda: {"status": SILENT, "queue": "x"}) as port,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        head = await client.head(f"http://127.0.0.1:{port}/healthz")
    assert answer.status_code == head.status_code == 503
    assert answer.json()["queue"] == "x"


async def test_a_taken_port_is_named_with_its_setting() -> None:
    async with health_endpoint(0, lambda: {"status": ALIVE}) as port:
        with pytest.raises(InvalidInput, match=rf"port {port}.*worker\.health_port"):
            async with health_endpoint(port, lambda: {"status": ALIVE}):
                pass
