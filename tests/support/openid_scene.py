"""The API beside a real OpenID provider."""

import dataclasses
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from adapters.identity_providers.base import IssuerSettings, ProviderSettings
from adapters.identity_providers.issuers import TokenIssuers
from adapters.identity_providers.oidc import OidcProvider
from database.engine import Database
from domain.access.external import SignUpPolicy
from tests.support.api import ApiServer, listening_socket, services_for_tests, serving
from tests.support.audit import AUDIT_KEYS
from tests.support.openid import AUDIENCE, CLIENT, SECRET, SERVICE, SERVICE_SECRET, Browser, OpenIdProvider
from tests.support.stack import Stack, TestDatabase


@dataclass
class Clock:
    """Seconds that only a test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Scene:
    """A serving API that knows three tables for one provider: ``open``, ``closed`` and ``company``.

    Attributes:
        accounts: Of the provider, by login.
    """

    server: ApiServer
    provider: OpenIdProvider
    clock: Clock
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def account(self, **claims: object) -> str:
        """A fresh account at the provider; returns its login, which is its subject too."""
        login = f"there-{secrets.token_hex(4)}"
        self.accounts[login] = claims
        await self.provider.control(accounts=self.accounts)
        return login

    async def roles_of(self, name: str) -> set[tuple[str, bool]]:
        """The roles of a user, each with whether a group led to it."""
        async with self.server.transaction() as session:
            rows = await session.execute(
                text(
                    "SELECT r.name, ur.external_identity_id IS NOT NULL AS by_group FROM user_roles ur "
                    "JOIN roles r ON r.id = ur.role_id JOIN users u ON u.id = ur.user_id WHERE u.name = :name"
                ),
                {"name": name},
            )
            return {(row.name, row.by_group) for row in rows}

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser that nobody used yet."""
        browser = Browser(self.server.base_url)
        try:
            yield browser
        finally:
            await browser.close()

    @asynccontextmanager
    async def lying(self, lie: str, **more: object) -> AsyncIterator[None]:
        """While the provider answers wrongly."""
        await self.provider.control(lie=lie, **more)
        try:
            yield
        finally:
            await self.provider.control(lie=None)


@asynccontextmanager
async def built_scene(stack: Stack, database_url: str, root: Path, provider: OpenIdProvider) -> AsyncIterator[Scene]:
    """Serves until the block ends."""
    listening = listening_socket()
    public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    clock = Clock()

    def table(name: str, policy: SignUpPolicy) -> OidcProvider:
        settings = ProviderSettings(
            name=name,
            title=f"Corp {name}",
            issuer=provider.issuer,
            client_id=CLIENT,
            client_secret=SECRET,
            policy=policy,
        )
        return OidcProvider(settings, clock=clock)

    tables = {
        "open": table(
            "open",
            SignUpPolicy(allow_sign_up=True, roles_of_groups={"devs": "developer", "admins": "admin", "x": "none"}),
        ),
        "closed": table("closed", SignUpPolicy()),
        "company": table("company", SignUpPolicy(allow_sign_up=True, email_domains=frozenset({"corp.example"}))),
    }
    issuers = TokenIssuers([IssuerSettings(name="builds", issuer=provider.issuer, audience=AUDIENCE)], clock=clock)
    await provider.control(
        clients=[
            {
                "client_id": CLIENT,
                "client_secret": SECRET,
                "redirect_uris": [f"{public_url}/login/oidc/{name}/callback" for name in tables],
            },
            {
                "client_id": SERVICE,
                "client_secret": SERVICE_SECRET,
                "redirect_uris": [],
                "response_types": [],
                "grant_types": ["client_credentials"],
            },
        ],
        audience=AUDIENCE,
    )
    async with Database(database_url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(stack, database, root, public_url)
        services = dataclasses.replace(services, identity_providers=tables, token_issuers=issuers)
        async with serving(services, listening) as server:
            # Nothing takes the last administrator away, so there is one.
            await server.user(role="admin")
            yield Scene(server, provider, clock)
        for one in tables.values():
            await one.close()
        await issuers.close()


@pytest.fixture(scope="session")
async def oidc(
    idle_stack: Stack,
    template_database: TestDatabase,
    tmp_path_factory: pytest.TempPathFactory,
    openid_provider: OpenIdProvider,
) -> AsyncIterator[Scene]:
    """One scene for all tests: they make their own accounts."""
    made = await idle_stack.create_database(template=template_database.name)
    root = tmp_path_factory.mktemp("repositories")
    async with built_scene(idle_stack, made.url, root, openid_provider) as scene:
        yield scene
