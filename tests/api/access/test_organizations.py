import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from database.store.access.bindings import bind, holder_by_name
from database.store.access.roles import role_by_name
from domain.actors import SYSTEM
from tests.support.api import ApiServer, Person
from tests.support.browsers import by_browser
from tests.support.factories import TestToken, make_token


@dataclass
class Acme:
    """An organisation with one owner and one member."""

    server: ApiServer
    name: str
    owner: Person
    member: Person

    async def call(self, method: str, path: str, who: Person | TestToken, **more: Any) -> httpx.Response:  # noqa: ANN401  # handed on
        url = f"/api/v1/organizations/{self.name}{path}"
        return await self.server.client.request(method, url, headers=who.headers, **more)


def fresh(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(5)}"


@pytest.fixture
async def acme(api_server: ApiServer) -> AsyncIterator[Acme]:
    admin = await api_server.user(role="admin")  # somebody always is
    owner, member = await api_server.user(), await api_server.user()
    name = fresh("acme")
    made = await api_server.client.post("/api/v1/organizations", headers=owner.headers, json={"name": name})
    assert made.status_code == 201, made.text
    it = Acme(api_server, name, owner, member)
    assert (await it.call("POST", "/teams", owner, json={"name": "crew"})).status_code == 201
    assert (await it.call("PUT", f"/teams/crew/members/{member.name}", owner)).status_code == 204
    yield it
    await it.call("POST", "/deactivation", admin)


async def test_names_are_shared_with_people(acme: Acme) -> None:
    for name, status, code in [
        (acme.member.name, 409, "name_taken"),
        (acme.name, 409, "name_taken"),
        ("Big", 400, "invalid_name"),
    ]:
        answer = await acme.server.client.post("/api/v1/organizations", headers=acme.owner.headers, json={"name": name})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    viewer = await acme.server.user(role="viewer")
    refused = await acme.server.client.post("/api/v1/organizations", headers=viewer.headers, json={"name": fresh("x")})
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "organization:create")


async def test_an_organisation_does_not_sign_in_and_is_no_user(acme: Acme) -> None:
    answer = await acme.server.client.get(f"/api/v1/users/{acme.name}", headers=acme.owner.headers)
    assert answer.status_code == 404
    signed_in = await acme.server.client.post("/api/v1/sessions", json={"name": acme.name, "password": "x"})
    assert signed_in.status_code == 401


async def test_members_see_owners_change_and_strangers_find_nothing(acme: Acme) -> None:
    stranger, admin = await acme.server.user(), await acme.server.user(role="admin")
    for who, what in [(acme.owner, "owner"), (acme.member, "member"), (admin, "administrator")]:
        assert (await acme.call("GET", "", who)).json()["you_are"] == what
    change = {"display_name": "Acme Inc."}
    for path, method, body in [
        ("", "GET", None),
        ("", "PATCH", change),
        ("/teams", "GET", None),
        ("/teams", "POST", {"name": "mine"}),
        ("/teams/crew", "DELETE", None),
        ("/teams/crew/members", "GET", None),
        (f"/teams/owners/members/{stranger.name}", "PUT", None),
    ]:
        assert (await acme.call(method, path, stranger, json=body)).status_code == 404
        if method != "GET":
            refused = await acme.call(method, path, acme.member, json=body)
            assert (refused.status_code, refused.json()["code"]) == (403, "not_an_owner")
    assert (await acme.call("PATCH", "", acme.owner, json=change)).json()["display_name"] == "Acme Inc."
    for who, listed in [(acme.member, True), (stranger, False)]:
        page = (await acme.server.client.get("/api/v1/organizations", headers=who.headers)).json()
        assert (acme.name in {one["name"] for one in page["items"]}) is listed


async def test_a_token_of_an_owner_needs_the_scope_and_no_project(acme: Acme) -> None:
    async with acme.server.transaction() as session:
        narrow = await make_token(session, acme.owner.user, scopes=frozenset({"project:write"}))
        elsewhere = await make_token(session, acme.owner.user, project_id=(await acme.server.project(acme.owner)).id)
    refused = await acme.call("POST", "/teams", narrow, json={"name": "more"})
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "organization:create")
    assert (await acme.call("GET", "/teams", elsewhere)).status_code == 404


async def test_the_owners_stay_and_the_last_one_too(acme: Acme) -> None:
    kept = await acme.call("DELETE", "/teams/owners", acme.owner)
    assert (kept.status_code, kept.json()["code"]) == (409, "owners_stay")
    last = await acme.call("DELETE", f"/teams/owners/members/{acme.owner.name}", acme.owner)
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")
    assert (await acme.call("PUT", f"/teams/owners/members/{acme.member.name}", acme.owner)).status_code == 204
    assert (await acme.call("DELETE", f"/teams/owners/members/{acme.owner.name}", acme.owner)).status_code == 204
    assert (await acme.call("GET", "", acme.owner)).status_code == 404
    assert (await acme.call("GET", "", acme.member)).json()["you_are"] == "owner"


async def test_wrong_teams_and_members_are_refused(acme: Acme) -> None:
    other = (
        await acme.server.client.post(
            "/api/v1/organizations", headers=acme.owner.headers, json={"name": fresh("other")}
        )
    ).json()["name"]
    gone = await acme.server.user()
    async with acme.server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": gone.user.id})
    for method, path, body, status, code in [
        ("POST", "/teams", {"name": "crew"}, 409, "team_exists"),
        ("POST", "/teams", {"name": "Crew"}, 400, "invalid_name"),
        ("DELETE", "/teams/none", None, 404, "no_such_team"),
        ("PUT", f"/teams/none/members/{acme.member.name}", None, 404, "no_such_team"),
        ("PUT", f"/teams/crew/members/{fresh('nobody')}", None, 404, "no_such_user"),
        ("PUT", f"/teams/crew/members/{other}", None, 400, "cannot_join"),
        ("PUT", f"/teams/crew/members/{gone.name}", None, 400, "cannot_join"),
        ("DELETE", f"/teams/crew/members/{acme.owner.name}", None, 404, "no_such_member"),
    ]:
        answer = await acme.call(method, path, acme.owner, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), f"{method} {path}: {answer.text}"


async def test_a_team_keeps_its_members_and_roles_under_another_name(acme: Acme) -> None:
    project = await acme.server.project(acme.owner)
    path = f"/api/v1/projects/{project.full_name}"
    async with acme.server.transaction() as session:
        crew, viewer = await holder_by_name(session, f"{acme.name}/crew"), await role_by_name(session, "viewer")
        await bind(session, SYSTEM, viewer, crew, project_id=project.id, expires_at=None)
    assert (await acme.call("POST", "/teams", acme.owner, json={"name": "taken"})).status_code == 201
    for team, body, status, code in [
        ("crew", {"name": "taken"}, 409, "team_exists"),
        ("crew", {"name": "Not A Name"}, 400, "invalid_name"),
        ("owners", {"name": "bosses"}, 409, "owners_stay"),
        ("crew", {"name": "owners"}, 409, "team_exists"),
    ]:
        refused = await acme.call("PATCH", f"/teams/{team}", acme.owner, json=body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    renamed = await acme.call("PATCH", "/teams/crew", acme.owner, json={"name": "staff"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "staff")
    assert renamed.json()["members"] == 1
    described = await acme.call("PATCH", "/teams/staff", acme.owner, json={"description": "all of them"})
    assert (described.json()["name"], described.json()["description"]) == ("staff", "all of them")
    assert (await acme.server.client.get(path, headers=acme.member.headers)).status_code == 200
    listed = await acme.server.client.get(f"{path}/access/bindings", headers=acme.owner.headers)
    assert [one["holder"] for one in listed.json()["items"]] == [f"{acme.name}/staff"]


async def test_teams_and_members_are_listed_page_by_page(acme: Acme) -> None:
    await acme.call("PATCH", "/teams/crew", acme.owner, json={"description": "Those who row"})
    await acme.call("PUT", f"/teams/crew/members/{acme.owner.name}", acme.owner)
    await acme.call("PUT", f"/teams/crew/members/{acme.owner.name}", acme.owner)  # twice is once
    first = (await acme.call("GET", "/teams?limit=1", acme.member)).json()
    assert [(team["name"], team["description"], team["members"]) for team in first["items"]] == [
        ("crew", "Those who row", 2)
    ]
    second = (await acme.server.client.get(first["next"], headers=acme.member.headers)).json()
    assert ([team["name"] for team in second["items"]], second["next"]) == (["owners"], None)
    names: list[str] = []
    url: str | None = f"/api/v1/organizations/{acme.name}/teams/crew/members?limit=1"
    while url is not None:
        page = (await acme.server.client.get(url, headers=acme.member.headers)).json()
        names += [one["name"] for one in page["items"]]
        url = page["next"]
    assert names == sorted([acme.owner.name, acme.member.name])


async def test_owners_make_projects_in_it_and_members_reach_them_by_their_team(acme: Acme) -> None:
    body = {"name": fresh("p"), "owner": acme.name}
    refused = await acme.server.client.post("/api/v1/projects", headers=acme.member.headers, json=body)
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "admin:users")
    made = await acme.server.client.post("/api/v1/projects", headers=acme.owner.headers, json=body)
    assert (made.status_code, made.json()["owner"]) == (201, acme.name)
    path = f"/api/v1/projects/{acme.name}/{body['name']}"
    outsider = await acme.server.user(role=None)
    async with acme.server.transaction() as session:
        await session.execute(
            text("DELETE FROM user_roles WHERE user_id = :id"), {"id": acme.member.user.id}
        )  # of their own they see nothing
    assert (await acme.server.client.get(path, headers=acme.member.headers)).status_code == 404
    body = {"role": "viewer", "holder": f"{acme.name}/crew"}
    given = await by_browser(acme.server, acme.owner, "POST", f"{path}/access/bindings", body)
    assert given.status_code == 201, given.text
    assert (await acme.server.client.get(path, headers=acme.member.headers)).status_code == 200
    assert (await acme.server.client.get(path, headers=outsider.headers)).status_code == 404
    assert (await acme.call("DELETE", f"/teams/crew/members/{acme.member.name}", acme.owner)).status_code == 204
    assert (await acme.server.client.get(path, headers=acme.member.headers)).status_code == 404


async def test_a_deactivated_organisation_gives_nothing_until_it_is_back(acme: Acme) -> None:
    admin = await acme.server.user(role="admin")
    project = {"name": fresh("p"), "owner": acme.name}
    assert (
        await acme.server.client.post("/api/v1/projects", headers=acme.owner.headers, json=project)
    ).status_code == 201
    async with acme.server.transaction() as session:
        await session.execute(text("DELETE FROM user_roles WHERE user_id = :id"), {"id": acme.owner.user.id})
    path = f"/api/v1/projects/{acme.name}/{project['name']}"
    assert (await acme.server.client.get(path, headers=acme.owner.headers)).status_code == 200
    assert (await acme.call("POST", "/deactivation", acme.owner)).status_code == 403
    assert not (await acme.call("POST", "/deactivation", admin)).json()["is_active"]
    assert (await acme.server.client.get(path, headers=acme.owner.headers)).status_code == 404
    assert (await acme.call("GET", "", acme.owner)).status_code == 404
    assert (await acme.call("POST", "/reactivation", admin)).json()["is_active"]
    assert (await acme.server.client.get(path, headers=acme.owner.headers)).status_code == 200


async def test_rights_through_a_team_count_up_the_version_of_its_members(acme: Acme) -> None:
    async def version() -> int:
        async with acme.server.transaction() as session:
            rows = await session.execute(
                text("SELECT version FROM rights_versions WHERE user_id = :id"), {"id": acme.member.user.id}
            )
            return int(rows.scalar_one_or_none() or 0)

    before = await version()
    admin = await acme.server.user(role="admin")
    given = await by_browser(acme.server, admin, "POST", "/api/v1/roles/bindings", {"role": "ops", "holder": acme.name})
    assert given.status_code == 201
    given_to_all = await version()
    assert given_to_all > before
    assert (await acme.call("DELETE", "/teams/crew", acme.owner)).status_code == 204
    assert await version() > given_to_all
    assert (await acme.call("DELETE", f"/teams/{uuid4().hex}", acme.owner)).status_code == 404
