"""Authenticated GETs a second, beside the same server's answer that needs no database."""

import asyncio
import os
import sys
import time
from pathlib import Path

from bench.result import Figure, figure, median, percentile
from tests.support.platform import OWNER, Platform

CONNECTIONS = 16
SECONDS = 4.0
ROUNDS = 5


async def api_throughput(platform: Platform, scratch: Path) -> list[Figure]:
    """`GET /api/v1/projects/{owner}/{name}` with a token, and `GET /healthz` as the limit of the HTTP stack.

    The two take turns, and the middle round counts: a shared machine is not equally fast for half a minute.
    """
    await platform.push(await platform.repository(scratch / "asked", {"a": "b"}), "asked")
    limits, asked = [], []
    for _ in range(ROUNDS):
        limits.append(await _load(platform, "/healthz"))
        asked.append(await _load(platform, f"/api/v1/projects/{OWNER}/asked"))
    limit = median([rate for rate, _ in limits])
    rate, p99 = median([rate for rate, _ in asked]), median([p99 for _, p99 in asked])
    return [
        figure(
            "authenticated GET with one SELECT",
            rate,
            "requests/s",
            goal=("at least", 1000),
            limit=("GET /healthz on the same server", limit),
        ),
        figure("authenticated GET with one SELECT, p99", p99 * 1000, "ms", goal=("at most", 30)),
    ]


async def _load(platform: Platform, path: str) -> tuple[float, float]:
    """The load comes from a process of its own, so that the client's work is not on this loop."""
    host, port = platform.url.removeprefix("http://").split(":")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.api", host, port, path,
        env={"PERDURE_BENCH_TOKEN": platform.token, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    rate, p99 = out.decode().split()
    return float(rate), float(p99)


async def _connection(host: str, port: int, request: bytes, until: float, seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        seconds.append(time.monotonic() - began)
    writer.close()


async def _main(host: str, port: int, path: str, token: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    warm_up: list[float] = []
    await _connection(host, port, request, time.monotonic() + 0.5, warm_up)
    seconds: list[float] = []
    began = time.monotonic()
    await asyncio.gather(*(_connection(host, port, request, began + SECONDS, seconds) for _ in range(CONNECTIONS)))
    print(len(seconds) / (time.monotonic() - began), percentile(seconds, 99))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], os.environ["PERDURE_BENCH_TOKEN"]))
