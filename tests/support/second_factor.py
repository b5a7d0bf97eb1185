"""A person at a browser who sets up second factors over JSON."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import text

from deploy.local.loopback import PLAIN_HTTP_ONLY
from domain.access.factors import totp_code, totp_step
from tests.support.api import ApiServer, Person
from tests.support.authenticator import Authenticator
from tests.support.factories import make_session


@dataclass
class Desk:
    """A browser session over JSON, its unsafe requests with the CSRF token."""

    server: ApiServer
    person: Person
    client: httpx.AsyncClient
    csrf: str

    async def send(self, method: str, path: str, body: object = None) -> httpx.Response:
        """A request to ``/api/v1``."""
        # ASCII, so that half of a surrogate pair can be sent too.
        content = None if body is None else json.dumps(body)
        headers = {"X-CSRF-Token": self.csrf, "Content-Type": "application/json"}
        return await self.client.request(method, f"/api/v1{path}", content=content, headers=headers)

    async def set_up_totp(self) -> tuple[bytes, list[str]]:
        """A confirmed authenticator app: its secret, and the recovery codes."""
        made = await self.send("POST", "/me/factors/totp")
        assert made.status_code == 201, made.text
        secret = secret_of(made.json()["uri"])
        confirmed = await self.send("POST", "/me/factors/totp/confirm", {"code": code_now(secret)})
        assert confirmed.status_code == 200, confirmed.text
        await self.forget_steps()
        return secret, confirmed.json()["recovery_codes"] or []

    async def forget_steps(self) -> None:
        """Lets the code of this moment be used again, so that a test need not wait for the next one."""
        await self.change("UPDATE totp_factors SET last_step = 0 WHERE user_id = :user")

    async def age_proof(self, minutes: int = 16) -> None:
        """Makes the session's last proof older."""
        await self.change(
            "UPDATE auth_sessions SET proved_at = now() - make_interval(mins => :minutes) WHERE user_id = :user",
            minutes=minutes,
        )

    async def change(self, statement: str, **values: object) -> None:
        """Changes rows of this person's."""
        async with self.server.transaction() as session:
            await session.execute(text(statement), {"user": self.person.user.id, **values})

    async def options(self) -> dict[str, Any]:
        """What makes a passkey."""
        answer = await self.send("POST", "/me/factors/passkeys/options")
        assert answer.status_code == 200, answer.text
        options: dict[str, Any] = answer.json()
        return options

    async def register(self, authenticator: Authenticator, name: str = "key", **wrong: Any) -> httpx.Response:  # noqa: ANN401  # as in authenticator
        """Registers a passkey."""
        credential = authenticator.create(await self.options(), **wrong)
        return await self.send("POST", "/me/factors/passkeys", {"name": name, "credential": credential})

    async def audited(self, action: str) -> list[str]:
        """The outcomes of this person's audit rows of an action."""
        return await audited(self.server, self.person, action)


async def audited(server: ApiServer, person: Person, action: str) -> list[str]:
    """The outcomes of a person's audit rows of an action, oldest first."""
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT outcome FROM audit_log WHERE actor_id = :id AND action = :action ORDER BY created_at"),
            {"id": person.user.id, "action": action},
        )
        return list(rows.scalars())


@asynccontextmanager
async def desk(server: ApiServer, person: Person) -> AsyncIterator[Desk]:
    """A browser session that has just begun."""
    async with server.transaction() as session:
        _, secret = await make_session(session, person.user)
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=PLAIN_HTTP_ONLY) as client:
        # With its domain, so that a new cookie of the server's takes its place.
        client.cookies.set("perdure_session", secret, domain="127.0.0.1", path="/")
        csrf = (await client.get("/api/v1/me")).json()["csrf_token"]
        yield Desk(server, person, client, csrf)


def site_origin(server: ApiServer) -> str:
    """Where passkeys of the server work: browsers make none for an IP address."""
    return server.base_url.replace("127.0.0.1", "localhost")


def secret_of(uri: str) -> bytes:
    """The secret in an ``otpauth://`` address."""
    encoded = parse_qs(urlsplit(uri).query)["secret"][0]
    return base64.b32decode(encoded + "=" * (-len(encoded) % 8))


def code_now(secret: bytes) -> str:
    """What the app shows."""
    return totp_code(secret, totp_step(datetime.now(UTC)))
