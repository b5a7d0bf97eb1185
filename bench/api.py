"""Authenticated GETs a second, beside the same server's answer that needs no database."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.result import Figure, figure, median, percentile
from tests.support.platform import OWNER, Platform

CONNECTIONS = 16
SECONDS = 4.0
WARM_UP_SECONDS = 0.5
ANSWER_SECONDS_MAX = 10.0
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
    limit, limit_p99 = _middle(limits)
    rate, p99 = _middle(asked)
    return [
        figure(
            "authenticated GET with one SELECT",
            rate,
            "requests/s",
            goal=("at least", 1000),
            limit=("GET /healthz on the same server", limit),
        ),
        figure(
            "authenticated GET with one SELECT, p99",
            p99 * 1000,
            "ms",
            goal=("at most", 30),
            limit=("GET /healthz on the same server", limit_p99 * 1000),
        ),
    ]


def _middle(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    return median([rate for rate, _ in rounds]), median([p99 for _, p99 in rounds])


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


class _Asker(asyncio.Protocol):
    """One connection that asks the next time as soon as it has its answer.

    Bare of streams: whatever the client costs is missing to the server beside it.
    """

    def __init__(self, request: bytes, until: float) -> None:
        self.request = request
        self.until = until
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self.answer = b""
        self.began = time.monotonic()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        now = time.monotonic()
        self.seconds.append(now - self.began)
        if now < self.until:
            self._ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self.seconds:
            self.done.set_result(None)
        else:
            self.done.set_exception(error or ConnectionError(f"the server closed the connection: {self.answer!r}"))


async def _ask_at_once(host: str, port: int, request: bytes, *, connections: int, seconds: float) -> list[float]:
    """How long each answer took, in seconds."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    made = [await loop.create_connection(lambda: _Asker(request, until), host, port) for _ in range(connections)]
    async with asyncio.timeout(seconds + ANSWER_SECONDS_MAX):
        await asyncio.gather(*(asker.done for _, asker in made))
    return [taken for _, asker in made for taken in asker.seconds]


async def _main(host: str, port: int, path: str, token: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    await _ask_at_once(host, port, request, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
    began = time.monotonic()
    seconds = await _ask_at_once(host, port, request, connections=CONNECTIONS, seconds=SECONDS)
    print(len(seconds) / (time.monotonic() - began), percentile(seconds, 99))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], os.environ["PERDURE_BENCH_TOKEN"]))
