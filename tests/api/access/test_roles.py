import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from domain.access.permissions import SYSTEM_ROLES
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.browsers import by_browser
from tests.support.factories import give_role


@pytest.fixture
async def admin(api_server: ApiServer) -> Person:
    return await api_server.user(role="admin")


def fresh(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(5)}"


async def custom_role(server: ApiServer, admin: Person, *permissions: str) -> str:
    name = fresh("role")
    body = {"name": name, "permissions": list(permissions)}
    made = await by_browser(server, admin, "POST", "/api/v1/roles", body)
    assert made.status_code == 201, made.text
    return name


async def holder_of(server: ApiServer, admin: Person, *permissions: str) -> Person:
    """Somebody who holds these permissions everywhere, and nothing else."""
    person = await server.user(role=None)
    async with server.transaction() as session:
        await give_role(session, person.user, await custom_role(server, admin, *permissions))
    return person


async def bind(server: ApiServer, by: Person, **body: object) -> httpx.Response:
    return await by_browser(server, by, "POST", "/api/v1/roles/bindings", body)


async def denials(server: ApiServer, person: Person, action: str) -> int:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT count(*) FROM audit_log WHERE actor_id = :id AND action = :action AND outcome = 'denied'"),
            {"id": person.user.id, "action": action},
        )
        return int(rows.scalar_one())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "Upper", "permissions": []}, 400, "invalid_name"),
        ({"name": "bindings", "permissions": []}, 400, "invalid_name"),
        ({"name": "viewer", "permissions": []}, 409, "role_exists"),
        ({"name": "god", "permissions": ["*:*"]}, 400, "invalid_input"),
        ({"name": "odd", "permissions": ["tea:make"]}, 400, "invalid_input"),
    ],
)
async def test_a_wrong_role_is_refused(
    api_server: ApiServer, admin: Person, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await by_browser(api_server, admin, "POST", "/api/v1/roles", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_everything_is_the_admin_role_s_alone_and_the_refusal_says_so(
    api_server: ApiServer, admin: Person
) -> None:
    for path, body in [
        ("/roles", {"name": fresh("god"), "permissions": ["project:read", "*:*"]}),
        ("/tokens", {"name": "god", "scopes": ["*:*"]}),
        ("/delegations", {"to": "nobody", "permissions": ["*:*"]}),
    ]:
        refused = await by_browser(api_server, admin, "POST", f"/api/v1{path}", body)
        assert refused.status_code == 400
        assert "the admin role's alone" in refused.json()["detail"]


@pytest.mark.parametrize("role", sorted(SYSTEM_ROLES))
async def test_system_roles_are_listed_and_cannot_be_changed(api_server: ApiServer, admin: Person, role: str) -> None:
    shown = (await api_server.client.get(f"/api/v1/roles/{role}", headers=admin.headers)).json()
    assert (shown["is_system"], set(shown["permissions"])) == (True, set(SYSTEM_ROLES[role]))
    listed = (await api_server.client.get("/api/v1/roles", headers=admin.headers)).json()
    assert shown in listed
    for method in ("PATCH", "DELETE"):
        answer = await by_browser(api_server, admin, method, f"/api/v1/roles/{role}", {"permissions": []})
        assert (answer.status_code, answer.json()["code"]) == (409, "system_role")


async def test_a_changed_role_holds_at_once_for_everybody_who_has_it(api_server: ApiServer, admin: Person) -> None:
    role = await custom_role(api_server, admin, "project:read")
    person = await api_server.user(role=None)
    assert (await bind(api_server, admin, role=role, holder=person.name)).status_code == 201
    project = await api_server.project(admin)
    path = f"/api/v1/projects/{project.full_name}"
    assert (await api_server.client.get(path, headers=person.headers)).status_code == 200
    assert (await api_server.client.patch(path, headers=person.headers, json={})).status_code == 403
    change = {"permissions": ["project:read", "project:write"]}
    changed = await by_browser(api_server, admin, "PATCH", f"/api/v1/roles/{role}", change)
    assert changed.json()["permissions"] == change["permissions"]
    assert (await api_server.client.patch(path, headers=person.headers, json={})).status_code == 200
    described = await by_browser(api_server, admin, "PATCH", f"/api/v1/roles/{role}", {"description": "Helpers"})
    assert (described.json()["description"], described.json()["permissions"]) == ("Helpers", change["permissions"])
    used = await by_browser(api_server, admin, "DELETE", f"/api/v1/roles/{role}")
    assert (used.status_code, used.json()["code"], used.json()["details"]) == (409, "role_in_use", {"bindings": 1})
    page = (await api_server.client.get(f"/api/v1/roles/bindings?role={role}", headers=admin.headers)).json()
    [binding] = page["items"]
    assert (binding["holder"], binding["granted_by"], binding["project"]) == (person.name, admin.name, None)
    gone = await by_browser(api_server, admin, "DELETE", f"/api/v1/roles/bindings/{binding['id']}")
    assert gone.status_code == 204
    assert (await api_server.client.get(path, headers=person.headers)).status_code == 404
    assert (await by_browser(api_server, admin, "DELETE", f"/api/v1/roles/{role}")).status_code == 204
    assert (await api_server.client.get(f"/api/v1/roles/{role}", headers=admin.headers)).status_code == 404


async def test_nobody_makes_widens_or_gives_a_role_that_holds_more_than_they_do(
    api_server: ApiServer, admin: Person
) -> None:
    clerk = await holder_of(api_server, admin, "admin:roles", "project:read")
    body = {"name": fresh("role"), "permissions": ["project:read", "project:write"]}
    made = await by_browser(api_server, clerk, "POST", "/api/v1/roles", body)
    assert (made.status_code, made.json()["code"]) == (403, "not_yours_to_give")
    assert made.json()["details"]["permissions"] == ["project:write"]
    role = await custom_role(api_server, admin, "project:read")
    widened = await by_browser(api_server, clerk, "PATCH", f"/api/v1/roles/{role}", body | {"name": role})
    assert widened.status_code == 400  # a role keeps its name
    widened = await by_browser(
        api_server, clerk, "PATCH", f"/api/v1/roles/{role}", {"permissions": body["permissions"]}
    )
    assert (widened.status_code, widened.json()["code"]) == (403, "not_yours_to_give")
    for given in ("developer", "admin"):
        refused = await bind(api_server, clerk, role=given, holder=clerk.name)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours_to_give")
    assert await denials(api_server, clerk, "binding:create") == 2
    assert await denials(api_server, clerk, "role:create") == 1
    other = await api_server.user(role=None)
    assert (await bind(api_server, clerk, role=role, holder=other.name)).status_code == 201


async def test_what_is_lent_is_not_ones_to_give(api_server: ApiServer, admin: Person) -> None:
    clerk = await holder_of(api_server, admin, "admin:roles")
    role = await custom_role(api_server, admin, "observe:read")
    async with api_server.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO delegations (grant_id, delegator_id, delegate_id, permission_id) "
                "SELECT gen_random_uuid(), :lender, :borrower, id FROM permissions WHERE name = 'observe:read'"
            ),
            {"lender": admin.user.id, "borrower": clerk.user.id},
        )
    me = (await api_server.client.get("/api/v1/me", headers=clerk.headers)).json()
    assert "observe:read" in me["permissions"]
    lent = await bind(api_server, clerk, role=role, holder=clerk.name)
    assert (lent.status_code, lent.json()["code"]) == (403, "not_yours_to_give")


async def test_what_ends_for_the_giver_is_given_no_longer(api_server: ApiServer, admin: Person) -> None:
    person, clerk = await api_server.user(role=None), await api_server.user(role=None)
    role = await custom_role(api_server, admin, "admin:roles", "project:read")
    soon = datetime.now(UTC) + timedelta(hours=1)
    given = await bind(api_server, admin, role=role, holder=clerk.name, expires_at=soon.isoformat())
    assert given.status_code == 201
    for end in (None, (soon + timedelta(minutes=1)).isoformat()):
        refused = await bind(api_server, clerk, role=role, holder=person.name, expires_at=end)
        assert (refused.status_code, refused.json()["code"]) == (400, "outlasts_your_own")
    allowed = await bind(api_server, clerk, role=role, holder=person.name, expires_at=soon.isoformat())
    assert allowed.status_code == 201


async def test_wrong_bindings_are_refused(api_server: ApiServer, admin: Person) -> None:
    person = await api_server.user(role="viewer")
    for body, status, code in [
        ({"role": "no-such-role", "holder": person.name}, 404, "no_such_role"),
        ({"role": "viewer", "holder": fresh("nobody")}, 404, "no_such_holder"),
        ({"role": "viewer", "holder": f"{person.name}/team"}, 404, "no_such_holder"),
        ({"role": "viewer", "holder": person.name}, 409, "binding_exists"),
        ({"role": "ops", "holder": person.name, "expires_at": "2020-01-01T00:00:00Z"}, 400, "already_over"),
        ({"role": "ops", "holder": person.name, "expires_at": "2099-01-01T00:00:00"}, 400, "invalid_input"),
    ]:
        answer = await bind(api_server, admin, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_binding_that_ended_by_itself_gives_nothing_and_can_be_given_anew(
    api_server: ApiServer, admin: Person
) -> None:
    person = await api_server.user(role="viewer")
    async with api_server.transaction() as session:
        await session.execute(
            text("UPDATE user_roles SET expires_at = now() - interval '1 s' WHERE user_id = :id"),
            {"id": person.user.id},
        )
    assert (await api_server.client.get("/api/v1/me", headers=person.headers)).json()["permissions"] == []
    page = await api_server.client.get(f"/api/v1/roles/bindings?holder={person.name}", headers=admin.headers)
    assert page.json()["items"] == []
    assert (await bind(api_server, admin, role="viewer", holder=person.name)).status_code == 201


async def test_nobody_takes_from_themselves_what_they_need_to_undo_it(api_server: ApiServer, admin: Person) -> None:
    url = f"/api/v1/roles/bindings?holder={admin.name}"
    [own] = (await api_server.client.get(url, headers=admin.headers)).json()["items"]
    mine = f"/api/v1/roles/bindings/{own['id']}"
    refused = await by_browser(api_server, admin, "DELETE", mine)
    assert refused.status_code == 409
    assert refused.json()["code"] in ("would_lock_you_out", "last_admin")
    clerk = await holder_of(api_server, admin, "admin:roles")
    outranked = await by_browser(api_server, clerk, "DELETE", mine)
    assert (outranked.status_code, outranked.json()["code"]) == (403, "not_yours_to_give")
    other = await api_server.user(role="admin")
    assert (await by_browser(api_server, other, "DELETE", mine)).status_code == 204
    assert (await by_browser(api_server, other, "DELETE", mine)).status_code == 404


class TestOnAProject:
    @pytest.fixture
    async def owner(self, api_server: ApiServer) -> Person:
        return await api_server.user()

    @pytest.fixture
    async def project(self, api_server: ApiServer, owner: Person) -> ProjectView:
        return await api_server.project(owner)

    async def _bind(self, server: ApiServer, by: Person, project: ProjectView, **body: object) -> httpx.Response:
        url = f"/api/v1/projects/{project.full_name}/access/bindings"
        return await by_browser(server, by, "POST", url, body)

    async def test_the_owner_gives_and_takes_roles_there(
        self, api_server: ApiServer, owner: Person, project: ProjectView
    ) -> None:
        person = await api_server.user(role=None)
        path = f"/api/v1/projects/{project.full_name}"
        made = await self._bind(api_server, owner, project, role="developer", holder=person.name)
        assert (made.status_code, made.json()["project"]) == (201, project.full_name)
        assert (await api_server.client.patch(path, headers=person.headers, json={})).status_code == 200
        # What a role holds about the platform gives nothing on a project.
        own = await api_server.client.post("/api/v1/projects", headers=person.headers, json={"name": "x"})
        assert own.status_code == 403
        listed = (await api_server.client.get(f"{path}/access/bindings", headers=owner.headers)).json()["items"]
        assert [one["id"] for one in listed] == [made.json()["id"]]
        binding = f"{path}/access/bindings/{made.json()['id']}"
        elsewhere = await api_server.project(owner)
        wrong = binding.replace(project.full_name, elsewhere.full_name)
        assert (await by_browser(api_server, owner, "DELETE", wrong)).status_code == 404
        assert (await by_browser(api_server, person, "DELETE", binding)).status_code == 403
        assert (await by_browser(api_server, owner, "DELETE", binding)).status_code == 204
        assert (await api_server.client.get(path, headers=person.headers)).status_code == 404

    async def test_the_admin_role_is_not_an_owners_to_give(
        self, api_server: ApiServer, owner: Person, project: ProjectView
    ) -> None:
        answer = await self._bind(api_server, owner, project, role="admin", holder=owner.name)
        assert (answer.status_code, answer.json()["details"]["permissions"]) == (403, ["*:*"])
        assert await denials(api_server, owner, "binding:create") == 1

    async def test_who_manages_gives_no_more_than_they_hold_and_keeps_the_right(
        self, api_server: ApiServer, owner: Person, project: ProjectView
    ) -> None:
        admin = await api_server.user(role="admin")
        role = await custom_role(api_server, admin, "project:manage", "project:read")
        person, manager = await api_server.user(role=None), await api_server.user(role=None)
        made = await self._bind(api_server, owner, project, role=role, holder=manager.name)
        assert made.status_code == 201
        for given in ("developer", "ops", "admin"):
            refused = await self._bind(api_server, manager, project, role=given, holder=manager.name)
            assert (refused.status_code, refused.json()["code"]) == (403, "not_yours_to_give")
        assert (await self._bind(api_server, manager, project, role=role, holder=person.name)).status_code == 201
        binding = f"/api/v1/projects/{project.full_name}/access/bindings/{made.json()['id']}"
        locked = await by_browser(api_server, manager, "DELETE", binding)
        assert (locked.status_code, locked.json()["code"]) == (409, "would_lock_you_out")
        assert (await by_browser(api_server, person, "DELETE", binding)).status_code == 204
