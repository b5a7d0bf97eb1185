import asyncio
import base64
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text

from domain.access.permissions import SYSTEM_ROLES
from domain.access.tokens import is_token
from tests.support.api import ApiServer, Person
from tests.support.factories import PASSWORD, make_token, make_user


async def _audited(server: ApiServer, person: Person, action: str) -> list[str]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT outcome FROM audit_log WHERE actor_id = :id AND action = :action ORDER BY created_at"),
            {"id": person.user.id, "action": action},
        )
        return list(rows.scalars())


async def _me(server: ApiServer, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return await server.client.get("/api/v1/me", headers=headers)


async def test_no_credential_is_401_and_says_how_to_bring_one(api_server: ApiServer) -> None:
    answer = await _me(api_server, None)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"] == 'Bearer realm="perdure"'


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("Bearer", "malformed_token"),
        ("Bearer nonsense", "malformed_token"),
        ("Bearer prd_" + "0" * 49, "malformed_token"),
        ("Bearer prd_" + "é" * 49, "malformed_token"),
        ("Digest abc", "unknown_scheme"),
        ("Basic abc", "unknown_scheme"),
    ],
)
async def test_a_malformed_credential_is_401(api_server: ApiServer, authorization: str, code: str) -> None:
    answer = await api_server.client.get("/api/v1/me", headers=[(b"Authorization", authorization.encode())])
    assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_expired_revoked_and_deactivated_credentials_answer_alike(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        expired = await make_token(session, person.user, lifetime=timedelta(seconds=-1))
        revoked = await make_token(session, person.user, is_revoked=True)
        gone = await make_token(session, await make_user(session, is_active=False))
    answers = [await api_server.client.get("/api/v1/me", headers=token.headers) for token in (expired, revoked, gone)]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "invalid_credential")}


async def test_me_tells_who_and_what_for(api_server: ApiServer, person: Person) -> None:
    body = (await api_server.client.get("/api/v1/me", headers=person.headers)).json()
    assert body["name"] == person.name
    assert body["permissions"] == sorted(SYSTEM_ROLES["developer"])
    assert body["token_id"] == str(person.token.id)
    assert body["csrf_token"] is None


async def test_the_password_makes_the_first_token_and_it_works(api_server: ApiServer, person: Person) -> None:
    made = await api_server.client.post(
        "/api/v1/tokens",
        auth=(person.name, PASSWORD),
        json={"name": "first", "scopes": ["project:read"], "expires_in_days": 1},
    )
    assert made.status_code == 201
    token = made.json()["token"]
    assert is_token(token)
    assert made.headers["cache-control"] == "no-store"
    answer = await _me(api_server, f"Bearer {token}")
    assert answer.json()["scopes"] == ["project:read"]
    async with api_server.transaction() as session:
        kept = await session.execute(
            text("SELECT token_hash FROM api_tokens WHERE id = :id"), {"id": made.json()["id"]}
        )
        assert token not in kept.scalar_one()
    assert await _audited(api_server, person, "token:create") == ["success"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"scopes": ["project:read"]}, "#/name"),
        ({"name": "", "scopes": ["project:read"]}, "#/name"),
        ({"name": "t", "scopes": []}, "#/scopes"),
        ({"name": "t", "scopes": ["*:*"]}, "#/scopes/0"),
        ({"name": "t", "scopes": ["project:read"], "expires_in_days": 0}, "#/expires_in_days"),
        ({"name": "t", "scopes": ["project:read"], "expires_in_days": 367}, "#/expires_in_days"),
        ({"name": "t", "scopes": ["project:read"], "forever": True}, "#/forever"),
    ],
)
async def test_a_wrong_token_request_is_400_and_points_at_the_place(
    api_server: ApiServer, person: Person, body: dict[str, object], pointer: str
) -> None:
    answer = await api_server.client.post("/api/v1/tokens", headers=person.headers, json=body)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["details"]["errors"]] == [pointer]


async def test_a_token_makes_no_wider_token(api_server: ApiServer, person: Person) -> None:
    project = await api_server.project(person)
    other = await api_server.project(person)
    async with api_server.transaction() as session:
        narrow = await make_token(
            session,
            person.user,
            scopes=frozenset({"project:read"}),
            project_id=project.id,
            lifetime=timedelta(days=2),
        )

    async def ask(**body: object) -> httpx.Response:
        return await api_server.client.post("/api/v1/tokens", headers=narrow.headers, json={"name": "t", **body})

    wider = await ask(scopes=["project:read", "project:write"], project=project.full_name)
    assert (wider.status_code, wider.json()["details"]) == (403, {"scopes": ["project:write"]})
    assert (await ask(scopes=["project:read"])).status_code == 403
    assert (await ask(scopes=["project:read"], project=other.full_name)).status_code == 404
    longer = await ask(scopes=["project:read"], project=project.full_name, expires_in_days=300)
    assert longer.status_code == 201
    assert datetime.fromisoformat(longer.json()["expires_at"]) < datetime.now(UTC) + timedelta(days=3)


async def test_a_token_for_a_project_that_is_not_yours_to_see_is_404(api_server: ApiServer, person: Person) -> None:
    stranger = await api_server.user(role=None)
    project = await api_server.project(person)
    answer = await api_server.client.post(
        "/api/v1/tokens",
        headers=stranger.headers,
        json={"name": "t", "scopes": ["project:read"], "project": project.full_name},
    )
    assert answer.status_code == 404


async def test_an_idempotency_key_is_refused_where_the_answer_is_a_secret(
    api_server: ApiServer, person: Person
) -> None:
    answer = await api_server.client.post(
        "/api/v1/tokens",
        headers={**person.headers, "Idempotency-Key": "k"},
        json={"name": "t", "scopes": ["project:read"]},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_not_possible")


async def test_a_revoked_token_is_dead_at_once(api_server: ApiServer, person: Person) -> None:
    path = f"/api/v1/tokens/{person.token.id}"
    assert (await api_server.client.delete(path, headers=person.headers)).status_code == 204
    assert (await api_server.client.get("/api/v1/me", headers=person.headers)).status_code == 401
    assert await _audited(api_server, person, "token:revoke") == ["success"]


async def test_tokens_of_others_and_wider_ones_are_out_of_reach(api_server: ApiServer, person: Person) -> None:
    stranger = await api_server.user()
    async with api_server.transaction() as session:
        narrow = await make_token(session, person.user, scopes=frozenset({"project:read"}))
    for headers in (stranger.headers, narrow.headers):
        answer = await api_server.client.delete(f"/api/v1/tokens/{person.token.id}", headers=headers)
        assert answer.status_code == 404
    listed = (await api_server.client.get("/api/v1/tokens", headers=narrow.headers)).json()["items"]
    assert [token["id"] for token in listed] == [str(narrow.id)]


async def test_tokens_are_listed_page_by_page(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        made = {str((await make_token(session, person.user)).id) for _ in range(4)} | {str(person.token.id)}
    seen: list[str] = []
    url: str | None = "/api/v1/tokens?limit=2"
    while url:
        page = (await api_server.client.get(url, headers=person.headers)).json()
        assert len(page["items"]) <= 2
        seen += [token["id"] for token in page["items"]]
        url = page["next"]
    assert len(seen) == len(made)
    assert set(seen) == made


async def test_a_cursor_that_was_tampered_with_is_400(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        for _ in range(2):
            await make_token(session, person.user)
    page = (await api_server.client.get("/api/v1/tokens?limit=1", headers=person.headers)).json()
    cursor = httpx.URL(page["next"]).params["cursor"]
    for wrong in (cursor[:-2] + "AA", "AA" + cursor[2:], "x", "ä"):
        answer = await api_server.client.get("/api/v1/tokens", params={"cursor": wrong}, headers=person.headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    elsewhere = await api_server.client.get("/api/v1/projects", params={"cursor": cursor}, headers=person.headers)
    assert elsewhere.status_code == 400


async def test_wrong_password_and_unknown_name_answer_alike_and_are_audited(
    api_server: ApiServer, person: Person
) -> None:
    body = {"scopes": ["project:read"], "name": "t"}
    wrong = await api_server.client.post("/api/v1/tokens", auth=(person.name, "wrong"), json=body)
    unknown = await api_server.client.post("/api/v1/tokens", auth=("nobody-at-all", "wrong"), json=body)
    for answer in (wrong, unknown):
        assert answer.status_code == 401
    strip = {"request_id"}
    assert {k: v for k, v in wrong.json().items() if k not in strip} == {
        k: v for k, v in unknown.json().items() if k not in strip
    }
    assert await _audited(api_server, person, "session:create") == ["failure"]


async def test_malformed_basic_is_401(api_server: ApiServer) -> None:
    for value in ("!!", base64.b64encode(b"no colon").decode(), base64.b64encode(b"\xff:\xff").decode()):
        answer = await api_server.client.post(
            "/api/v1/tokens",
            headers={"Authorization": f"Basic {value}"},
            json={"name": "t", "scopes": ["project:read"]},
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "malformed_basic")


async def test_a_browser_session_signs_in_acts_and_signs_out(api_server: ApiServer, person: Person) -> None:
    async with httpx.AsyncClient(base_url=api_server.base_url, trust_env=False) as browser:
        made = await browser.post("/api/v1/sessions", json={"name": person.name, "password": PASSWORD})
        assert made.status_code == 201
        cookie = made.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie  # loopback without TLS
        csrf = made.json()["csrf_token"]
        assert (await browser.get("/api/v1/me")).json()["csrf_token"] == csrf
        project = {"name": "by-browser"}
        refused = await browser.post("/api/v1/projects", json=project)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_token")
        headers = {"X-CSRF-Token": csrf}
        foreign = await browser.post(
            "/api/v1/projects", json=project, headers={**headers, "Origin": "https://evil.example"}
        )
        assert (foreign.status_code, foreign.json()["code"]) == (403, "cross_origin")
        assert (await browser.post("/api/v1/projects", json=project, headers=headers)).status_code == 201
        assert (await browser.delete("/api/v1/sessions/current", headers=headers)).status_code == 204
        assert (await browser.get("/api/v1/me")).status_code == 401


async def test_one_sessions_csrf_token_is_no_good_for_another(api_server: ApiServer, person: Person) -> None:
    stranger = await api_server.user()
    theirs, mine = await api_server.browser(stranger), await api_server.browser(person)
    async with theirs, mine:
        csrf = (await theirs.get("/api/v1/me")).json()["csrf_token"]
        answer = await mine.post("/api/v1/projects", json={"name": "p"}, headers={"X-CSRF-Token": csrf})
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_token")


async def test_last_use_is_noted_off_the_request_and_at_most_once_a_minute(
    api_server: ApiServer, person: Person
) -> None:
    async def last_used() -> datetime | None:
        async with api_server.transaction() as session:
            rows = await session.execute(
                text("SELECT last_used_at FROM api_tokens WHERE id = :id"), {"id": person.token.id}
            )
            moment: datetime | None = rows.scalar_one()
            return moment

    uses = api_server.services.token_uses
    await asyncio.gather(*(api_server.client.get("/api/v1/me", headers=person.headers) for _ in range(5)))
    await uses.write(api_server.services.database)
    first = await last_used()
    assert first is not None
    await api_server.client.get("/api/v1/me", headers=person.headers)
    await uses.write(api_server.services.database)
    assert await last_used() == first


async def test_too_many_passwords_at_once_are_refused_with_a_time_to_come_back(
    api_server: ApiServer, person: Person
) -> None:
    answers = await asyncio.gather(
        *(
            api_server.client.post("/api/v1/sessions", json={"name": person.name, "password": PASSWORD})
            for _ in range(60)
        )
    )
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {201, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
