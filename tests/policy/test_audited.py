"""Every unsafe route leaves its row in the audit log: when it does something, and each time that it is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.access.permissions import Permission
from tests.policy.doings import DOINGS, ELSEWHERE
from tests.policy.routes import ROUTES
from tests.policy.test_routes import Scene
from tests.policy.town import Town, town
from tests.support.api import ApiServer, Person
from tests.support.factories import TestToken, make_session
from tests.support.git import new_clone
from tests.support.git_server import api_without_temporal
from tests.support.stack import Stack, TestDatabase

SAFE = ("GET", "HEAD", "OPTIONS")
UNSAFE = [key for key in ROUTES if key.split()[0] not in SAFE]
NEEDY = [key for key in UNSAFE if ROUTES[key].needs != "nothing"]
WITH_PERMISSION = [key for key in NEEDY if isinstance(ROUTES[key].needs, Permission)]
BY_TOKEN_ALONE = {
    "POST /{owner}/{name}.git/git-upload-pack": "git has no cookies",
    "POST /{owner}/{name}.git/git-receive-pack": "git has no cookies",
    "POST /api/v1/temporal/codec/decode": "the Temporal UI asks from another origin, and nothing is changed",
    "POST /api/v1/temporal/codec/encode": "as above",
}
"""Routes that no page's form can forge."""


@pytest.fixture(scope="module")
async def server(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """On a database of its own, because all is really done; without Temporal, which comes after the row is written."""
    made = await idle_stack.create_database(template=template_database.name)
    async with api_without_temporal(idle_stack, made, tmp_path_factory.mktemp("repositories")) as served:
        yield served
    await idle_stack.drop_database(made)


@pytest.fixture
async def scene(server: ApiServer, tmp_path: Path) -> AsyncIterator[Town]:
    async with town(server, tmp_path) as made:
        yield made


async def rows_since(server: ApiServer, number: int) -> list[tuple[str, str]]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT action, outcome FROM audit_log ORDER BY created_at DESC LIMIT :n"), {"n": number}
        )
        return [(row.action, row.outcome) for row in rows]


async def rows_in_all(server: ApiServer) -> int:
    async with server.transaction() as session:
        return int((await session.execute(text("SELECT count(*) FROM audit_log"))).scalar_one())


async def denials_of(server: ApiServer, person: Person) -> list[str]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT action FROM audit_log WHERE actor_id = :id AND outcome = 'denied'"), {"id": person.user.id}
        )
        return list(rows.scalars())


def test_every_unsafe_route_is_made_to_do_what_it_is_for() -> None:
    assert set(UNSAFE) - set(DOINGS) - set(ELSEWHERE) == set(), "say in tests/policy/doings.py what they leave behind"
    assert (set(DOINGS) | set(ELSEWHERE)) - set(UNSAFE) == set(), "these routes are gone"
    assert not set(DOINGS) & set(ELSEWHERE)


@pytest.mark.parametrize("key", DOINGS)
async def test_what_is_done_is_written_down(scene: Town, key: str) -> None:
    doing = DOINGS[key]
    for thing in doing.things:
        await scene.make(thing)
    before = await rows_in_all(scene.server)
    answer = await scene.call(key)
    assert answer.is_success or answer.is_redirect, f"{key}: {answer.status_code} {answer.text[:400]}"
    written = await rows_since(scene.server, await rows_in_all(scene.server) - before)
    if doing.action is None:
        assert (written, bool(doing.why)) == ([], True)
    else:
        assert (doing.action.value, "success") in written


async def test_what_git_does_is_written_down(server: ApiServer, tmp_path: Path) -> None:
    ada = await server.user()
    url = f"{server.base_url}/{ada.name}/swept.git"
    git = await new_clone(tmp_path / "one", token=ada.token.secret, url=url)
    await git.commit({"README.md": "x"})
    await git("push", "-q", "origin", "main")
    other = await new_clone(tmp_path / "two", token=ada.token.secret, url=url)
    await other("fetch", "-q", "origin")
    stranger = await server.user(role=None)
    refused = await new_clone(tmp_path / "three", token=stranger.token.secret, url=url)
    await refused.commit({"README.md": "y"})
    assert (await refused.try_to("fetch", "origin")).code != 0
    assert (await refused.try_to("push", "origin", "HEAD:main")).code != 0
    assert {*await rows_since(server, 12)} >= {("project:create", "success"), ("git:fetch", "success")}
    assert set(await denials_of(server, stranger)) == {"project:read", "project:write"}


@pytest.mark.parametrize("key", WITH_PERMISSION)
async def test_who_lacks_the_permission_is_written_down(server: ApiServer, key: str) -> None:
    owner, stranger = await server.user(), await server.user(role=None)
    project = await server.project(owner)
    scene = Scene(server, owner, project, project, stranger)
    answer = await (
        scene.call(key, stranger.token) if ROUTES[key].by == "any" else scene.call_by_session(key, stranger)
    )
    assert answer.status_code in (403, 404), answer.text
    assert len(await denials_of(server, stranger)) == 1


@pytest.mark.parametrize("key", [key for key in NEEDY if key not in BY_TOKEN_ALONE])
async def test_a_forged_form_is_written_down(server: ApiServer, key: str) -> None:
    victim = await server.user(role="admin")
    project = await server.project(victim)
    async with server.transaction() as session:
        _, secret = await make_session(session, victim.user)
    forged = {"cookie": f"perdure_session={secret}", "origin": "https://evil.example"}
    answer = await Scene(server, victim, project, project, victim).call(key, None, forged)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin"), answer.text
    assert await denials_of(server, victim) == ["request:refuse"]


@pytest.mark.parametrize("key", [key for key in NEEDY if ROUTES[key].by != "any"])
async def test_a_token_where_a_browser_is_needed_is_written_down(server: ApiServer, key: str) -> None:
    admin = await server.user(role="admin")
    project = await server.project(admin)
    answer = await Scene(server, admin, project, project, admin).call(key, admin.token)
    assert answer.status_code == 403, answer.text
    assert len(await denials_of(server, admin)) == 1


@pytest.mark.parametrize(
    "key",
    [
        "GET /api/v1/me",
        "POST /api/v1/projects",
        "POST /projects",
        "PATCH /api/v1/projects/{owner}/{name}",
        "GET /{owner}/{name}.git/info/refs",
        "POST /{owner}/{name}.git/git-receive-pack",
    ],
)
async def test_a_token_that_has_ended_is_written_down_once(server: ApiServer, key: str) -> None:
    ada = await server.user()
    project = await server.project(ada)
    scene = Scene(server, ada, project, project, ada)
    revoked = await scene.token(ada, is_revoked=True)
    for token in (revoked, revoked, TestToken(revoked.id, revoked.secret[:-8] + "00000000")):
        assert (await scene.call(key, token)).status_code == 401
    assert await denials_of(server, ada) == ["credential:refuse"]


async def test_why_a_token_is_good_no_more_is_told(server: ApiServer) -> None:
    async def used(token: TestToken) -> None:
        await server.client.get("/api/v1/me", headers=token.headers)

    ada, gone = await server.user(), await server.user()
    scene = Scene(server, ada, await server.project(ada), await server.project(ada), ada)
    await used(await scene.token(ada, is_revoked=True))
    await server.client.get("/api/v1/me", headers={"authorization": "Bearer prd_nonsense"})
    async with server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": gone.user.id})
    await used(gone.token)
    async with server.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT actor_id, token_id, detail->>'why' AS why, detail->>'route' AS route FROM audit_log "
                "WHERE action = 'credential:refuse' AND actor_id = ANY(:people)"
            ),
            {"people": [ada.user.id, gone.user.id]},
        )
        found = {row.actor_id: (row.why, row.route) for row in rows}
    assert found == {ada.user.id: ("revoked", "GET /api/v1/me"), gone.user.id: ("deactivated", "GET /api/v1/me")}


async def test_a_hidden_organisation_that_somebody_tried_to_change_is_written_down(server: ApiServer) -> None:
    owner, stranger = await server.user(), await server.user()
    made = await server.client.post("/api/v1/organizations", json={"name": f"of-{owner.name}"}, headers=owner.headers)
    assert made.status_code == 201, made.text
    path = f"/api/v1/organizations/of-{owner.name}"
    assert (await server.client.get(path, headers=stranger.headers)).status_code == 404
    changed = await server.client.patch(path, json={"display_name": "Mine"}, headers=stranger.headers)
    assert changed.status_code == 404
    assert sorted(await denials_of(server, stranger)) == ["organization:read", "organization:update"]
