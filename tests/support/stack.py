"""The embedded servers for tests: started once a session on free ports, each only when a test asks for it."""

import asyncio
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local.credentials import ServerCredentials
from deploy.local.ports import free_ports
from deploy.local.postgres import APP_ROLE, OWNER_ROLE, Postgres
from deploy.local.private_files import private_directory
from deploy.local.process import Child, start
from deploy.local.servers import embedded_servers
from deploy.local.settings_file import write_settings
from settings.values import ObjectsConnection
from tests.support.eventually import eventually


@dataclass(frozen=True)
class TestDatabase:
    """One database of a test's own.

    Attributes:
        name: In the cluster.
        url: As ``perdure_app``, which serves requests.
        owner_url: As ``perdure_owner``, which migrates.
    """

    __test__ = False

    name: str
    url: str
    owner_url: str


class Stack:
    """PostgreSQL, Valkey, S3 and Temporal in one directory; the same code as ``perdure up`` runs.

    The attributes have the values of ``settings.toml``, which lies at ``settings_path``.
    """

    def __init__(self, directory: Path, *, databases_directory: Path | None = None) -> None:
        """Makes the settings; starts nothing.

        Args:
            databases_directory: Where PostgreSQL keeps its data instead, without asking the disk to keep it too. That
                guards against the end of the whole machine: what was written before a server's SIGKILL is there after
                it all the same.
        """
        self.directory = private_directory(directory)
        self.ports = free_ports()
        credentials = ServerCredentials.load_or_generate(directory / "servers.json")
        self.servers = embedded_servers(self.directory, ports=self.ports, credentials=credentials)
        self._flags: dict[str, tuple[str, ...]] = {}
        if databases_directory is not None:
            postgres = Postgres(databases_directory, ports=self.ports, credentials=credentials.postgres)
            self.servers = replace(self.servers, postgres=postgres)
            self._flags["postgres"] = ("-c", "fsync=off")
        self.settings_path = write_settings(self.directory, servers=self.servers, ports=self.ports).path
        self.database_url = self.servers.postgres.url(APP_ROLE)
        self.owner_url = self.servers.postgres.url(OWNER_ROLE)
        self.temporal_address = self.servers.temporal.address
        self.temporal_namespace = self.servers.temporal.namespace
        self.temporal_ui_url = self.servers.temporal.ui_url
        self.bus_url = self.servers.valkey.url
        self.objects = ObjectsConnection(
            endpoint=self.servers.s3.address,
            access_key=self.servers.s3.credentials.access_key,
            secret_key=self.servers.s3.credentials.secret_key,
            bucket=self.servers.s3.bucket,
            secure=False,
            region="us-east-1",
        )
        self._parts = {part.name: part for part in self.servers.parts}
        self._children: dict[str, Child] = {}
        self._locks = {name: asyncio.Lock() for name in self._parts}

    async def start(self, name: str) -> None:
        """Starts ``postgres``, ``valkey``, ``s3`` or ``temporal`` if it does not run, and waits until it is ready."""
        async with self._locks[name]:
            child = self._children.get(name)
            if child is not None and child.alive:
                return
            part = self._parts[name]
            await part.prepare()
            log_path = self.directory / f"{name}.log"
            launch = part.launch()
            launch = replace(launch, argv=(*launch.argv, *self._flags.get(name, ())))
            child = await start(launch, log_path=log_path, stop_signal=part.stop_signal)
            self._children[name] = child

            async def ready() -> bool:
                assert child.alive, f"{name} ended at its start:\n{log_path.read_text(errors='replace')[-3000:]}"
                return await part.is_ready()

            assert await eventually(ready, timeout_seconds=part.ready_timeout_seconds)
            await part.complete()

    async def start_all(self) -> None:
        """Starts all four at the same time."""
        await asyncio.gather(*(self.start(name) for name in self._locks))

    async def stop(self, name: str) -> None:
        """Stops a server in its orderly way."""
        part = self._parts[name]
        if name in self._children:
            await self._children.pop(name).stop(part.stop_signal, timeout_seconds=part.stop_timeout_seconds)
            await part.clean_up()

    async def kill(self, name: str) -> None:
        """SIGKILL, as a crash; ``start`` brings the server back on the same port with its data."""
        await self._children.pop(name).kill()

    async def restart(self, name: str, *, kill: bool = False) -> None:
        """Stops or kills a server and starts it again."""
        await (self.kill(name) if kill else self.stop(name))
        await self.start(name)

    def pid(self, name: str) -> int:
        """The process of a running server."""
        return self._children[name].pid

    async def stop_all(self) -> None:
        """Stops what runs, the database last."""
        for name in ("temporal", "s3", "valkey", "postgres"):
            await self.stop(name)

    async def create_database(self, *, template: str | None = None) -> TestDatabase:
        """A fresh database, empty or a copy of ``template`` (to which nobody may be connected)."""
        await self.start("postgres")
        name = f"test_{secrets.token_hex(6)}"
        copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        await self._execute(f"CREATE DATABASE {name} OWNER {OWNER_ROLE}{copied}")
        postgres = self.servers.postgres
        return TestDatabase(name, postgres.url(APP_ROLE, database=name), postgres.url(OWNER_ROLE, database=name))

    async def drop_database(self, database: TestDatabase) -> None:
        """Removes it and ends every connection to it."""
        await self._execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await self.servers.postgres.connect(database="postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
