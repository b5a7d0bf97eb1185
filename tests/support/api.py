"""The API over a real socket, in the test's own process, with real PostgreSQL and repositories.

``api_server`` is one for the whole session: tests make their own users and projects and never look at totals. A test
that needs other services, or kills something, makes its own with ``serving(services)``.
"""

import asyncio
import base64
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.bus.memory import MemoryBus
from adapters.objects.memory import MemoryObjects
from adapters.repositories.git_cli import GitRepositories
from api.app import create_app
from api.passwords import Passwords
from api.services import Limits, Services
from database.engine import Database
from deploy.local.loopback import PLAIN_HTTP_ONLY
from domain.access.bans import BanPolicy
from domain.projects import ProjectView, Visibility
from temporal.client import connect
from temporal.codec import PayloadKeys
from temporal.converter import data_converter
from tests.support.audit import AUDIT_KEYS, SIGNING_KEY
from tests.support.eventually import eventually
from tests.support.factories import (
    CHEAP_HASHER,
    TestToken,
    TestUser,
    make_project,
    make_session,
    make_token,
    make_user,
)
from tests.support.stack import Stack, TestDatabase
from tests.support.unaudited import watched

# Given up before the server (5 s) would: the loop of both stands still between tests, and a connection that the server
# closes in the moment in which it is used again is an error for the client.
REUSE = httpx.Limits(keepalive_expiry=1.0)


@dataclass
class ApiServer:
    """A serving API.

    Attributes:
        base_url: ``http://127.0.0.1:port``.
        services: What its routes work with.
        client: Without credentials.
    """

    base_url: str
    services: Services
    client: httpx.AsyncClient

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction on the server's database, to make rows for a test."""
        async with self.services.database.transaction() as session:
            yield session

    async def user(self, name: str | None = None, *, role: str | None = "developer") -> "Person":
        """A fresh user with a token of all scopes."""
        async with self.transaction() as session:
            user = await make_user(session, name, role=role)
            token = await make_token(session, user)
        return Person(self, user, token)

    async def project(
        self, owner: "Person", name: str | None = None, *, visibility: Visibility = "private"
    ) -> ProjectView:
        """A fresh project; its repository is not made."""
        async with self.transaction() as session:
            return await make_project(session, owner.user, name, visibility=visibility)

    async def browser(self, person: "Person") -> httpx.AsyncClient:
        """A client with a browser session of that person; close it when done."""
        async with self.transaction() as session:
            _, secret = await make_session(session, person.user)
        return httpx.AsyncClient(
            base_url=self.base_url,
            cookies={"perdure_session": secret},
            trust_env=False,
            verify=PLAIN_HTTP_ONLY,
            limits=REUSE,
        )


@dataclass
class Person:
    """A user of a server, and their token."""

    server: ApiServer
    user: TestUser
    token: TestToken

    @property
    def name(self) -> str:
        """Login name."""
        return self.user.name

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries their token."""
        return self.token.headers


class _Uvicorn(uvicorn.Server):
    """Without the signal handlers: the test runner's stay."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(services: Services, listening: socket.socket) -> AsyncIterator[ApiServer]:
    """Serves on a bound socket until the block ends."""
    config = uvicorn.Config(
        watched(create_app(services), services.database),
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=2,
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started or task.done())
    if task.done():
        task.result()
    base_url = url_of(listening)
    # Shared by tests: a cookie that one of them was given must not make the next one somebody.
    no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    async with httpx.AsyncClient(
        base_url=base_url, cookies=no_cookies, trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=30, limits=REUSE
    ) as client:
        yield ApiServer(base_url, services, client)
    server.should_exit = True
    with suppress(asyncio.CancelledError):
        await task


def listening_socket() -> socket.socket:
    """A socket bound to a free port of the loopback interface."""
    # asyncio sends small packets at once (TCP_NODELAY) only on sockets that name TCP: an answer whose body comes after
    # its head would wait 40 ms for the client's acknowledgement.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.bind(("127.0.0.1", 0))
    return made


def url_of(listening: socket.socket) -> str:
    """Where clients reach a server on this socket."""
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


async def services_for_tests(
    stack: Stack, database: Database, root: Path, public_url: str, *, limits: Limits | None = None
) -> Services:
    """Real database, repositories and Temporal address (connected when first used); bus and objects in memory."""
    objects = MemoryObjects()
    limits = limits or Limits()
    keys = PayloadKeys({"k1": base64.b64encode(secrets.token_bytes(32)).decode()}, "k1")
    return Services(
        database=database,
        objects=objects,
        bus=MemoryBus(),
        repositories=GitRepositories(
            root,
            object_size_bytes_max=limits.object_size_bytes_max,
            push_size_bytes_max=limits.push_size_bytes_max,
        ),
        temporal=await connect(
            stack.temporal_address, stack.temporal_namespace, data_converter(keys, objects), program="api", lazy=True
        ),
        public_url=public_url,
        temporal_ui_url=stack.temporal_ui_url,
        namespace=stack.temporal_namespace,
        secret_key=secrets.token_bytes(32),
        audit_key=SIGNING_KEY.public,
        limits=limits,
        passwords=Passwords(CHEAP_HASHER),
        # Every test comes from the same address.
        bans=BanPolicy(failures_of_address_max=100_000),
    )


async def with_temporal_away(services: Services) -> Services:
    """The same services with a Temporal that nobody can reach: pushes stay open and their answers do not wait."""
    away = await connect("127.0.0.1:1", services.namespace, services.temporal.data_converter, program="api", lazy=True)
    return replace(services, temporal=away)


@pytest.fixture(scope="session")
async def api_server(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """The session's API; Temporal runs only if a test also asks for ``temporal_server``."""
    made = await idle_stack.create_database(template=template_database.name)
    listening = listening_socket()
    async with Database(made.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(
            idle_stack, database, tmp_path_factory.mktemp("repositories"), url_of(listening)
        )
        async with serving(services, listening) as server:
            yield server


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    """A developer with a token of all scopes."""
    return await api_server.user()


@pytest.fixture
async def project(api_server: ApiServer, person: Person) -> ProjectView:
    """A private project of ``person``; its repository is not made."""
    return await api_server.project(person)
