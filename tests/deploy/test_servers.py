import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
import urllib3
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from deploy.local.part import PartFailed
from deploy.local.ports import is_free
from tests.support.stack import Stack


async def test_a_wrong_password_is_refused_by_postgres(stack: Stack) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host="127.0.0.1", port=stack.ports["postgres"], user="perdure_app", password="wrong", database="perdure"
        )


async def test_valkey_refuses_a_client_without_password(stack: Stack) -> None:
    client = Redis(host="127.0.0.1", port=stack.ports["valkey"], retry=Retry(NoBackoff(), 0))
    with pytest.raises(AuthenticationError):
        await client.ping()
    await client.aclose()


async def test_s3_and_its_inner_ports_refuse_anonymous_reads_and_writes(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        listing = await client.get(f"http://{stack.objects['endpoint']}/{stack.objects['bucket']}")
        assert listing.status_code == 403
        filer = f"http://127.0.0.1:{stack.ports['s3_filer']}/buckets/{stack.objects['bucket']}/stolen"
        assert (await client.put(filer, content=b"x")).status_code == 401
        assert (await client.get(filer)).status_code == 401


async def test_no_credential_is_on_a_command_line(stack: Stack) -> None:
    keys = stack.servers.s3.credentials
    passwords = stack.servers.postgres.credentials
    secret_texts = [*vars(keys).values(), *vars(passwords).values(), stack.servers.valkey.password]
    for name in ("postgres", "valkey", "s3", "temporal"):
        root = psutil.Process(stack.pid(name))
        for process in [root, *root.children(recursive=True)]:
            line = " ".join(process.cmdline())
            assert not [text for text in secret_texts if text in line]


async def test_files_are_for_their_owner_only(stack: Stack) -> None:
    postgres = stack.servers.postgres
    folders = [path for path in stack.directory.iterdir() if path.is_dir()]
    for folder in (stack.directory, *folders, postgres.directory, postgres.data_directory):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    private = ["settings.toml", "settings.ours.json", "servers.json", "admin-password"]
    private += ["valkey/valkey.conf", "s3/s3.json", "s3/security.toml"]
    for path in (*(stack.directory / name for name in private), postgres.data_directory / "pg_hba.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert not (postgres.directory / "initial-password").exists()


async def test_servers_listen_on_loopback_and_on_the_ports_that_they_were_given_only(stack: Stack) -> None:
    for name in ("postgres", "valkey", "s3", "temporal"):
        for connection in psutil.Process(stack.pid(name)).net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == "127.0.0.1", (name, connection)
                # Temporal's inner services take ports of their own choice.
                assert name == "temporal" or connection.laddr.port in stack.ports.values(), (name, connection)


async def test_the_serving_role_neither_owns_nor_creates_anything(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database_url.replace("+asyncpg", ""))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE stolen (id int)")
        encoding, collate = await connection.fetchrow(
            "SELECT pg_encoding_to_char(encoding), datlocale FROM pg_database WHERE datname = current_database()"
        )
        assert (encoding, collate) == ("UTF8", "C.UTF-8")
    finally:
        await connection.close()


async def test_temporal_keeps_closed_workflows_for_thirty_days(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{stack.ports['temporal_http']}/api/v1/namespaces/perdure")
    assert answer.json()["config"]["workflowExecutionRetentionTtl"] == "2592000s"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Stack]:
    """Servers that a test may stop and kill; none runs yet."""
    own = Stack(tmp_path / "own")
    yield own
    await own.stop_all()


async def test_postgres_keeps_its_rows(own: Stack) -> None:
    draft = own.directory / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")  # as an initdb that was cut off leaves it
    await own.start("postgres")
    connection = await asyncpg.connect(own.owner_url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    connection.terminate()
    for kill in (False, True):
        await own.restart("postgres", kill=kill)
        connection = await asyncpg.connect(own.owner_url.replace("+asyncpg", ""))
        assert await connection.fetchval("SELECT number FROM kept") == 7
        await connection.close()
    await own.stop("postgres")
    assert is_free(own.ports["postgres"])


async def test_postgres_starts_beside_a_stale_pid_file_of_a_process_that_lives(own: Stack) -> None:
    await own.start("postgres")
    data = own.servers.postgres.data_directory
    lines = (data / "postmaster.pid").read_text().splitlines()
    await own.kill("postgres")
    recycled = await asyncio.create_subprocess_exec("sleep", "60")
    (data / "postmaster.pid").write_text("\n".join([str(recycled.pid), *lines[1:]]) + "\n")
    await own.start("postgres")
    assert recycled.returncode is None
    recycled.kill()
    await recycled.wait()


def kept_in_s3(own: Stack) -> bytes:
    with urllib3.PoolManager() as pool:
        answer = own.servers.s3.client(pool).get_object("perdure", "a/b")
        content: bytes = answer.read()
        answer.close()
    return content


def existing_sockets(stack: Stack) -> list[Path]:
    return [path for path in stack.servers.s3.sockets() if path.exists()]


async def test_s3_keeps_its_objects_and_leaves_no_socket_behind(own: Stack) -> None:
    await own.start("s3")
    assert existing_sockets(own)
    with urllib3.PoolManager() as pool:
        own.servers.s3.client(pool).put_object("perdure", "a/b", io.BytesIO(b"kept"), 4)
    await own.restart("s3", kill=True)
    assert kept_in_s3(own) == b"kept"
    await own.stop("s3")
    assert not existing_sockets(own)
    await own.start("s3")
    assert kept_in_s3(own) == b"kept"


async def test_valkey_and_temporal_come_back_after_sigkill(own: Stack) -> None:
    await asyncio.gather(own.start("valkey"), own.start("temporal"))
    await asyncio.gather(own.restart("valkey", kill=True), own.restart("temporal", kill=True))
    assert await own.servers.valkey.is_ready()
    assert await own.servers.temporal.is_ready()
    await own.stop_all()
    assert all(is_free(port) for port in (*own.servers.temporal.ports, *own.servers.valkey.ports))
    assert not await own.servers.valkey.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
async def test_s3_does_not_speak_through_another_users_socket(own: Stack) -> None:
    foreign = own.servers.s3.sockets()[-1]
    descriptor = os.open(foreign, os.O_CREAT | os.O_EXCL)
    os.fchown(descriptor, 12345, 12345)
    os.close(descriptor)
    try:
        with pytest.raises(PartFailed, match="belongs to user 12345"):
            await own.start("s3")
        assert existing_sockets(own) == [foreign]
    finally:
        os.unlink(foreign)  # noqa: PTH108  # ruff takes its method for a blocking call, and this one not
