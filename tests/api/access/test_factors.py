import asyncio

import httpx
import pytest
from sqlalchemy import text

from tests.support.api import ApiServer, Person
from tests.support.factories import PASSWORD
from tests.support.second_factor import audited, code_now, desk, secret_of


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


async def _sign_in(server: ApiServer, person: Person, code: str | None = None) -> httpx.Response:
    body = {"name": person.name, "password": PASSWORD} | ({} if code is None else {"code": code})
    return await server.client.post("/api/v1/sessions", json=body)


async def _first_token(server: ApiServer, person: Person, headers: dict[str, str] | None = None) -> httpx.Response:
    return await server.client.post(
        "/api/v1/tokens",
        auth=(person.name, PASSWORD),
        json={"name": "t", "scopes": ["project:read"]},
        headers=headers or {},
    )


CHANGES = [
    ("POST", "/me/factors/totp", None),
    ("POST", "/me/factors/totp/confirm", {"code": "123456"}),
    ("DELETE", "/me/factors/totp", None),
    ("POST", "/me/factors/recovery-codes", None),
    ("POST", "/me/factors/passkeys", {"name": "k", "credential": {}}),
    ("DELETE", "/me/factors/passkeys/00000000-0000-4000-8000-000000000000", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_changing_a_factor_needs_a_recent_proof(
    api_server: ApiServer, person: Person, method: str, path: str, body: object
) -> None:
    async with desk(api_server, person) as at:
        await at.age_proof()
        answer = await at.send(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "proof_required")
        assert answer.json()["details"] == {"how": ["password"]}
        assert await at.audited("proof:required") == ["denied"]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_token_changes_no_factor_whatever_the_operator_says_of_proofs(
    api_server: ApiServer, person: Person, method: str, path: str, body: object
) -> None:
    answer = await api_server.client.request(method, f"/api/v1{path}", json=body, headers=person.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "session_needed")


async def test_an_unconfirmed_app_is_not_asked_for_and_can_be_begun_anew(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        first = (await at.send("POST", "/me/factors/totp")).json()
        second = (await at.send("POST", "/me/factors/totp")).json()
        assert first["secret"] != second["secret"]
        assert (await _sign_in(api_server, person)).status_code == 201
        wrong = await at.send("POST", "/me/factors/totp/confirm", {"code": code_now(secret_of(first["uri"]))})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "wrong_code")
        right = await at.send("POST", "/me/factors/totp/confirm", {"code": code_now(secret_of(second["uri"]))})
        assert len(set(right.json()["recovery_codes"])) == 10
        assert right.headers["cache-control"] == "no-store"
        again = await at.send("POST", "/me/factors/totp/confirm", {"code": code_now(secret_of(second["uri"]))})
        assert (again.status_code, again.json()["code"]) == (409, "no_totp")
        over = await at.send("POST", "/me/factors/totp")
        assert (over.status_code, over.json()["code"]) == (409, "totp_exists")


async def test_nothing_secret_is_kept_in_clear(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        secret, codes = await at.set_up_totp()
    async with api_server.transaction() as session:
        kept = await session.execute(
            text("SELECT secret FROM totp_factors WHERE user_id = :id"), {"id": person.user.id}
        )
        sealed = kept.scalar_one()
        assert secret not in sealed
        assert len(sealed) == 4 + 12 + len(secret) + 16
        hashes = await session.execute(
            text("SELECT code_hash FROM recovery_codes WHERE user_id = :id"), {"id": person.user.id}
        )
        assert not {code.replace("-", "") for code in codes} & set(hashes.scalars())
        told = await session.execute(
            text("SELECT detail::text FROM audit_log WHERE actor_id = :id AND detail IS NOT NULL"),
            {"id": person.user.id},
        )
        assert not [one for one in told.scalars() if codes[0] in one]


async def test_the_qr_code_is_inline_svg_without_style_or_script(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        svg = (await at.send("POST", "/me/factors/totp")).json()["qr_svg"]
    assert svg.startswith("<svg")
    assert "style" not in svg
    assert "script" not in svg


async def test_a_password_alone_signs_nobody_in_who_has_a_factor(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
        refused = await _sign_in(api_server, person)
        assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_required")
        assert refused.json()["details"] == {"factors": ["totp", "recovery_code"]}
        assert "set-cookie" not in refused.headers
        assert (await _first_token(api_server, person)).json()["code"] == "second_factor_required"
        wrong = await _sign_in(api_server, person, "000000")
        assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_code")
        right = await _sign_in(api_server, person, code_now(secret))
        assert right.status_code == 201
        async with api_server.transaction() as session:
            rows = await session.execute(
                text("SELECT factor FROM auth_sessions WHERE id = :id"), {"id": right.json()["session_id"]}
            )
            assert rows.scalar_one() == "totp"
        assert (await _sign_in(api_server, person, code_now(secret))).json()["code"] == "wrong_code"
        assert await audited(api_server, person, "session:create") == [
            "denied", "denied", "failure", "success", "failure"
        ]  # fmt: skip


async def test_a_wrong_password_tells_nothing_of_the_second_factor(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
    answers = [
        await api_server.client.post("/api/v1/sessions", json={"name": name, "password": "wrong", "code": code})
        for name, code in ((person.name, code_now(secret)), ("nobody-at-all", "123456"))
    ]
    assert {(answer.status_code, answer.json()["code"], answer.json()["detail"]) for answer in answers} == {
        (401, "wrong_password", "The name or the password is not right.")
    }
    right = await _sign_in(api_server, person, code_now(secret))
    assert right.status_code == 201, "the code was not used up by the attempt with the wrong password"


@pytest.mark.parametrize("kind", ["totp", "recovery_code"])
async def test_one_code_at_the_same_time_signs_in_once(api_server: ApiServer, person: Person, kind: str) -> None:
    async with desk(api_server, person) as at:
        secret, codes = await at.set_up_totp()
    code = code_now(secret) if kind == "totp" else codes[0]
    answers = await asyncio.gather(*(_sign_in(api_server, person, code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401]


async def test_a_recovery_code_is_good_once_and_new_ones_end_the_old(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        _, codes = await at.set_up_totp()
        assert (await _sign_in(api_server, person, codes[0].upper())).status_code == 201
        assert (await _sign_in(api_server, person, codes[0])).json()["code"] == "wrong_code"
        shown = (await at.send("GET", "/me/factors")).json()
        assert (shown["recovery_codes_left"], shown["recovery_codes_few"]) == (9, False)
        fresh = (await at.send("POST", "/me/factors/recovery-codes")).json()["recovery_codes"]
        assert (await _sign_in(api_server, person, codes[1])).json()["code"] == "wrong_code"
        assert (await _sign_in(api_server, person, fresh[0])).status_code == 201
        await at.change(
            "DELETE FROM recovery_codes WHERE id IN (SELECT id FROM recovery_codes WHERE user_id = :user "
            "AND used_at IS NULL LIMIT 6)"
        )
        shown = (await at.send("GET", "/me/factors")).json()
        assert (shown["recovery_codes_left"], shown["recovery_codes_few"]) == (3, True)
        assert await at.audited("recovery_code:use") == ["success", "success"]


async def test_recovery_codes_of_others_are_no_good(api_server: ApiServer, person: Person) -> None:
    stranger = await api_server.user()
    async with desk(api_server, stranger) as theirs, desk(api_server, person) as mine:
        _, codes = await theirs.set_up_totp()
        await mine.set_up_totp()
    assert (await _sign_in(api_server, person, codes[0])).json()["code"] == "wrong_code"


async def test_without_a_factor_there_are_no_recovery_codes(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        answer = await at.send("POST", "/me/factors/recovery-codes")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_second_factor")
        await at.set_up_totp()
        assert (await at.send("DELETE", "/me/factors/totp")).status_code == 204
        assert (await at.send("DELETE", "/me/factors/totp")).status_code == 404
        assert (await at.send("GET", "/me/factors")).json()["recovery_codes_left"] == 0
        assert (await _sign_in(api_server, person)).status_code == 201


async def test_wrong_codes_lead_to_a_ban_that_a_right_password_does_not_lift(
    api_server: ApiServer, person: Person
) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
    wrong = [await _sign_in(api_server, person, "000000") for _ in range(api_server.services.bans.failures_of_name_max)]
    assert {answer.json()["code"] for answer in wrong} == {"wrong_code"}
    banned = await _sign_in(api_server, person, code_now(secret))
    assert (banned.status_code, banned.json()["code"]) == (429, "banned")
    assert int(banned.headers["retry-after"]) > 0
    assert (await _sign_in(api_server, person)).json()["code"] == "second_factor_required"
    assert (await _sign_in(api_server, person, code_now(secret))).status_code == 429


async def test_the_first_token_needs_the_code_in_a_header(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
    assert (await _first_token(api_server, person, {"X-Second-Factor": "1"})).json()["code"] == "wrong_code"
    assert (await _first_token(api_server, person, {"X-Second-Factor": code_now(secret)})).status_code == 201


@pytest.mark.parametrize(
    "body",
    [{}, {"code": "123456"}, {"password": ""}, {"passkey": {}}, {"code": None, "password": None}],
)
async def test_a_proof_that_does_not_count_is_refused_and_says_what_does(
    api_server: ApiServer, person: Person, body: dict[str, object]
) -> None:
    async with desk(api_server, person) as at:
        answer = await at.send("POST", "/sessions/current/proof", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "proof_missing")
        assert answer.json()["details"] == {"how": ["password"]}


async def test_a_proof_by_password_lets_go_on_with_a_new_cookie(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        await at.age_proof()
        before = at.client.cookies["perdure_session"]
        wrong = await at.send("POST", "/sessions/current/proof", {"password": "wrong"})
        assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
        assert (await at.send("POST", "/me/factors/totp")).status_code == 403
        right = await at.send("POST", "/sessions/current/proof", {"password": PASSWORD})
        assert right.status_code == 200
        assert right.json()["csrf_token"] == at.csrf
        assert at.client.cookies["perdure_session"] != before
        old = await api_server.client.get("/api/v1/me", headers={"Cookie": f"perdure_session={before}"})
        assert old.status_code == 401, "the secret of before is dead"
        assert (await at.send("POST", "/me/factors/totp")).status_code == 201
        assert await at.audited("session:elevate") == ["failure", "success"]


async def test_with_a_factor_the_password_is_no_proof(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        secret, codes = await at.set_up_totp()
        await at.age_proof()
        refused = await at.send("POST", "/sessions/current/proof", {"password": PASSWORD})
        assert refused.json()["details"] == {"how": ["totp", "recovery_code"]}
        for code in (code_now(secret), codes[0]):
            await at.age_proof()
            assert (await at.send("DELETE", "/me/factors/totp")).status_code == 403
            assert (await at.send("POST", "/sessions/current/proof", {"code": code})).status_code == 200
        assert (await at.send("DELETE", "/me/factors/totp")).status_code == 204


async def test_a_token_cannot_prove_anything(api_server: ApiServer, person: Person) -> None:
    answer = await api_server.client.post(
        "/api/v1/sessions/current/proof", json={"password": PASSWORD}, headers=person.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "session_needed")


async def test_an_admin_takes_lost_factors_away_and_a_token_or_a_stranger_does_not(
    api_server: ApiServer, person: Person
) -> None:
    admin = await api_server.user(role="admin")
    async with desk(api_server, person) as at:
        await at.set_up_totp()
        refused = await at.send("DELETE", f"/users/{person.name}/factors")
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    path = f"/api/v1/users/{person.name}/factors"
    by_token = await api_server.client.delete(path, headers=admin.headers)
    assert (by_token.status_code, by_token.json()["code"]) == (403, "proof_required")
    assert by_token.json()["details"] == {"how": []}
    async with desk(api_server, admin) as at:
        assert (await at.send("DELETE", "/users/nobody-at-all/factors")).status_code == 404
        assert (await at.send("DELETE", f"/users/{person.name}/factors")).status_code == 204
    assert (await _sign_in(api_server, person)).status_code == 201


async def test_a_browser_left_alone_passes_nothing_on(api_server: ApiServer, person: Person) -> None:
    other = await api_server.user()
    token = {"name": "t", "scopes": ["project:read"]}
    loan = {"to": other.name, "permissions": ["project:read"], "redelegations": 0}
    async with desk(api_server, person) as at:
        assert (await at.send("POST", "/tokens", token)).status_code == 201
        await at.age_proof()
        for method, path, body in (
            ("POST", "/tokens", token),
            ("POST", f"/tokens/{person.token.id}/rotation", {}),
            ("POST", "/delegations", loan),
        ):
            answer = await at.send(method, path, body)
            assert (answer.status_code, answer.json()["code"]) == (403, "proof_required"), path
        by_token = await api_server.client.post("/api/v1/tokens", json=token, headers=person.headers)
        assert by_token.status_code == 201, "a token makes what is not wider than itself"


async def test_the_operator_may_let_tokens_do_what_needs_a_proof(
    api_server: ApiServer, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await api_server.user(role="admin")
    path = f"/api/v1/users/{person.name}/factors"
    assert (await api_server.client.delete(path, headers=admin.headers)).status_code == 403
    monkeypatch.setitem(api_server.services.__dict__, "tokens_without_proof", True)
    assert (await api_server.client.delete(path, headers=admin.headers)).status_code == 204
    still = await api_server.client.post("/api/v1/me/factors/totp", headers=admin.headers)
    assert (still.status_code, still.json()["code"]) == (403, "session_needed")


async def test_who_signs_in_elsewhere_only_is_told_how_to_prove_it(api_server: ApiServer, person: Person) -> None:
    async with desk(api_server, person) as at:
        await at.change("UPDATE users SET password_hash = NULL WHERE id = :user")
        await at.age_proof()
        assert (await at.send("POST", "/me/factors/totp")).json()["details"] == {"how": []}
        await at.change(
            "INSERT INTO external_identities (user_id, issuer, subject) SELECT id, 'https://idp.example', name "
            "FROM users WHERE id = :user"
        )
        assert (await at.send("POST", "/me/factors/totp")).json()["details"] == {"how": ["provider"]}
