"""Bodies are streamed: a large repository passes through the API without staying in its memory."""

import asyncio
import os
import time
from pathlib import Path

import httpx
import psutil

from tests.support.git import Git, new_clone
from tests.support.git_server import GitServer, git_server
from tests.support.stack import Stack, TestDatabase

FILES = 9
FILE_SIZE_BYTES = 8 * 1024**2
GROWTH_BYTES_MAX = 20 * 1024**2


class _Watch:
    """The largest memory of a process, and the slowest answer of the API, while something runs."""

    def __init__(self, server: GitServer) -> None:
        self._server = server
        self.rss_bytes = 0
        self.slowest_seconds = 0.0

    async def run(self) -> None:
        process = psutil.Process(self._server.process.pid)
        async with httpx.AsyncClient(base_url=self._server.url, trust_env=False, timeout=30) as client:
            while True:
                started = time.monotonic()
                assert (await client.get("/healthz")).status_code == 200
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - started)
                self.rss_bytes = max(self.rss_bytes, process.memory_info().rss)
                await asyncio.sleep(0.02)


async def test_a_large_push_and_clone_cost_little_memory(
    idle_stack: Stack, migrated: TestDatabase, tmp_path: Path
) -> None:
    async with git_server(idle_stack, migrated, tmp_path / "repositories") as server:
        user, token = await server.person()
        url = f"{server.url}/{user.name}/large.git"
        small = await new_clone(tmp_path / "small", token=token.secret, url=f"{server.url}/{user.name}/small.git")
        await small.commit({"a": "1"})
        await small("push", "-q", "origin", "main")
        git = await new_clone(tmp_path / "work", token=token.secret, url=url)
        # What the client does with its files is not the matter here: no compression, no search for deltas.
        await git("config", "core.compression", "0")
        await git("config", "core.bigFileThreshold", "1m")
        for number in range(FILES):
            (git.directory / f"f{number}").write_bytes(os.urandom(FILE_SIZE_BYTES))
        await git.commit({})
        before = server.process.memory_info().rss
        watch = _Watch(server)
        watching = asyncio.create_task(watch.run())
        await git("push", "-q", "origin", "main")
        await Git(tmp_path, token.secret)("clone", "-q", "--bare", url, "c")
        watching.cancel()
        await asyncio.wait([watching])
        assert watching.cancelled()
        assert watch.rss_bytes - before < GROWTH_BYTES_MAX
        # Generous, because the machine is busy with git itself: without streaming it would be many seconds.
        assert watch.slowest_seconds < 2
