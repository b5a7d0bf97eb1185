"""The real API program in a process of its own, to be killed and measured; Temporal is away, so pushes stay open."""

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pytest
from temporalio.testing import ActivityEnvironment

from activities.git import GitActivities
from adapters.repositories.git_cli import GitRepositories
from api.main import main
from api.services import Limits
from database.engine import Database
from deploy.local.loopback import PLAIN_HTTP_ONLY
from domain.pipelines.messages import SettlePushInput, SettlePushResult
from tests.support.api import (
    ApiServer,
    Person,
    listening_socket,
    services_for_tests,
    serving,
    url_of,
    with_temporal_away,
)
from tests.support.audit import AUDIT_KEYS, AUDIT_SECRET
from tests.support.eventually import eventually
from tests.support.factories import TestToken, TestUser, make_token, make_user
from tests.support.forked import ended, fork
from tests.support.stack import Stack, TestDatabase


class GitServer:
    """One installation of the API: the same database, repositories and port over all of its lives."""

    def __init__(self, stack: Stack, made: TestDatabase, database: Database, root: Path) -> None:
        with listening_socket() as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = database
        self._root = root
        self.repositories = GitRepositories(root, object_size_bytes_max=10**9, push_size_bytes_max=10**10)
        self._environment = {
            "PERDURE_SETTINGS": str(stack.settings_path),
            "PERDURE_DATABASE__URL": made.url,
            "PERDURE_API__PORT": str(self.port),
            "PERDURE_API__PUBLIC_URL": self.url,
            "PERDURE_REPOSITORIES__ROOT": str(root),
            "PERDURE_TEMPORAL__ADDRESS": "127.0.0.1:1",
            "PERDURE_AUDIT__SECRET_KEY": base64.b64encode(AUDIT_SECRET).decode(),
        }
        self._log = root.parent / "api.log"
        self._process: ForkServerProcess | None = None

    @property
    def process(self) -> psutil.Process:
        """The running API."""
        assert self._process is not None
        assert self._process.pid is not None
        return psutil.Process(self._process.pid)

    @property
    def runs(self) -> bool:
        """Whether the API is there."""
        return self._process is not None and self._process.is_alive()

    async def start(self) -> None:
        """Starts the API and waits until it serves."""
        # In a thread: the first of a session waits for the imports.
        started = self._process = await asyncio.to_thread(fork, _run_api, self._environment, self._log)

        async def serves() -> bool:
            assert started.is_alive(), self._log.read_text()[-3000:]
            try:
                async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY) as client:
                    return (await client.get(f"{self.url}/healthz", timeout=2)).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(serves, timeout_seconds=60, interval_seconds=0.05)

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends the API; its git processes are on their own."""
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                self.process.send_signal(number)
            await ended(self._process)
            self._process = None

    async def person(self) -> tuple[TestUser, TestToken]:
        """A user with a token of all scopes."""
        async with self.database.transaction() as session:
            user = await make_user(session, None)
            return user, await make_token(session, user)

    def git_processes(self) -> list[psutil.Process]:
        """Running git processes that work on these repositories."""
        return [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "git" and any(str(self._root) in part for part in process.info["cmdline"] or ())
        ]


def _run_api(environment: dict[str, str], log: Path) -> None:
    """``python -m api.main`` with its output in ``log``."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.update(environment)
    sys.exit(main())


@asynccontextmanager
async def git_server(stack: Stack, made: TestDatabase, root: Path) -> AsyncIterator[GitServer]:
    """A server that runs, and is ended at the end of the block."""
    async with Database(made.url, audit_keys=AUDIT_KEYS) as database:
        server = GitServer(stack, made, database, root)
        try:
            await server.start()
            yield server
        finally:
            await server.kill(signal.SIGTERM)


async def settle(activities: GitActivities, push_id: UUID) -> SettlePushResult:
    """What a worker does with a push."""
    return await ActivityEnvironment().run(activities.settle_push, SettlePushInput(push_id=push_id))


@asynccontextmanager
async def api_without_temporal(
    stack: Stack, made: TestDatabase, root: Path, *, limits: Limits | None = None
) -> AsyncIterator[ApiServer]:
    """An API in the test's own process that cannot reach Temporal, whether that runs or not."""
    listening = listening_socket()
    async with Database(made.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(stack, database, root, url_of(listening), limits=limits)
        async with serving(await with_temporal_away(services), listening) as server:
            yield server


@pytest.fixture(scope="session")
async def api_server_without_temporal(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """One for all tests of pushes, which take it for their ``api_server``."""
    made = await idle_stack.create_database(template=template_database.name)
    async with api_without_temporal(idle_stack, made, tmp_path_factory.mktemp("repositories")) as server:
        yield server


@pytest.fixture
def ada(person: Person) -> Person:
    """Who pushes."""
    return person
