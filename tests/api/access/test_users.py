import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.access import Delegation
from tests.support.api import ApiServer, Person
from tests.support.browsers import browser_of, by_browser
from tests.support.factories import PASSWORD, TestUser, give_role, make_session, make_token, make_user


@pytest.fixture
async def admin(api_server: ApiServer) -> Person:
    return await api_server.user(role="admin")


@pytest.fixture
async def developer(api_server: ApiServer) -> Person:
    return await api_server.user()


def fresh(prefix: str = "user") -> str:
    return f"{prefix}-{secrets.token_hex(5)}"


async def make(server: ApiServer, by: Person, **body: object) -> httpx.Response:
    return await server.client.post("/api/v1/users", headers=by.headers, json=body)


async def agent_of(server: ApiServer, person: Person, kind: str = "agent") -> str:
    name = fresh(kind)
    made = await make(server, person, name=name, kind=kind)
    assert made.status_code == 201, made.text
    return name


async def audited(server: ApiServer, actor: Person, action: str, outcome: str = "success") -> list[Mapping[str, Any]]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT detail FROM audit_log WHERE actor_id = :id AND action = :action AND outcome = :outcome"),
            {"id": actor.user.id, "action": action, "outcome": outcome},
        )
        return list(rows.scalars())


async def invitations(server: ApiServer, user_id: str) -> int:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT count(*) FROM audit_log WHERE resource_id = :id AND action = 'user:invite'"),
            {"id": UUID(user_id)},
        )
        return int(rows.scalar_one())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "Upper", "email": "a@example.org"}, 400, "invalid_name"),
        ({"name": "api", "email": "a@example.org"}, 400, "invalid_name"),
        ({"name": "organizations", "email": "a@example.org"}, 400, "invalid_name"),
        ({"name": "no-mail"}, 400, "email_needed"),
        ({"name": "bad-mail", "email": "nonsense"}, 400, "invalid_email"),
        ({"name": "bad-mail", "email": "a b@example.org"}, 400, "invalid_email"),
        ({"name": "weak", "email": "weak@example.org", "password": "password"}, 400, "weak_password"),
        ({"name": "robot", "kind": "agent", "password": PASSWORD}, 400, "password_not_possible"),
        ({"name": "robot", "kind": "agent", "responsible": "nobody-at-all"}, 404, "no_such_user"),
        ({"name": "person", "email": "p@example.org", "responsible": "SELF"}, 400, "invalid_responsible"),
        ({"name": "org", "kind": "organization"}, 400, "invalid_input"),
    ],
)
async def test_a_wrong_user_is_refused_with_the_reason(
    api_server: ApiServer, admin: Person, body: dict[str, Any], status: int, code: str
) -> None:
    if body.get("responsible") == "SELF":
        body = {**body, "responsible": admin.name}
    answer = await make(api_server, admin, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_password_is_not_sent_with_a_key_that_would_keep_a_trace_of_it(
    api_server: ApiServer, admin: Person
) -> None:
    body = {"name": fresh(), "email": f"{fresh()}@example.org", "password": PASSWORD}
    headers = {**admin.headers, "Idempotency-Key": "once"}
    answer = await api_server.client.post("/api/v1/users", headers=headers, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_not_possible")


async def test_names_and_addresses_belong_to_one(api_server: ApiServer, admin: Person) -> None:
    name, email = fresh(), f"{fresh()}@example.org"
    assert (await make(api_server, admin, name=name, email=email)).status_code == 201
    again = await make(api_server, admin, name=name, email=f"{fresh()}@example.org")
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    same_mail = await make(api_server, admin, name=fresh(), email=email.upper())
    assert (same_mail.status_code, same_mail.json()["code"]) == (409, "email_taken")


async def test_an_invited_person_has_no_password_and_one_with_a_first_password_signs_in(
    api_server: ApiServer, admin: Person
) -> None:
    invited = (await make(api_server, admin, name=fresh(), email=f"{fresh()}@example.org")).json()
    assert not invited["has_password"]
    assert await invitations(api_server, invited["id"]) == 1
    again = await api_server.client.post(f"/api/v1/users/{invited['name']}/invitation", headers=admin.headers)
    assert again.status_code == 202
    assert await invitations(api_server, invited["id"]) == 2
    assert (invited["kind"], invited["is_active"], invited["email_verified_at"]) == ("user", True, None)
    name = fresh()
    body = {"name": name, "email": f"{name}@example.org", "password": "a quiet river under stars"}
    assert (await make(api_server, admin, **body)).json()["has_password"]
    signed_in = await api_server.client.post("/api/v1/sessions", json={"name": name, "password": body["password"]})
    assert signed_in.status_code == 201
    refused = await api_server.client.post(f"/api/v1/users/{name}/invitation", headers=admin.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "cannot_be_invited")
    nobody = await api_server.client.post("/api/v1/sessions", json={"name": invited["name"], "password": ""})
    assert nobody.status_code == 401


async def test_only_administrators_make_people_and_developers_make_agents_of_their_own(
    api_server: ApiServer, developer: Person
) -> None:
    person = await make(api_server, developer, name=fresh(), email=f"{fresh()}@example.org")
    assert (person.status_code, person.json()["details"]["permission"]) == (403, "admin:users")
    other = await api_server.user()
    foreign = await make(api_server, developer, name=fresh(), kind="agent", responsible=other.name)
    assert foreign.status_code == 403
    viewer = await api_server.user(role="viewer")
    refused = await make(api_server, viewer, name=fresh(), kind="agent")
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "agent:run")
    mine = await make(api_server, developer, name=fresh(), kind="agent")
    assert (mine.status_code, mine.json()["responsible"]) == (201, developer.name)


async def test_an_agent_answers_for_no_agent(api_server: ApiServer, admin: Person, developer: Person) -> None:
    agent = await agent_of(api_server, developer)
    refused = await make(api_server, admin, name=fresh(), kind="service", responsible=agent)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_responsible")


async def test_the_list_is_of_all_for_administrators_and_of_ones_own_for_others(
    api_server: ApiServer, admin: Person, developer: Person
) -> None:
    agent = await agent_of(api_server, developer)
    mine = (await api_server.client.get("/api/v1/users", headers=developer.headers)).json()["items"]
    assert {one["name"]: "email" in one for one in mine} == {developer.name: False, agent: True}
    prefix = fresh("same")
    for number in range(3):
        body = {"name": f"{prefix}-{number}", "email": f"{prefix}-{number}@example.org"}
        assert (await make(api_server, admin, **body)).status_code == 201
    await api_server.client.post(f"/api/v1/users/{prefix}-1/deactivation", headers=admin.headers)
    found: list[str] = []
    url: str | None = f"/api/v1/users?prefix={prefix}&limit=2"
    while url is not None:
        page = (await api_server.client.get(url, headers=admin.headers)).json()
        found += [one["name"] for one in page["items"]]
        url = page["next"]
    assert found == [f"{prefix}-{number}" for number in range(3)]
    for active, kind, expected in [("yes", "user", 2), ("no", "user", 1), ("both", "agent", 0)]:
        query = f"/api/v1/users?prefix={prefix}&active={active}&kind={kind}"
        page = (await api_server.client.get(query, headers=admin.headers)).json()
        assert len(page["items"]) == expected, query


async def test_others_see_the_public_part_only(api_server: ApiServer, admin: Person, developer: Person) -> None:
    other = await api_server.user()
    path = f"/api/v1/users/{developer.name}"
    seen = (await api_server.client.get(path, headers=other.headers)).json()
    assert set(seen) == {"id", "name", "kind", "display_name", "is_active"}
    assert "email" in (await api_server.client.get(path, headers=admin.headers)).json()
    # A token may be anybody's who found it, so it shows no more of its owner than of others.
    assert "email" not in (await api_server.client.get(path, headers=developer.headers)).json()
    async with browser_of(api_server, developer) as browser:
        assert (await browser.get(path)).json()["email"] == f"{developer.name}@example.org"


async def test_a_token_does_not_change_its_owner_and_a_browser_does(api_server: ApiServer, developer: Person) -> None:
    path = f"/api/v1/users/{developer.name}"
    change = {"display_name": "Dev"}
    refused = await api_server.client.patch(path, headers=developer.headers, json=change)
    assert (refused.status_code, refused.json()["code"]) == (403, "session_needed")
    assert await audited(api_server, developer, "user:update", "denied")
    async with browser_of(api_server, developer) as browser:
        changed = await browser.patch(path, json=change)
        assert (changed.status_code, changed.json()["display_name"]) == (200, "Dev")
        # One's own address is proven before it replaces the old one: that is another route.
        own = await browser.patch(path, json={"email": "new@example.org"})
        assert (own.status_code, own.json()["code"]) == (400, "own_email")
        raised = await browser.patch(path, json={"responsible": developer.name})
        assert (raised.status_code, raised.json()["code"]) == (400, "invalid_responsible")


async def test_an_administrator_changes_an_address_with_a_recent_proof_and_it_is_not_verified(
    api_server: ApiServer, admin: Person, developer: Person
) -> None:
    path = f"/api/v1/users/{developer.name}"
    change = {"email": f"{fresh()}@Example.org"}
    async with api_server.transaction() as session:
        await session.execute(
            text("UPDATE users SET email_verified_at = now() WHERE id = :id"), {"id": developer.user.id}
        )
    by_token = await api_server.client.patch(path, headers=admin.headers, json=change)
    assert (by_token.status_code, by_token.json()["code"]) == (403, "proof_required")
    nothing = await by_browser(api_server, admin, "PATCH", path, {"email": None})
    assert (nothing.status_code, nothing.json()["code"]) == (400, "email_needed")
    changed = await by_browser(api_server, admin, "PATCH", path, change)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["email"], changed.json()["email_verified_at"]) == (change["email"].lower(), None)
    taken = await by_browser(api_server, admin, "PATCH", path, {"email": f"{admin.name}@example.org"})
    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    async with api_server.transaction() as session:
        rows = await session.execute(
            text("SELECT audit_log::text FROM audit_log WHERE resource_id = :id AND action = 'user:update'"),
            {"id": developer.user.id},
        )
        told = " ".join(rows.scalars())
    assert "user:update" in told
    assert change["email"].lower() not in told


async def test_who_administers_users_does_not_become_who_administers_all(api_server: ApiServer, admin: Person) -> None:
    role = fresh("role")
    body = {"name": role, "permissions": ["admin:users"]}
    made = await by_browser(api_server, admin, "POST", "/api/v1/roles", body)
    assert made.status_code == 201
    clerk = await api_server.user(role=None)
    async with api_server.transaction() as session:
        await give_role(session, clerk.user, role)
    victim = f"/api/v1/users/{admin.name}"
    for answer in (
        await api_server.client.patch(victim, headers=clerk.headers, json={"email": f"{fresh()}@example.org"}),
        await api_server.client.post(f"{victim}/deactivation", headers=clerk.headers),
        await api_server.client.delete(f"{victim}/sessions", headers=clerk.headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "outranked")
    assert len(await audited(api_server, clerk, "user:update", "denied")) == 1
    other = await api_server.user()
    allowed = await api_server.client.patch(
        f"/api/v1/users/{other.name}", headers=clerk.headers, json={"display_name": "Renamed"}
    )
    assert allowed.json()["display_name"] == "Renamed"


async def test_nobody_deactivates_themselves(api_server: ApiServer, admin: Person) -> None:
    answer = await api_server.client.post(f"/api/v1/users/{admin.name}/deactivation", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "would_lock_you_out")


async def test_a_deactivation_ends_all_by_which_somebody_acts_at_once(
    api_server: ApiServer, admin: Person, developer: Person
) -> None:
    lender, borrower = await api_server.user(), await api_server.user()
    agent = await agent_of(api_server, developer)
    async with api_server.transaction() as session:
        agent_id = (
            await session.execute(text("SELECT id FROM users WHERE name = :name"), {"name": agent})
        ).scalar_one()
        await make_session(session, developer.user)
        acting = await make_token(session, developer.user)  # the agent acts with the developer's rights
        for_them = await make_token(session, TestUser(agent_id, agent))  # the agent acts for the developer
        child = await make_token(session, borrower.user)  # exchanged from the one before by somebody else
        await session.execute(
            text("UPDATE api_tokens SET acting_id = :agent WHERE id = :id"), {"agent": agent_id, "id": acting.id}
        )
        await session.execute(
            text("UPDATE api_tokens SET on_behalf_of = ARRAY[CAST(:dev AS uuid)] WHERE id = :id"),
            {"dev": developer.user.id, "id": for_them.id},
        )
        await session.execute(
            text("UPDATE api_tokens SET parent_id = :parent WHERE id = :id"), {"parent": for_them.id, "id": child.id}
        )
        permission = (
            await session.execute(text("SELECT id FROM permissions WHERE name = 'project:read'"))
        ).scalar_one()
        received = await _lend(session, lender.user.id, developer.user.id, permission)
        given = await _lend(session, developer.user.id, borrower.user.id, permission, received)
        passed_on = await _lend(session, borrower.user.id, agent_id, permission, given)
    path = f"/api/v1/users/{developer.name}"
    ended = (await api_server.client.post(f"{path}/deactivation", headers=admin.headers)).json()
    assert ended == {"sessions": 1, "tokens": 4, "delegations": 3, "answers_for": [agent]}
    for token in (developer.token, acting, for_them, child):
        assert (await api_server.client.get("/api/v1/me", headers=token.headers)).status_code == 401
    assert (await api_server.client.get("/api/v1/me", headers=borrower.headers)).status_code == 200
    again = (await api_server.client.post(f"{path}/deactivation", headers=admin.headers)).json()
    assert again == {"sessions": 0, "tokens": 0, "delegations": 0, "answers_for": []}
    assert (await api_server.client.post(f"{path}/reactivation", headers=admin.headers)).json()["is_active"]
    assert (await api_server.client.get("/api/v1/me", headers=developer.headers)).status_code == 401
    async with api_server.transaction() as session:
        revoked = await session.execute(
            text("SELECT count(*) FROM delegations WHERE id = ANY(:ids) AND revoked_by = :admin"),
            {"ids": [received, given, passed_on], "admin": admin.user.id},
        )
        assert revoked.scalar_one() == 3
    signed_in = await api_server.client.post("/api/v1/sessions", json={"name": developer.name, "password": PASSWORD})
    assert signed_in.status_code == 201
    [detail] = await audited(api_server, admin, "user:deactivate")
    assert detail["tokens"] == 4


async def _lend(
    session: AsyncSession, lender: UUID, borrower: UUID, permission: UUID, parent: UUID | None = None
) -> UUID:
    row = Delegation(
        grant_id=uuid4(),
        delegator_id=lender,
        delegate_id=borrower,
        permission_id=permission,
        parent_id=parent,
        redelegations_left=2,
    )
    session.add(row)
    await session.flush()
    return row.id


async def test_who_answers_for_an_agent_manages_it_but_does_not_bring_it_back(
    api_server: ApiServer, admin: Person, developer: Person
) -> None:
    agent, other = await agent_of(api_server, developer), await api_server.user()
    path = f"/api/v1/users/{agent}"
    refused = await api_server.client.patch(path, headers=other.headers, json={"display_name": "Mine"})
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "admin:users")
    changed = await api_server.client.patch(
        path, headers=developer.headers, json={"display_name": "Builder", "responsible": other.name}
    )
    assert (changed.json()["display_name"], changed.json()["responsible"]) == ("Builder", other.name)
    async with api_server.transaction() as session:
        narrow = await make_token(session, other.user, scopes=frozenset({"project:read"}))
        elsewhere = await make_token(session, other.user, project_id=(await api_server.project(other)).id)
    for token in (narrow, elsewhere, developer.token):
        assert (await api_server.client.post(f"{path}/deactivation", headers=token.headers)).status_code == 403
    assert (await api_server.client.post(f"{path}/deactivation", headers=other.headers)).status_code == 200
    assert (await api_server.client.post(f"{path}/reactivation", headers=other.headers)).status_code == 403
    assert (await api_server.client.post(f"{path}/reactivation", headers=admin.headers)).status_code == 200


async def test_an_unknown_name_looks_like_a_forbidden_one_to_who_may_not_manage(
    api_server: ApiServer, developer: Person
) -> None:
    known, unknown = await api_server.user(), fresh()
    answers = [
        await api_server.client.patch(f"/api/v1/users/{name}", headers=developer.headers, json={})
        for name in (known.name, unknown)
    ]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


async def test_tokens_of_an_agent_are_made_by_who_answers_for_it_and_never_for_other_people(
    api_server: ApiServer, admin: Person, developer: Person
) -> None:
    agent = await agent_of(api_server, developer, "service")
    path = f"/api/v1/users/{agent}/tokens"
    body = {"name": "ci", "scopes": ["project:read"]}
    stranger = await api_server.user()
    assert (await api_server.client.post(path, headers=stranger.headers, json=body)).status_code == 403
    async with api_server.transaction() as session:
        narrow = await make_token(session, developer.user, scopes=frozenset({"agent:run"}))
    wider = await api_server.client.post(path, headers=narrow.headers, json=body)
    assert (wider.status_code, wider.json()["code"]) == (403, "scope_missing")
    made = await api_server.client.post(path, headers=developer.headers, json=body)
    assert made.status_code == 201, made.text
    me = await api_server.client.get("/api/v1/me", headers={"Authorization": f"Bearer {made.json()['token']}"})
    assert (me.json()["name"], me.json()["kind"]) == (agent, "service")
    listed = (await api_server.client.get(path, headers=narrow.headers)).json()["items"]
    assert [one["id"] for one in listed] == [made.json()["id"]]
    person = await api_server.client.post(f"/api/v1/users/{stranger.name}/tokens", headers=admin.headers, json=body)
    assert (person.status_code, person.json()["code"]) == (409, "token_of_a_person")
    foreign = await api_server.client.delete(f"/api/v1/tokens/{made.json()['id']}", headers=stranger.headers)
    assert foreign.status_code == 404
    assert (
        await api_server.client.delete(f"/api/v1/tokens/{made.json()['id']}", headers=narrow.headers)
    ).status_code == 204
    await api_server.client.post(f"/api/v1/users/{agent}/deactivation", headers=developer.headers)
    late = await api_server.client.post(path, headers=developer.headers, json=body)
    assert (late.status_code, late.json()["code"]) == (409, "user_inactive")


async def test_an_expired_credential_and_one_for_another_project_manage_nobody(
    api_server: ApiServer, admin: Person
) -> None:
    async with api_server.transaction() as session:
        victim = await make_user(session)
        expired = await make_token(session, admin.user, lifetime=timedelta(seconds=-1))
        elsewhere = await make_token(session, admin.user, project_id=(await api_server.project(admin)).id)
    path = f"/api/v1/users/{victim.name}/deactivation"
    assert (await api_server.client.post(path, headers=expired.headers)).status_code == 401
    assert (await api_server.client.post(path, headers=elsewhere.headers)).status_code == 403
