"""Signed tokens of a real issuer as Bearer credentials."""

import base64
import json
import time
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from tests.support.browsers import browser_of
from tests.support.factories import TestUser, make_project, make_session, make_user
from tests.support.openid import SERVICE, Browser
from tests.support.openid_scene import Scene
from tests.support.pipelines import make_run
from tests.support.sse import streaming


async def call(scene: Scene, token: str, path: str = "/api/v1/me", **more: Any) -> httpx.Response:  # noqa: ANN401  # httpx's
    return await scene.server.client.request(
        more.pop("method", "GET"), path, headers={"authorization": f"Bearer {token}"}, **more
    )


async def link(scene: Scene, user: TestUser, subject: str) -> UUID:
    async with scene.server.transaction() as session:
        made = await session.execute(
            text(
                "INSERT INTO external_identities (user_id, issuer, subject) VALUES (:user, :issuer, :subject) "
                "ON CONFLICT (issuer, subject) DO UPDATE SET user_id = EXCLUDED.user_id RETURNING id"
            ),
            {"user": user.id, "issuer": scene.provider.issuer, "subject": subject},
        )
        found: UUID = made.scalar_one()
        return found


async def service(scene: Scene, *, role: str | None = "developer") -> TestUser:
    """A service account that the provider's service client is."""
    async with scene.server.transaction() as session:
        made = await make_user(session, kind="service", role=role)
    await link(scene, made, SERVICE)
    return made


def changed(token: str, *, header: dict[str, object] | None = None, claims: dict[str, object] | None = None) -> str:
    """The token with other contents and the old signature."""
    parts = token.split(".")
    for index, more in ((0, header), (1, claims)):
        if more:
            said = json.loads(base64.urlsafe_b64decode(parts[index] + "=="))
            parts[index] = base64.urlsafe_b64encode(json.dumps(said | more).encode()).rstrip(b"=").decode()
    return ".".join(parts)


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "é.é.é", "eyJ9" * 10_000])
async def test_what_is_no_token_at_all_is_refused(oidc: Scene, token: str) -> None:
    answer = await oidc.server.client.get("/api/v1/me", headers=[(b"authorization", b"Bearer " + token.encode())])
    assert answer.status_code in (400, 401, 431)


async def test_changed_tokens_are_refused_and_say_why(oidc: Scene) -> None:
    await service(oidc)
    token = await oidc.provider.service_token()
    assert (await call(oidc, token)).status_code == 200
    wrong = {
        "is not accepted: its algorithm 'none'": changed(token, header={"alg": "none"}).rsplit(".", 1)[0] + ".",
        "its algorithm 'HS256'": changed(token, header={"alg": "HS256"}),
        "its header is not understood": changed(token, header={"crit": ["exp"]}),
        "its issuer is not one": changed(token, claims={"iss": "https://elsewhere.example"}),
        "no access token": changed(token, header={"typ": "logout+jwt"}),
        "its signature is not right": changed(token, claims={"sub": "admin"}),
        "does not publish": changed(token, header={"kid": "nobody-knows"}),
    }
    for reason, one in wrong.items():
        answer = await call(oidc, one)
        assert answer.status_code == 401
        assert answer.json()["code"] == "untrusted_token"
        assert reason in answer.json()["detail"]


async def test_a_token_for_another_audience_is_refused(oidc: Scene) -> None:
    await service(oidc)
    token = await oidc.provider.service_token(resource="https://other.example/api")
    answer = await call(oidc, token)
    assert (answer.status_code, "another audience" in answer.json()["detail"]) == (401, True)


async def test_a_token_that_is_good_for_too_long_is_refused(oidc: Scene) -> None:
    await service(oidc)
    await oidc.provider.control(tokenLifetime=7 * 86400)
    try:
        answer = await call(oidc, await oidc.provider.service_token())
    finally:
        await oidc.provider.control(tokenLifetime=600)
    assert (answer.status_code, "is good for longer" in answer.json()["detail"]) == (401, True)


async def test_whom_nobody_linked_is_told_what_to_do(oidc: Scene) -> None:
    async with oidc.server.transaction() as session:
        await session.execute(text("DELETE FROM external_identities WHERE subject = :s"), {"s": SERVICE})
    answer = await call(oidc, await oidc.provider.service_token())
    assert (answer.status_code, answer.json()["code"]) == (401, "not_linked")


async def test_a_token_is_its_subject_narrowed_to_its_scopes(oidc: Scene) -> None:
    made = await service(oidc)
    token = await oidc.provider.service_token(scope="project:read openid")
    me = (await call(oidc, token)).json()
    assert (me["id"], me["kind"], me["scopes"]) == (str(made.id), "service", ["project:read"])
    answer = await call(oidc, token, "/api/v1/projects", method="POST", json={"name": "made"})
    assert (answer.status_code, "scopes" in answer.json()["detail"]) == (403, True)
    wider = await oidc.provider.service_token(scope="project:read project:create")
    assert (await call(oidc, wider, "/api/v1/projects", method="POST", json={"name": "made"})).status_code == 201


async def test_without_scopes_it_reads_nothing_that_needs_a_permission(oidc: Scene) -> None:
    await service(oidc)
    token = await oidc.provider.service_token(scope="")
    assert (await call(oidc, token)).json()["scopes"] == []


async def test_deactivating_and_unlinking_end_it_at_once(oidc: Scene) -> None:
    made = await service(oidc)
    token = await oidc.provider.service_token()
    async with oidc.server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": made.id})
    assert (await call(oidc, token)).status_code == 401
    async with oidc.server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = true WHERE id = :id"), {"id": made.id})
    assert (await call(oidc, token)).status_code == 200
    async with oidc.server.transaction() as session:
        await session.execute(text("DELETE FROM external_identities WHERE user_id = :id"), {"id": made.id})
    assert (await call(oidc, token)).status_code == 401


async def test_unlinking_ends_open_streams(oidc: Scene) -> None:
    admin = await oidc.server.user(role="admin")
    made = await service(oidc)
    async with oidc.server.transaction() as session:
        project = await make_project(session, made)
    run = await make_run(oidc.server.services.database, project, made)
    path = f"/api/v1/projects/{project.full_name}/pipelines/{run.run_id}/events"
    headers = {"authorization": f"Bearer {await oidc.provider.service_token()}"}
    links = f"/api/v1/users/{made.name}/external-identities"
    async with browser_of(oidc.server, admin) as browser, streaming(oidc.server.client, path, headers) as stream:
        assert (await stream.next()).name == "status"
        [link_id] = [one["id"] for one in (await browser.get(links)).json()["items"]]
        assert (await browser.delete(f"{links}/{link_id}")).status_code == 204
        unlinked_at = time.monotonic()
        (denied,) = await stream.rest()
        took_seconds = time.monotonic() - unlinked_at
    assert (denied.name, denied.json["code"]) == ("denied", "no_longer_granted")
    assert took_seconds < 1


async def test_it_makes_no_tokens_of_ours_and_changes_no_way_to_sign_in(oidc: Scene) -> None:
    await service(oidc)
    token = await oidc.provider.service_token()
    answer = await call(oidc, token, "/api/v1/tokens", method="POST", json={"name": "t", "scopes": ["project:read"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "session_needed")
    assert (
        await call(oidc, token, f"/api/v1/me/external-identities/{UUID(int=1)}", method="DELETE")
    ).status_code == 403


async def test_the_chain_of_actors_becomes_the_chain_of_the_audit_log(oidc: Scene) -> None:
    lender = await service(oidc)
    async with oidc.server.transaction() as session:
        agent, helper = await make_user(session, kind="agent"), await make_user(session, kind="agent")
    await link(oidc, agent, "agent-7")
    await link(oidc, helper, "helper-7")
    actor = {"sub": "helper-7", "act": {"sub": "agent-7", "act": {"sub": "whoever"}}}
    await oidc.provider.control(actor=actor)
    try:
        token = await oidc.provider.service_token(scope="project:read project:create")
        name = f"acted-{lender.name}"[:60]
        answer = await call(oidc, token, "/api/v1/projects", method="POST", json={"name": name})
        assert answer.status_code == 201
        async with oidc.server.transaction() as session:
            rows = await session.execute(
                text("SELECT actor_id, on_behalf_of FROM audit_log WHERE action = 'project:create' AND actor_id = :id"),
                {"id": helper.id},
            )
            assert rows.one() == (helper.id, [agent.id, lender.id])
            await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": agent.id})
        # Somebody in the middle was taken out of use: what passed through them is good no more.
        assert (await call(oidc, token)).status_code == 401
        await oidc.provider.control(actor={"sub": "nobody-we-know"})
        assert (await call(oidc, await oidc.provider.service_token())).status_code == 401
        await oidc.provider.control(actor={"sub": "agent-7", "iss": "https://elsewhere.example"})
        answer = await call(oidc, await oidc.provider.service_token())
        assert (answer.status_code, "another issuer" in answer.json()["detail"]) == (401, True)
    finally:
        await oidc.provider.control(actor=None)


async def test_a_known_key_verifies_while_the_issuer_is_away(oidc: Scene) -> None:
    await service(oidc)
    token = await oidc.provider.service_token()
    assert (await call(oidc, token)).status_code == 200
    asked = (await oidc.provider.control(offline=True))["asked"]
    try:
        assert (await call(oidc, token)).status_code == 200
        oidc.clock.seconds += 2 * 3600
        assert (await call(oidc, token)).status_code == 200
    finally:
        again = (await oidc.provider.control(offline=False))["asked"]
    assert again.get("introspection") == asked.get("introspection")


async def test_exchanged_keys_are_followed(oidc: Scene) -> None:
    await service(oidc)
    assert (await call(oidc, await oidc.provider.service_token())).status_code == 200
    await oidc.provider.control(rotate=True)
    oidc.clock.seconds += 31
    assert (await call(oidc, await oidc.provider.service_token())).status_code == 200


async def test_git_takes_it_as_the_password(oidc: Scene) -> None:
    made = await service(oidc)
    token = await oidc.provider.service_token(scope="project:read project:write project:create")
    answer = await oidc.server.client.get(
        f"/{made.name}/pushed.git/info/refs?service=git-receive-pack", auth=("anything", token)
    )
    assert answer.status_code == 200, answer.text
    answer = await oidc.server.client.get(
        f"/{made.name}/pushed.git/info/refs", auth=("anything", changed(token, claims={"sub": "x"}))
    )
    assert answer.status_code in (401, 403)


async def test_an_administrator_says_who_a_service_is_elsewhere(oidc: Scene) -> None:
    admin = await oidc.server.user(role="admin")
    async with oidc.server.transaction() as session:
        made = await make_user(session, kind="service")
        await session.execute(text("DELETE FROM external_identities WHERE subject = :s"), {"s": SERVICE})
    path = f"/api/v1/users/{made.name}/external-identities"
    browser = Browser(oidc.server.base_url)
    try:
        async with oidc.server.transaction() as session:
            _, secret = await make_session(session, admin.user)
        browser.http.cookies.set("perdure_session", secret)
        headers = {"x-csrf-token": await browser.csrf(), "accept": "application/json"}
        url = oidc.server.base_url + path
        unknown = await browser.http.post(
            url, json={"issuer": "https://elsewhere.example", "subject": "x"}, headers=headers
        )
        assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_issuer")
        order = {"issuer": oidc.provider.issuer, "subject": SERVICE}
        linked = await browser.http.post(url, json=order, headers=headers)
        assert linked.status_code == 201, linked.text
        assert (await call(oidc, await oidc.provider.service_token())).json()["id"] == str(made.id)
        assert (await browser.http.post(url, json=order, headers=headers)).status_code == 409
        assert (await browser.http.get(url)).json() == linked.json()
        [link_id] = [one["id"] for one in linked.json()["items"]]
        assert (await browser.http.delete(f"{url}/{link_id}", headers=headers)).status_code == 204
        assert (await call(oidc, await oidc.provider.service_token())).status_code == 401
    finally:
        await browser.close()
