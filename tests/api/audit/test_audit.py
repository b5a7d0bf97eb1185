"""Reading the audit log over HTTP: who sees what, every way of looking for it, files, and being forgotten."""

import asyncio
import csv
import io
import json
from contextvars import Context
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from api.requests import trace_id_of
from api.routes.audit import exports
from api.routes.audit.exports import _cell
from database.store.audit import record
from domain.actors import Actor, Origin
from domain.audit.actions import AuditAction
from tests.support.api import ApiServer, Person
from tests.support.factories import give_role, make_token

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def act(server: ApiServer, actor: Actor, action: AuditAction = AuditAction.TOKEN_CREATE, **more: Any) -> UUID:  # noqa: ANN401  # as record
    target = more.pop("target", uuid4())
    async with server.transaction() as session:
        await record(session, actor, action, more.pop("resource", "token"), target, **more)
    return target  # type: ignore[no-any-return]  # given or made above


async def found(
    server: ApiServer, person: Person, path: str = "/api/v1/audit", **query: object
) -> list[dict[str, Any]]:
    answer = await server.client.get(f"{path}?{urlencode(query)}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
async def auditor(api_server: ApiServer) -> Person:
    return await api_server.user(role="admin")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid_input"),
        ("target=nobody", "invalid_input"),
        ("outcome=odd", "invalid_input"),
        ("since=2026-01-01", "invalid_input"),
        ("cursor=AAAA", "invalid_cursor"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    api_server: ApiServer, auditor: Person, query: str, code: str
) -> None:
    answer = await api_server.client.get(f"/api/v1/audit?{query}", headers=auditor.headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_ones_own_acts_are_seen_and_nobody_elses(api_server: ApiServer) -> None:
    ada, bob = await api_server.user(), await api_server.user()
    mine = await act(api_server, ada.user.actor)
    theirs = await act(api_server, bob.user.actor)
    on_behalf = await act(api_server, bob.user.actor.model_copy(update={"on_behalf_of": (ada.user.id,)}))
    seen = {item["resource_id"] for item in await found(api_server, ada)}
    assert {str(mine), str(on_behalf)} <= seen
    assert str(theirs) not in seen
    assert await found(api_server, ada, anyone=bob.name, target=theirs) == []


async def test_a_narrow_token_sees_what_it_did_itself(api_server: ApiServer) -> None:
    ada = await api_server.user()
    async with api_server.transaction() as session:
        narrow = await make_token(session, ada.user, scopes=frozenset({"project:read"}))
    await act(api_server, ada.user.actor)
    by_token = await act(api_server, ada.user.actor.model_copy(update={"token_id": narrow.id}))
    answer = await api_server.client.get("/api/v1/audit", headers=narrow.headers)
    assert [item["resource_id"] for item in answer.json()["items"]] == [str(by_token)]


async def test_a_projects_log_is_its_own(api_server: ApiServer) -> None:
    owner, stranger = await api_server.user(), await api_server.user(role=None)
    project, other = await api_server.project(owner), await api_server.project(owner)
    path = f"/api/v1/projects/{project.full_name}/audit"
    items = await found(api_server, owner, path)
    assert [(item["action"], item["project_id"]) for item in items] == [("project:create", str(project.id))]
    assert (await api_server.client.get(path, headers=stranger.headers)).status_code == 404
    async with api_server.transaction() as session:
        await give_role(session, stranger.user, "viewer", project_id=project.id)
    refused = await api_server.client.get(path, headers=stranger.headers)
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "audit:read")
    denied = await found(api_server, owner, path, outcome="denied")
    assert {(item["action"], item["actor"]["name"]) for item in denied} >= {("audit:read", stranger.name)}
    assert all(item["project_id"] != str(other.id) for item in denied)


async def test_every_way_of_looking_finds_the_act(api_server: ApiServer, auditor: Person) -> None:
    person, lender = await api_server.user(), await api_server.user()
    actor = person.user.actor.model_copy(
        update={
            "on_behalf_of": (lender.user.id,),
            "origin": Origin(ip="2001:DB8::1", user_agent="agent/1", request_id="a-request-id", trace_id=TRACE),
        }
    )
    email = f"{person.name}@example.org"
    target = await act(
        api_server,
        actor,
        AuditAction.TOKEN_ROTATE,
        outcome="failure",
        before={"email": "x@example.org"},
        after={"email": email},
    )
    await act(api_server, person.user.actor, AuditAction.TOKEN_REVOKE)
    for query in (
        {"actor": person.name},
        {"actor": person.user.id},
        {"anyone": lender.name},
        {"anyone": lender.user.id},
        {"anyone": person.user.id},
        {"target": target},
        {"address": "2001:db8:0:0::1"},
        {"email": email.upper(), "actor": person.user.id},
        {"request_id": "a-request-id", "actor": person.user.id},
        {"action": "token:rot", "actor": person.user.id},
        {"outcome": "failure", "actor": person.user.id},
        {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00+02:00", "target": target},
    ):
        items = await found(api_server, auditor, **query)
        [item] = [one for one in items if one["resource_id"] == str(target)]
        assert item["actor"] == {"id": str(person.user.id), "name": person.name, "kind": "user"}
        assert item["on_behalf_of"] == [{"id": str(lender.user.id), "name": lender.name}]
        assert (item["address"], item["user_agent"], item["trace_id"]) == ("2001:DB8::1", "agent/1", TRACE)
        assert (item["before"], item["after"]) == ({"email": "x@example.org"}, {"email": email})
    for nothing in (
        {"actor": "nobody-of-this-name"},
        {"target": target, "until": "2026-01-01T00:00:00Z"},
        {"target": target, "since": "2100-01-01T00:00:00Z"},
        {"target": target, "address": "192.0.2.99"},
        {"target": target, "email": "other@example.org"},
        {"target": target, "action": "token%"},
        {"target": target, "outcome": "success"},
    ):
        assert await found(api_server, auditor, **nothing) == []


async def test_pages_follow_one_another(api_server: ApiServer) -> None:
    ada = await api_server.user()
    targets = [await act(api_server, ada.user.actor) for _ in range(7)]
    url: str | None = "/api/v1/audit?limit=3"
    seen: list[str] = []
    while url is not None:
        page = (await api_server.client.get(url, headers=ada.headers)).json()
        seen += [item["resource_id"] for item in page["items"]]
        url = page["next"]
    assert seen == [str(one) for one in reversed(targets)]


async def test_a_request_says_where_it_came_from(api_server: ApiServer) -> None:
    ada = await api_server.user()
    headers = {**ada.headers, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-request-id": "my-request-1"}
    await api_server.client.post("/api/v1/projects", json={"name": "traced"}, headers=headers)
    [item] = await found(api_server, ada, action="project:create")
    assert (item["trace_id"], item["request_id"], item["address"]) == (TRACE, "my-request-1", "127.0.0.1")
    assert item["token_id"] == str(ada.token.id)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00-short-00f067aa0ba902b7-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f"00-{TRACE}-00f067aa0ba902b7-01\n",
    ],
)
def test_a_trace_header_that_is_not_valid_is_ignored(header: str | None) -> None:
    assert trace_id_of(header) is None
    assert trace_id_of(f"cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-brings") == TRACE


async def exported(
    server: ApiServer, person: Person, form: str, path: str = "/api/v1/audit/export", **query: object
) -> str:
    browser = await server.browser(person)
    async with browser:
        answer = await browser.get(f"{path}?{urlencode({'form': form, **query})}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="audit.{form}"'
    return answer.text


async def test_an_export_has_every_row_in_order_and_is_audited_itself(api_server: ApiServer, auditor: Person) -> None:
    person = await api_server.user()
    targets = [await act(api_server, person.user.actor) for _ in range(5)]
    rows = json.loads(await exported(api_server, auditor, "json", actor=person.user.id))
    assert [row["resource_id"] for row in rows] == [str(one) for one in targets]
    table = list(csv.DictReader(io.StringIO(await exported(api_server, auditor, "csv", actor=person.user.id))))
    assert [(row["resource_id"], row["actor"]) for row in table] == [(str(one), person.name) for one in targets]
    exports = await found(api_server, auditor, action="audit:export", actor=auditor.user.id)
    assert [item["detail"]["form"] for item in exports] == ["csv", "json"]
    assert exports[0]["detail"]["filter"] == {"actor": str(person.user.id)}
    assert json.loads(await exported(api_server, auditor, "json", actor="nobody-of-this-name")) == []


async def test_a_cell_never_begins_as_a_formula_does(api_server: ApiServer, auditor: Person) -> None:
    person = await api_server.user()
    evil = person.user.actor.model_copy(
        update={"name": "=cmd|' /C calc'!A0", "origin": Origin(user_agent='@SUM(1+1)*cmd|"\n', ip="192.0.2.1")}
    )
    await act(api_server, evil)
    [row] = csv.DictReader(io.StringIO(await exported(api_server, auditor, "csv", actor=person.user.id)))
    assert row["actor"] == "'=cmd|' /C calc'!A0"
    assert row["user_agent"].startswith("'@SUM")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'="])
@pytest.mark.parametrize("value", ["1+1", 'cmd|" /C calc"!A0', '","=1+1', ";=1+1"])
def test_no_cell_of_a_table_is_a_formula_whatever_is_in_it(begin: str, value: str) -> None:
    for cell in (_cell(begin + value), _cell({begin: value}), _cell([begin + value])):
        assert cell[0] in "'{["
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow([_cell(begin + value), "next"])
    [read] = csv.reader(io.StringIO(written.getvalue(), newline=""))
    assert read[1] == "next"


@pytest.mark.parametrize(
    ("form", "statement"),
    [("csv", "DELETE FROM user_roles WHERE user_id = :id"), ("json", "DELETE FROM auth_sessions WHERE user_id = :id")],
)
async def test_an_export_ends_when_the_right_to_it_is_taken_back(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, form: str, statement: str
) -> None:
    monkeypatch.setattr(exports, "_LOOK_AGAIN_ROWS", 3)
    admin, person = await api_server.user(role="admin"), await api_server.user()
    for _ in range(8):
        await act(api_server, person.user.actor)
    looks, look = 0, exports._may

    async def take_back() -> None:
        async with api_server.transaction() as session:
            await session.execute(text(statement), {"id": admin.user.id})

    async def taken_back_at_the_second_look(*arguments: Any) -> bool:  # noqa: ANN401  # handed on
        nonlocal looks
        looks += 1
        if looks == 2:
            # Not as a part of the request.
            await asyncio.create_task(take_back(), context=Context())
        return await look(*arguments)

    monkeypatch.setattr(exports, "_may", taken_back_at_the_second_look)
    cut = await exported(api_server, admin, form, actor=person.user.id)
    assert cut.count(person.name) == 6
    assert "taken back" in cut.splitlines()[-1]
    if form == "json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut)


async def test_a_project_is_exported_by_who_may(api_server: ApiServer) -> None:
    owner = await api_server.user()
    project = await api_server.project(owner)
    path = f"/api/v1/projects/{project.full_name}/audit/export"
    rows = json.loads(await exported(api_server, owner, "json", path))
    assert {row["project_id"] for row in rows} == {str(project.id)}


async def test_the_public_key_is_public(api_server: ApiServer) -> None:
    key = (await api_server.client.get("/api/v1/audit/key")).json()
    assert key == {
        "algorithm": "Ed25519",
        "public_key": api_server.services.audit_key.text,
        "key_id": api_server.services.audit_key.id,
    }


async def _erase(server: ApiServer, admin: Person, user_id: UUID) -> httpx.Response:
    browser = await server.browser(admin)
    async with browser:
        page = await browser.get("/audit")
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        return await browser.delete(f"/api/v1/audit/people/{user_id}", headers={"x-csrf-token": token})


async def test_an_erased_person_cannot_be_read_any_more_and_nothing_else_changes(
    api_server: ApiServer, auditor: Person
) -> None:
    person, other = await api_server.user(), await api_server.user()
    actor = person.user.actor.model_copy(update={"origin": Origin(ip="192.0.2.44", user_agent="telltale/1")})
    target = await act(api_server, actor, detail={"email": "telltale@example.org", "why": "because"})
    about = await act(
        api_server,
        other.user.actor,
        AuditAction.USER_UPDATE,
        resource="user",
        target=person.user.id,
        before={"display_name": "Telltale"},
        after={"display_name": "Somebody"},
    )
    refused = await _erase(api_server, auditor, person.user.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "identity_active")
    async with api_server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": person.user.id})
        before = (
            await session.execute(text("SELECT hash FROM audit_log WHERE resource_id = :id"), {"id": target})
        ).scalar_one()
    assert (await _erase(api_server, auditor, person.user.id)).status_code == 204
    assert (await _erase(api_server, auditor, person.user.id)).status_code == 404
    [item] = await found(api_server, auditor, target=target)
    assert item["actor"] == {"id": str(person.user.id), "name": "(erased)", "kind": "user"}
    assert (item["address"], item["user_agent"]) == (None, None)
    assert item["detail"] == {"email": "(erased)", "why": "because"}
    assert item["hash"] == before.hex()
    changes = [one for one in await found(api_server, auditor, target=about) if one["action"] == "user:update"]
    assert changes[0]["before"] == {"display_name": "(erased)"}
    assert changes[0]["actor"]["name"] == other.name
    # Whoever was erased is written about without anything personal from then on.
    later = await act(api_server, actor, detail={"email": "telltale@example.org"})
    [item] = await found(api_server, auditor, target=later)
    assert (item["actor"]["name"], item["detail"]) == ("(erased)", {"email": "(erased)"})
    async with api_server.transaction() as session:
        content = (
            await session.execute(text("SELECT content FROM audit_log WHERE resource_id = :id"), {"id": later})
        ).scalar_one()
    assert "sealed" not in content
    assert "address" not in content


async def test_who_proved_nothing_lately_exports_nothing(api_server: ApiServer, auditor: Person) -> None:
    answer = await api_server.client.get("/api/v1/audit/export", headers=auditor.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "proof_required")
    [item] = await found(api_server, auditor, action="proof:", actor=auditor.user.id)
    assert (item["outcome"], item["detail"]["route"]) == ("denied", "GET /api/v1/audit/export")
