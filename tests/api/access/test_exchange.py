"""Token exchange over HTTP: refused, narrowed, chained, and ended with whatever it came from."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from domain.access.exchange import ACCESS_TOKEN, BROWSER_SESSION, GRANT_TYPE
from domain.access.tokens import is_token
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.browsers import browser_of
from tests.support.factories import TestToken, make_session, make_token, make_user


class Scene:
    """Ann with a private project, and agents that hold nothing."""

    def __init__(self, server: ApiServer, ann: Person, project: ProjectView) -> None:
        self.server, self.ann, self.project = server, ann, project

    async def agent(self) -> Person:
        async with self.server.transaction() as session:
            user = await make_user(session, role=None, kind="agent")
            return Person(self.server, user, await make_token(session, user))

    async def exchange(self, subject: str, actor: str | None = None, **more: str) -> httpx.Response:
        fields = {
            "grant_type": GRANT_TYPE,
            "subject_token": subject,
            "subject_token_type": ACCESS_TOKEN,
            **({} if actor is None else {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}),
            **more,
        }
        return await self.server.client.post("/api/v1/oauth/token", data=fields)

    async def exchanged(self, subject: str, actor: str | None = None, **more: str) -> dict[str, Any]:
        answer = await self.exchange(subject, actor, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def exchanged_in(self, way: str, agent: Person) -> str:
        """A token of ann's rights, exchanged in one of the ways that there are."""
        secret = self.ann.token.secret
        if way == "for an agent":
            answer = await self.exchanged(secret, agent.token.secret)
        elif way == "for oneself":
            answer = await self.exchanged(secret)
        elif way == "twice":
            answer = await self.exchanged((await self.exchanged(secret))["access_token"])
        else:
            async with self.server.transaction() as session:
                _, cookie = await make_session(session, self.ann.user)
            answer = await self.exchanged(cookie, subject_token_type=BROWSER_SESSION)
        return str(answer["access_token"])

    async def refused(self, subject: str, actor: str | None = None, **more: str) -> str:
        answer = await self.exchange(subject, actor, **more)
        assert answer.status_code == 400, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert set(answer.json()) == {"error", "error_description"}
        return str(answer.json()["error"])

    async def status(self, token: str, path: str | None = None) -> int:
        path = path or f"/api/v1/projects/{self.project.full_name}"
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.server.client.get(path, headers=headers)).status_code

    async def sql(self, statement: str, **values: object) -> None:
        async with self.server.transaction() as session:
            await session.execute(text(statement), values)


@pytest.fixture
async def scene(api_server: ApiServer) -> Scene:
    ann = await api_server.user(role=None)
    return Scene(api_server, ann, await api_server.project(ann))


class TestRefusals:
    @pytest.mark.parametrize(
        ("more", "error"),
        [
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"grant_type": ""}, "unsupported_grant_type"),
            ({"subject_token": ""}, "invalid_request"),
            ({"subject_token": "nonsense"}, "invalid_request"),
            ({"subject_token": "prd_\x00"}, "invalid_request"),
            ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
            ({"subject_token_type": BROWSER_SESSION}, "invalid_request"),
            ({"actor_token": "nonsense", "actor_token_type": ACCESS_TOKEN}, "invalid_request"),
            ({"actor_token_type": ACCESS_TOKEN}, "invalid_request"),
            ({"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
            ({"expires_in": "0"}, "invalid_request"),
            ({"expires_in": "3601"}, "invalid_request"),
            ({"expires_in": "-1"}, "invalid_request"),
            ({"expires_in": "soon"}, "invalid_request"),
            ({"scope": "no:such"}, "invalid_scope"),
            ({"scope": "*:*"}, "invalid_scope"),
            ({"audience": "no/such"}, "invalid_target"),
            ({"audience": "\x00/x"}, "invalid_target"),
            ({"resource": "https://elsewhere.example/a/b"}, "invalid_target"),
            ({"audience": "a/b", "resource": "c/d"}, "invalid_target"),
        ],
    )
    async def test_what_cannot_be_exchanged(self, scene: Scene, more: dict[str, str], error: str) -> None:
        assert await scene.refused(**{"subject": scene.ann.token.secret, **more}) == error

    async def test_what_is_no_form_or_says_things_twice(self, scene: Scene) -> None:
        post = scene.server.client.post
        answer = await post("/api/v1/oauth/token", json={"grant_type": GRANT_TYPE})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        form = {"content-type": "application/x-www-form-urlencoded"}
        for body, error in (
            (b"grant_type=a&grant_type=b", "invalid_request"),
            (b"audience=a&audience=b", "invalid_target"),
            (b"\xff\xfe=%%%", "unsupported_grant_type"),
        ):
            answer = await post("/api/v1/oauth/token", content=body, headers=form)
            assert (answer.status_code, answer.json()["error"]) == (400, error)

    async def test_dead_tokens_are_exchanged_for_nothing(self, scene: Scene) -> None:
        async with scene.server.transaction() as session:
            expired = await make_token(session, scene.ann.user, lifetime=timedelta(seconds=-1))
            revoked = await make_token(session, scene.ann.user, is_revoked=True)
        for token in (expired, revoked):
            assert await scene.refused(token.secret) == "invalid_request"
            assert await scene.refused(scene.ann.token.secret, token.secret) == "invalid_request"

    async def test_nothing_gets_wider(self, scene: Scene) -> None:
        other = await scene.server.project(scene.ann)
        async with scene.server.transaction() as session:
            narrow = await make_token(
                session, scene.ann.user, scopes=frozenset({"project:read"}), project_id=scene.project.id
            )
        assert await scene.refused(narrow.secret, scope="project:write") == "invalid_scope"
        assert await scene.refused(narrow.secret, audience=other.full_name) == "invalid_target"
        again = await scene.exchanged(narrow.secret)
        assert (again["scope"], again["audience"]) == ("project:read", scene.project.full_name)
        assert await scene.status(again["access_token"]) == 200
        assert await scene.status(again["access_token"], f"/api/v1/projects/{other.full_name}") == 404
        async with scene.server.transaction() as session:
            denied = await session.scalar(
                text("SELECT count(*) FROM audit_log WHERE token_id = :id AND outcome = 'denied'"), {"id": narrow.id}
            )
        assert denied >= 2

    @pytest.mark.parametrize("way", ["for an agent", "for oneself", "of a session", "twice"])
    async def test_with_what_is_exchanged_nothing_that_lasts_is_made(self, scene: Scene, way: str) -> None:
        agent, other = await scene.agent(), await scene.agent()
        await scene.sql(
            "UPDATE users SET responsible_id = :ann WHERE id = :id", ann=scene.ann.user.id, id=other.user.id
        )
        headers = {"Authorization": f"Bearer {await scene.exchanged_in(way, agent)}"}
        narrow = {"name": "t", "scopes": ["project:read"], "expires_in_days": 1}
        own = (scene.ann if way != "for an agent" else agent).token.id
        for path, body, code in (
            ("/tokens", narrow, "made_by_exchange"),
            ("/tokens", {**narrow, "project": scene.project.full_name}, "made_by_exchange"),
            (f"/tokens/{own}/rotation", {}, "made_by_exchange"),
            (
                "/delegations",
                {"to": other.name, "permissions": ["project:read"], "project": scene.project.full_name},
                "lent_by_exchange",
            ),
        ):
            answer = await scene.server.client.post(f"/api/v1{path}", headers=headers, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, code), path
        for_another = await scene.server.client.post(f"/api/v1/users/{other.name}/tokens", headers=headers, json=narrow)
        assert for_another.status_code == 403
        async with scene.server.transaction() as session:
            made = await session.scalar(
                text(
                    "SELECT count(*) FROM api_tokens WHERE user_id = ANY(CAST(:ids AS uuid[])) "
                    "AND num_nonnulls(acting_id, parent_id, parent_session_id) = 0"
                ),
                {"ids": [scene.ann.user.id, agent.user.id, other.user.id]},
            )
            denied = await session.scalar(
                text(
                    "SELECT count(*) FROM audit_log WHERE outcome = 'denied' AND action = 'token:create' "
                    "AND actor_id = ANY(CAST(:ids AS uuid[]))"
                ),
                {"ids": [scene.ann.user.id, agent.user.id]},
            )
        assert made == 3, "those that there were"
        assert denied >= 2

    async def test_what_is_exchanged_takes_nobody_into_a_team(self, scene: Scene) -> None:
        made = await scene.server.user()
        headers = {"Authorization": f"Bearer {(await scene.exchanged(made.token.secret))['access_token']}"}
        name = f"crew-{made.name[-10:]}"
        async with browser_of(scene.server, made) as browser:
            assert (await browser.post("/api/v1/organizations", json={"name": name})).status_code == 201
        path = f"/api/v1/organizations/{name}/teams/owners/members/{scene.ann.name}"
        refused = await scene.server.client.put(path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "granted_by_exchange")
        assert (await scene.server.client.put(path, headers=made.headers)).status_code == 204

    async def test_there_is_an_end_to_exchanging(self, scene: Scene) -> None:
        token = scene.ann.token.secret
        for _ in range(8):
            token = (await scene.exchanged(token))["access_token"]
        assert await scene.refused(token) == "invalid_request"
        assert await scene.status(token) == 200


async def test_an_agent_acts_with_a_persons_rights_and_is_named_beside_them(scene: Scene) -> None:
    agent, sub = await scene.agent(), await scene.agent()
    assert await scene.status(agent.token.secret) == 404
    first = await scene.exchanged(
        scene.ann.token.secret, agent.token.secret, scope="project:read project:write", expires_in="600"
    )
    assert is_token(first["access_token"])
    assert first["token_type"] == "Bearer"
    assert first["issued_token_type"] == ACCESS_TOKEN
    assert 590 <= first["expires_in"] <= 600
    assert first["sub"] == str(scene.ann.user.id)
    assert first["act"] == {"sub": str(agent.user.id), "name": agent.name, "act": None}
    second = await scene.exchanged(
        first["access_token"], sub.token.secret, scope="project:write project:read", audience=scene.project.full_name
    )
    assert second["expires_in"] <= 600
    assert second["act"] == {
        "sub": str(sub.user.id),
        "name": sub.name,
        "act": {"sub": str(agent.user.id), "name": agent.name, "act": None},
    }
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    path = f"/api/v1/projects/{scene.project.full_name}"
    changed = await scene.server.client.patch(path, headers=headers, json={"description": "by the sub-agent"})
    assert changed.status_code == 200, changed.text
    denied = await scene.server.client.delete(path, headers=headers)
    assert (denied.status_code, denied.json()["details"]["permission"]) == (403, "project:delete")
    async with scene.server.transaction() as session:
        row = (
            await session.execute(
                text(
                    "SELECT actor_id, on_behalf_of FROM audit_log WHERE action = 'project:update' AND resource_id = :id"
                ),
                {"id": scene.project.id},
            )
        ).one()
    assert (row.actor_id, row.on_behalf_of) == (sub.user.id, [agent.user.id, scene.ann.user.id])


async def test_a_browser_session_is_exchanged_and_ends_what_came_of_it(scene: Scene) -> None:
    agent = await scene.agent()
    async with scene.server.transaction() as session:
        session_id, cookie = await make_session(session, scene.ann.user)
    first = await scene.exchanged(cookie, agent.token.secret, subject_token_type=BROWSER_SESSION)
    second = await scene.exchanged(first["access_token"], scope="project:read")
    for token in (first, second):
        assert await scene.status(token["access_token"]) == 200
    await scene.sql("UPDATE auth_sessions SET scopes = '{pipeline:run}' WHERE id = :id", id=session_id)
    for token in (first, second):
        assert await scene.status(token["access_token"]) == 404
    await scene.sql("UPDATE auth_sessions SET scopes = NULL, expires_at = now() WHERE id = :id", id=session_id)
    for token in (first, second):
        assert await scene.status(token["access_token"]) == 401
    await scene.sql("UPDATE auth_sessions SET expires_at = now() + interval '1 hour' WHERE id = :id", id=session_id)
    assert await scene.status(second["access_token"]) == 200
    await scene.sql("DELETE FROM auth_sessions WHERE id = :id", id=session_id)
    for token in (first, second):
        assert await scene.status(token["access_token"]) == 401


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE api_tokens SET revoked_at = now() WHERE id = :token", 401),
        ("UPDATE api_tokens SET expires_at = now() WHERE id = :token", 401),
        ("DELETE FROM api_tokens WHERE id = :token", 401),
        ("UPDATE api_tokens SET scopes = '{pipeline:run}' WHERE id = :token", 404),
        ("UPDATE api_tokens SET project_id = :other WHERE id = :token", 401),
        ("UPDATE users SET is_active = false WHERE id = :ann", 401),
        ("UPDATE users SET is_active = false WHERE id = :agent", 401),
        ("UPDATE users SET is_active = false WHERE id = :sub", 401),
    ],
)
async def test_it_ends_at_once_with_what_it_came_from_and_who_stands_between(
    scene: Scene, change: str, expected: int
) -> None:
    agent, sub, other = await scene.agent(), await scene.agent(), await scene.server.project(scene.ann)
    async with scene.server.transaction() as session:
        source = await make_token(session, scene.ann.user)
    first = await scene.exchanged(source.secret, agent.token.secret)
    second = await scene.exchanged(first["access_token"], sub.token.secret)
    third = await scene.exchanged(second["access_token"], scope="project:read")
    assert await scene.status(third["access_token"]) == 200
    values: dict[str, UUID] = {
        "token": source.id,
        "other": other.id,
        "ann": scene.ann.user.id,
        "agent": agent.user.id,
        "sub": sub.user.id,
    }
    await scene.sql(change, **{name: value for name, value in values.items() if f":{name}" in change})
    assert await scene.status(third["access_token"]) == expected


async def test_an_actor_token_tells_only_who_acts(scene: Scene) -> None:
    admin = await scene.server.user(role="admin")
    async with scene.server.transaction() as session:
        nobody: TestToken = await make_token(session, admin.user, scopes=frozenset())
    answer = await scene.exchanged(scene.ann.token.secret, nobody.secret, scope="project:read admin:users")
    assert await scene.status(answer["access_token"]) == 200
    assert await scene.status(answer["access_token"], "/api/v1/bans") == 403, "ann's rights, not the administrator's"
