"""Promise D1 at the git server: the API is killed at many points of a push; the runs come exactly once."""

import asyncio
import base64
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from activities.git import GitActivities, PushInProgress
from adapters.bus.memory import MemoryBus
from adapters.repositories.evidence import ref_value
from domain.git.pkt_line import FLUSH, encode
from domain.git.refs import ZERO_SHA
from tests.support.eventually import eventually
from tests.support.git import Git, new_clone
from tests.support.git_server import GitServer, git_server, settle
from tests.support.stack import Stack, TestDatabase

pytestmark = pytest.mark.chaos

PIPELINE = "steps:\n  - name: build\n    commands: [echo hello]\n"
KILLS = 5
PUSHES_PER_KILL = 4


@pytest.fixture(scope="module")
async def installation(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GitServer]:
    made = await idle_stack.create_database(template=template_database.name)
    async with git_server(idle_stack, made, tmp_path_factory.mktemp("killed") / "repositories") as running:
        yield running


@pytest.fixture
async def server(installation: GitServer) -> GitServer:
    """Runs again, whatever the test before did to it."""
    if not installation.runs:
        await installation.start()
    return installation


@pytest.fixture
async def git(server: GitServer, tmp_path: Path) -> Git:
    """A work tree whose project holds one commit with a pipeline file."""
    user, token = await server.person()
    made = await new_clone(tmp_path / "work", token=token.secret, url=f"{server.url}/{user.name}/demo.git")
    await made.commit({".platform.yaml": PIPELINE})
    await made("push", "-q", "origin", "main")
    return made


async def rows(server: GitServer, statement: str) -> list[Any]:
    async with server.database.transaction() as session:
        return list(await session.execute(text(statement)))


async def newest_project(server: GitServer) -> UUID:
    """Each test makes one."""
    [row] = await rows(server, "SELECT id FROM projects ORDER BY created_at DESC LIMIT 1")
    found: UUID = row.id
    return found


async def settle_all(server: GitServer) -> None:
    """What the sweep does, without its 15 seconds of patience; twice, because it may be repeated."""
    activities = GitActivities(server.database, server.repositories, MemoryBus())
    for _ in range(2):
        for row in await rows(server, "SELECT id FROM pushes ORDER BY created_at"):
            push_id: UUID = row.id

            async def settled(push_id: UUID = push_id) -> bool:
                try:
                    await settle(activities, push_id)
                except PushInProgress:
                    return False
                return True

            await eventually(settled, timeout_seconds=30)


async def check_runs(server: GitServer) -> None:
    """Every branch that a push made has one run at its commit, every other push none."""
    project_id = await newest_project(server)
    branches = await server.repositories.branches(project_id)
    refs = {f"refs/heads/{branch.name}": branch.commit.sha for branch in branches}
    found = [row for row in await rows(server, "SELECT * FROM pipelines") if row.project_id == project_id]
    runs = [(row.git_ref, row.commit_sha) for row in found]
    assert sorted(runs) == sorted(refs.items())


async def test_killed_while_the_pack_is_under_way(server: GitServer, git: Git) -> None:
    address = (await git("remote", "get-url", "origin")).stdout.strip().removeprefix(server.url)
    sha = "1" * 40
    body = encode(f"{ZERO_SHA} {sha} refs/heads/half\0report-status side-band-64k".encode()) + FLUSH
    # Five objects, and of the first one (a blob of five bytes) the header only: git waits for more.
    body += b"PACK\0\0\0\2\0\0\0\5\x35\x78\x9c"
    credentials = base64.b64encode(f"x:{git.token}".encode()).decode()
    head = (
        f"POST {address}/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {len(body) + 1000}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        await eventually(server.git_processes)
        opened = await rows(server, "SELECT status FROM pushes ORDER BY created_at DESC LIMIT 1")
        assert opened[0].status == "open"
        await server.kill()
    await eventually(lambda: not server.git_processes())
    await settle_all(server)
    [last] = await rows(server, "SELECT status, outcome FROM pushes ORDER BY created_at DESC LIMIT 1")
    assert (last.status, last.outcome["moved"]) == ("settled", [])
    await check_runs(server)


async def test_killed_at_the_moment_when_the_ref_has_moved(server: GitServer, git: Git) -> None:
    repository = server.repositories.path(await newest_project(server))
    sha = await git.commit({"a": "1"})
    pushing = await git.start("push", "origin", "main:side")
    await eventually(lambda: ref_value(repository, "refs/heads/side") == sha, interval_seconds=0.0005)
    await server.kill()
    await pushing.communicate()
    await settle_all(server)
    await check_runs(server)


async def test_killed_anywhere_in_several_pushes_at_once(server: GitServer, git: Git) -> None:
    chance = random.Random(7)  # noqa: S311  # when to kill is no secret
    for kill in range(KILLS):
        known = len(await rows(server, "SELECT 1 FROM pushes"))
        pushing = []
        for number in range(PUSHES_PER_KILL):
            sha = await git.commit({"n": f"{kill} {number}", "noise": os.urandom(200_000)})
            pushing.append(await git.start("push", "origin", f"{sha}:refs/heads/b{kill}-{number}"))

        async def has_begun(known: int = known) -> bool:
            return len(await rows(server, "SELECT 1 FROM pushes")) > known

        # From the first row on, anywhere in the quarter of a second in which these pushes happen.
        await eventually(has_begun, interval_seconds=0.001)
        timer = asyncio.Event()
        asyncio.get_running_loop().call_later(chance.random() * 0.25, timer.set)
        await timer.wait()
        await server.kill()
        await asyncio.gather(*(process.communicate() for process in pushing))
        await eventually(lambda: not server.git_processes(), timeout_seconds=30)
        await server.start()
    await settle_all(server)
    await check_runs(server)
    assert {row.status for row in await rows(server, "SELECT DISTINCT status FROM pushes")} == {"settled"}
    # A push that git acknowledged can be repeated as a no-op, one that it did not can be made again.
    await git("push", "-q", "origin", "main:refs/heads/after")


async def test_terminating_the_server_ends_its_git_processes(server: GitServer, git: Git) -> None:
    (git.directory / "large").write_bytes(os.urandom(30_000_000))
    await git.commit({})
    pushing = await git.start("push", "origin", "main")
    await eventually(server.git_processes, interval_seconds=0.002)
    await server.kill(signal.SIGTERM)
    await pushing.communicate()
    await eventually(lambda: not server.git_processes())
