"""The real process: `python -m api.main` with a settings file."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.api import listening_socket
from tests.support.eventually import eventually
from tests.support.stack import Stack, TestDatabase


@asynccontextmanager
async def _process(stack: Stack, **overrides: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "PERDURE_SETTINGS": str(stack.settings_path), **overrides}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.main",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_settings_that_cannot_be_used_are_named_line_by_line(idle_stack: Stack) -> None:
    async with _process(idle_stack, PERDURE_API__PORT="no number", PERDURE_DATABASE__POOL_SIZE="0") as process:
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"  api.port: " in err
    assert b"  database.pool_size: " in err
    assert b"Traceback" not in err


async def test_a_taken_port_is_told_in_one_line(idle_stack: Stack) -> None:
    with listening_socket() as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        async with _process(idle_stack, PERDURE_API__PORT=port) as process:
            _, err = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}".encode() in err
    assert b"Traceback" not in err


async def test_it_serves_with_its_neighbours_away_prepares_when_they_come_and_ends_in_order(
    idle_stack: Stack, migrated: TestDatabase, tmp_path: Path
) -> None:
    with listening_socket() as free:
        port = free.getsockname()[1]
    (tmp_path / "password").write_text("a first password\n")
    overrides = {
        "PERDURE_API__PORT": str(port),
        "PERDURE_DATABASE__URL": migrated.url,
        "PERDURE_TEMPORAL__ADDRESS": "127.0.0.1:1",
        "PERDURE_BUS__URL": "redis://127.0.0.1:1/0",
        "PERDURE_OBJECTS__ENDPOINT": "127.0.0.1:1",
        "PERDURE_REPOSITORIES__ROOT": str(tmp_path / "repositories"),
        "PERDURE_ACCESS__ADMIN_PASSWORD_FILE": str(tmp_path / "password"),
    }
    async with (
        _process(idle_stack, **overrides) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):

        async def first_token() -> httpx.Response | None:
            try:
                made = await client.post(
                    "/api/v1/tokens",
                    auth=("admin", "a first password"),
                    json={"name": "t", "scopes": ["project:create"], "expires_in_days": 1},
                )
            except httpx.TransportError:
                return None
            return made if made.status_code == 201 else None

        token = await eventually(first_token, timeout_seconds=60)
        assert token is not None
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["database"]["state"] == "ready"
        assert ready.json()["dependencies"]["bus"]["state"] == "away"
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
