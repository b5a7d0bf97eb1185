import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from api.credential_uses import SessionUses
from database.store.access.sessions import rotate_session
from domain.access.tokens import hash_secret
from domain.actors import Actor
from domain.errors import Unauthenticated
from tests.support.api import ApiServer, Person
from tests.support.browsers import browser_of
from tests.support.factories import PASSWORD, make_session, make_token


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


async def test_sessions_are_listed_to_their_user_only_and_never_to_a_token(
    api_server: ApiServer, person: Person
) -> None:
    async with api_server.transaction() as session:
        other_id, _ = await make_session(session, person.user)
        await make_session(session, person.user, lifetime=timedelta(seconds=-1))
    refused = await api_server.client.get("/api/v1/sessions", headers=person.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "session_needed")
    async with browser_of(api_server, person) as browser:
        listed = (await browser.get("/api/v1/sessions")).json()["items"]
        assert [one["is_current"] for one in listed] == [True, False]
        assert listed[1]["id"] == str(other_id)
        page = (await browser.get("/api/v1/sessions?limit=1")).json()
        assert len((await browser.get(page["next"])).json()["items"]) == 1


async def test_one_ends_ones_other_sessions_one_by_one_or_all(api_server: ApiServer, person: Person) -> None:
    async with browser_of(api_server, person) as here, browser_of(api_server, person) as there:
        async with api_server.transaction() as session:
            third, _ = await make_session(session, person.user)
        assert (await here.delete(f"/api/v1/sessions/{third}")).status_code == 204
        assert (await here.delete(f"/api/v1/sessions/{third}")).status_code == 404
        assert (await here.delete("/api/v1/sessions")).json() == {"ended": 1}
        assert (await there.get("/api/v1/me")).status_code == 401
        assert (await here.get("/api/v1/me")).status_code == 200


async def test_others_end_no_session_and_an_administrator_ends_any(api_server: ApiServer, person: Person) -> None:
    admin, stranger = await api_server.user(role="admin"), await api_server.user()
    async with browser_of(api_server, person) as browser:
        async with api_server.transaction() as session:
            one, _ = await make_session(session, person.user)
        async with browser_of(api_server, stranger) as other:
            assert (await other.delete(f"/api/v1/sessions/{one}")).status_code == 403
            assert (await other.get(f"/api/v1/users/{person.name}/sessions")).status_code == 403
        seen = await api_server.client.get(f"/api/v1/users/{person.name}/sessions", headers=admin.headers)
        assert len(seen.json()["items"]) == 2
        assert (await api_server.client.delete(f"/api/v1/sessions/{one}", headers=admin.headers)).status_code == 204
        ended = await api_server.client.delete(f"/api/v1/users/{person.name}/sessions", headers=admin.headers)
        assert ended.json() == {"ended": 1}
        assert (await browser.get("/api/v1/me")).status_code == 401


async def test_the_end_of_a_session_is_the_end_of_what_was_exchanged_from_it(
    api_server: ApiServer, person: Person
) -> None:
    async with browser_of(api_server, person) as browser:
        session_id = (await browser.get("/api/v1/me")).json()["session_id"]
        async with api_server.transaction() as session:
            child, grandchild = await make_token(session, person.user), await make_token(session, person.user)
            await session.execute(
                text("UPDATE api_tokens SET parent_session_id = :session WHERE id = :id"),
                {"session": UUID(session_id), "id": child.id},
            )
            await session.execute(
                text("UPDATE api_tokens SET parent_id = :parent WHERE id = :id"),
                {"parent": child.id, "id": grandchild.id},
            )
        assert (await browser.delete("/api/v1/sessions/current")).status_code == 204
    for token in (child, grandchild):
        assert (await api_server.client.get("/api/v1/me", headers=token.headers)).status_code == 401


async def test_signing_in_again_replaces_the_browsers_session(api_server: ApiServer, person: Person) -> None:
    credentials = {"name": person.name, "password": PASSWORD}
    async with httpx.AsyncClient(base_url=api_server.base_url, trust_env=False) as browser:
        assert (await browser.post("/api/v1/sessions", json=credentials)).status_code == 201
        before = dict(browser.cookies)
        assert (await browser.post("/api/v1/sessions", json=credentials)).status_code == 201
        assert dict(browser.cookies) != before
        async with httpx.AsyncClient(base_url=api_server.base_url, cookies=before, trust_env=False) as old:
            assert (await old.get("/api/v1/me")).status_code == 401
        assert (await browser.get("/api/v1/me")).status_code == 200


async def test_an_elevated_session_has_a_new_secret_and_stays_itself(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        session_id, old = await make_session(session, person.user)
        await session.execute(
            text("UPDATE auth_sessions SET proved_at = now() - interval '1 hour' WHERE id = :id"), {"id": session_id}
        )
    actor = person.user.actor.model_copy(update={"session_id": session_id})
    async with api_server.transaction() as session:
        elevated = await rotate_session(session, actor, hash_secret("new secret"), factor="totp")
    assert elevated.proved_at is not None
    assert datetime.now(UTC) - elevated.proved_at < timedelta(minutes=1)
    for secret, status in ((old, 401), ("new secret", 200)):
        cookies = {"perdure_session": secret}
        async with httpx.AsyncClient(base_url=api_server.base_url, cookies=cookies, trust_env=False) as browser:
            answer = await browser.get("/api/v1/me")
            assert answer.status_code == status
    assert answer.json()["session_id"] == str(session_id)
    gone = Actor(user_id=person.user.id, name=person.name, session_id=uuid4())
    with pytest.raises(Unauthenticated):
        async with api_server.transaction() as session:
            await rotate_session(session, gone, hash_secret("another"), factor="totp")


class TestIdleness:
    """By rows as they would be after a while: the clock that decides is the database's."""

    async def _state(self, server: ApiServer, session_id: UUID) -> tuple[datetime, datetime]:
        async with server.transaction() as session:
            row = (
                await session.execute(
                    text("SELECT last_seen_at, expires_at FROM auth_sessions WHERE id = :id"), {"id": session_id}
                )
            ).one()
            return row.last_seen_at, row.expires_at

    async def _aged(self, server: ApiServer, person: Person, age: str, left: str) -> tuple[UUID, str]:
        async with server.transaction() as session:
            session_id, secret = await make_session(session, person.user)
            await session.execute(
                text(
                    f"UPDATE auth_sessions SET created_at = now() - interval '{age}', "  # noqa: S608  # of this test
                    f"last_seen_at = now() - interval '{age}', expires_at = now() + interval '{left}' WHERE id = :id"
                ),
                {"id": session_id},
            )
        return session_id, secret

    async def _use(self, server: ApiServer, secret: str) -> int:
        cookies = {"perdure_session": secret}
        async with httpx.AsyncClient(base_url=server.base_url, cookies=cookies, trust_env=False) as browser:
            return (await browser.get("/api/v1/me")).status_code

    async def test_a_session_starts_with_its_idle_end(self, api_server: ApiServer, person: Person) -> None:
        credentials = {"name": person.name, "password": PASSWORD}
        async with httpx.AsyncClient(base_url=api_server.base_url, trust_env=False) as browser:
            session_id = (await browser.post("/api/v1/sessions", json=credentials)).json()["session_id"]
        seen, ends = await self._state(api_server, UUID(session_id))
        assert ends - seen == api_server.services.session_idle

    async def test_a_use_moves_the_idle_end_on(self, api_server: ApiServer, person: Person) -> None:
        session_id, secret = await self._aged(api_server, person, "2 days", "1 day")
        assert await self._use(api_server, secret) == 200
        await api_server.services.session_uses.write(api_server.services.database)
        seen, ends = await self._state(api_server, session_id)
        assert datetime.now(UTC) - seen < timedelta(minutes=1)
        assert ends - seen == api_server.services.session_idle

    async def test_no_use_moves_the_absolute_end(self, api_server: ApiServer, person: Person) -> None:
        session_id, secret = await self._aged(api_server, person, "13 days 23 hours", "1 hour")
        assert await self._use(api_server, secret) == 200
        await api_server.services.session_uses.write(api_server.services.database)
        _, ends = await self._state(api_server, session_id)
        assert timedelta(minutes=58) < ends - datetime.now(UTC) <= timedelta(hours=1)

    async def test_an_idle_session_has_ended_and_a_late_note_does_not_bring_it_back(
        self, api_server: ApiServer, person: Person
    ) -> None:
        session_id, secret = await self._aged(api_server, person, "4 days", "-1 second")
        assert await self._use(api_server, secret) == 401
        uses = SessionUses(lifetime=timedelta(days=14), idle=timedelta(days=3))
        uses.note(session_id)
        await uses.write(api_server.services.database)
        assert await self._use(api_server, secret) == 401

    async def test_a_session_costs_one_row_change_a_minute(self, api_server: ApiServer, person: Person) -> None:
        session_id, secret = await self._aged(api_server, person, "1 day", "1 day")
        await asyncio.gather(*(self._use(api_server, secret) for _ in range(5)))
        await api_server.services.session_uses.write(api_server.services.database)
        first, _ = await self._state(api_server, session_id)
        await self._use(api_server, secret)
        await api_server.services.session_uses.write(api_server.services.database)
        assert (await self._state(api_server, session_id))[0] == first
