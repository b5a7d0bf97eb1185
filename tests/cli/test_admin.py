"""`perdure admin`: a way back in for who runs the installation, when no mail can reach whoever is locked out."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from cli.main import main
from database.engine import Database
from tests.support.api import ApiServer, Person, listening_socket, services_for_tests, serving, url_of
from tests.support.audit import AUDIT_KEYS, AUDIT_SECRET
from tests.support.factories import PASSWORD, make_user
from tests.support.second_factor import desk
from tests.support.stack import Stack, TestDatabase

NEW = "vierzehn kamele trinken tee"


@dataclass
class Scene:
    """A serving installation, and the settings that its host has."""

    server: ApiServer
    environment: dict[str, str]

    async def perdure(self, *arguments: str, **environment: str) -> Result:
        """The command, in a thread, because it brings an event loop of its own."""
        runner = CliRunner()
        return await asyncio.to_thread(runner.invoke, main, arguments, env={**self.environment, **environment})

    async def link_for(self, name: str, *options: str) -> str:
        answer = await self.perdure("admin", "reset-password", name, *options)
        assert answer.exit_code == 0, answer.stderr
        [token] = re.findall(rf"{self.server.base_url}/password/new\?token=([\w-]{{43}})\n", answer.stdout)
        return str(token)

    async def set_password(self, token: str) -> int:
        body = {"token": token, "password": NEW}
        return (await self.server.client.post("/api/v1/password", json=body)).status_code

    async def signs_in(self, person: Person, password: str) -> int:
        body = {"name": person.name, "password": password}
        return (await self.server.client.post("/api/v1/sessions", json=body)).status_code

    async def change(self, person: Person, assignment: str) -> None:
        async with self.server.transaction() as session:
            await session.execute(
                text(f"UPDATE users SET {assignment} WHERE id = :id"),  # noqa: S608  # written by the tests below
                {"id": person.user.id},
            )

    async def audited(self, person: Person) -> list[tuple[str, str, str | None]]:
        async with self.server.transaction() as session:
            rows = await session.execute(
                text(
                    "SELECT action, actor_kind, detail->>'by' FROM audit_log WHERE resource_id = :id AND action IN "
                    "('password:reset', 'password:change', 'factors:reset') ORDER BY created_at, seq"
                ),
                {"id": person.user.id},
            )
            return [(row[0], row[1], row[2]) for row in rows]


@pytest.fixture
async def scene(idle_stack: Stack, migrated: TestDatabase, tmp_path: Path) -> AsyncIterator[Scene]:
    listening = listening_socket()
    async with Database(migrated.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(idle_stack, database, tmp_path, url_of(listening))
        async with serving(services, listening) as server:
            yield Scene(
                server,
                {
                    "PERDURE_SETTINGS": str(idle_stack.settings_path),
                    "PERDURE_DATABASE__URL": migrated.url,
                    "PERDURE_API__PUBLIC_URL": f"{services.public_url}/",
                    "PERDURE_API__SECRET_KEY": base64.b64encode(services.secret_key).decode(),
                    "PERDURE_AUDIT__SECRET_KEY": base64.b64encode(AUDIT_SECRET).decode(),
                },
            )


@pytest.fixture
async def person(scene: Scene) -> Person:
    return await scene.server.user(role="admin")


async def test_nobody_gets_a_link_who_is_not_there_or_has_no_password(scene: Scene) -> None:
    async with scene.server.transaction() as session:
        agent = await make_user(session, kind="agent")
        gone = await make_user(session, is_active=False)
    for name, why in (
        ("nobody", "Nobody is called 'nobody'"),
        (agent.name, "is no person"),
        (gone.name, "is deactivated"),
    ):
        answer = await scene.perdure("admin", "reset-password", name)
        assert answer.exit_code == 1
        assert why in answer.stderr
        assert "token=" not in answer.output
    async with scene.server.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM email_tokens"))).scalar_one() == 0


async def test_a_host_without_its_database_says_so(scene: Scene) -> None:
    away = await scene.perdure(
        "admin", "reset-password", "ann", PERDURE_DATABASE__URL="postgresql+asyncpg://a:b@127.0.0.1:1/c"
    )
    assert away.exit_code == 1
    assert "The database does not answer" in away.stderr


async def test_a_link_lets_in_who_has_no_proven_address_once(scene: Scene, person: Person) -> None:
    for _ in range(6):
        await scene.signs_in(person, "wrong")
    assert await scene.signs_in(person, PASSWORD) == 429
    token = await scene.link_for(person.name)
    async with await scene.server.browser(person) as browser:
        assert await scene.set_password(token) == 204
        assert (await browser.get("/api/v1/me")).status_code == 401, "whoever was signed in is not any more"
    assert await scene.set_password(token) == 400
    assert await scene.signs_in(person, NEW) == 201
    assert await scene.audited(person) == [("password:reset", "system", "host"), ("password:change", "user", None)]


async def test_the_first_administrator_is_meant_where_no_name_is_given(scene: Scene, person: Person) -> None:
    answer = await scene.perdure("admin", "reset-password", PERDURE_ACCESS__ADMIN_NAME=person.name)
    assert answer.exit_code == 0, answer.stderr
    assert f"With this link {person.name} sets a new password" in answer.stdout


@pytest.mark.parametrize("assignment", ["email = NULL", "password_hash = NULL", "email_verified_at = now()"])
async def test_it_depends_on_no_address_and_no_password_of_before(
    scene: Scene, person: Person, assignment: str
) -> None:
    await scene.change(person, assignment)
    assert await scene.set_password(await scene.link_for(person.name)) == 204
    assert await scene.signs_in(person, NEW) == 201


async def test_the_link_is_mailed_to_nobody_and_ends_like_others(scene: Scene, person: Person) -> None:
    first = await scene.link_for(person.name)
    async with scene.server.transaction() as session:
        waiting = await session.execute(text("SELECT count(*) FROM email_tokens WHERE sent_at IS NULL"))
        assert waiting.scalar_one() == 0
        lasts = await session.execute(text("SELECT expires_at - created_at = interval '1 hour' FROM email_tokens"))
        assert lasts.scalar_one()
    await scene.change(person, "email = 'another@example.org'")
    assert await scene.set_password(first) == 400, "its account is another one's mailbox now"


async def test_lost_second_factors_are_taken_away_only_when_asked_for(scene: Scene, person: Person) -> None:
    async with desk(scene.server, person) as at:
        await at.set_up_totp()
    assert await scene.set_password(await scene.link_for(person.name)) == 204
    assert await scene.signs_in(person, NEW) == 401
    await scene.link_for(person.name, "--second-factors")
    assert await scene.signs_in(person, NEW) == 201
    assert ("factors:reset", "system", None) in await scene.audited(person)
