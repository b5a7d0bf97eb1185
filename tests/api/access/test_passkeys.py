"""Passkeys against a software authenticator: what is refused first, then what is good."""

import copy
import json
import re
from collections.abc import AsyncIterator, Iterator
from html import unescape
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.passkeys import PasskeySite, passkey_site
from deploy.local.loopback import PLAIN_HTTP_ONLY
from domain.access.factors import PASSKEYS_MAX
from tests.support.api import ApiServer, Person
from tests.support.authenticator import (
    EDDSA,
    ES256,
    ES256K,
    PRESENT,
    RS256,
    VERIFIED,
    Authenticator,
    b64url,
)
from tests.support.factories import PASSWORD
from tests.support.second_factor import Desk, desk, site_origin

HTML = {"accept": "text/html"}


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


@pytest.fixture
async def at(api_server: ApiServer, person: Person) -> AsyncIterator[Desk]:
    async with desk(api_server, person) as opened:
        yield opened


@pytest.fixture
async def visitor(api_server: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a session, at the address where passkeys work."""
    async with _visitor(api_server) as client:
        yield client


def _visitor(server: ApiServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=site_origin(server), headers=HTML, trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=30
    )


def _authenticator(server: ApiServer, **more: Any) -> Authenticator:  # noqa: ANN401  # handed on
    return Authenticator(site_origin(server), **more)


def _options(page: httpx.Response) -> dict[str, Any]:
    """The options that the page gives the browser."""
    found = re.search(r'data-options="([^"]*)"', page.text)
    assert found, page.text
    options: dict[str, Any] = json.loads(unescape(found[1]))
    return options


def _csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


async def _by_passkey(visitor: httpx.AsyncClient, authenticator: Authenticator, **wrong: object) -> httpx.Response:
    page = await visitor.get("/login")
    answer = authenticator.get(_options(page), **wrong)
    return await _answer(visitor, page, answer)


async def _answer(visitor: httpx.AsyncClient, page: httpx.Response, answer: object) -> httpx.Response:
    form = {"csrf_token": _csrf(page), "answer": json.dumps(answer), "next": "/me/factors"}
    return await visitor.post("/login/passkey", data=form)


@pytest.mark.parametrize(
    ("public_url", "site"),
    [
        ("https://perdure.example", PasskeySite("perdure.example", "https://perdure.example")),
        ("https://perdure.example:443", PasskeySite("perdure.example", "https://perdure.example")),
        ("https://perdure.example:8443", PasskeySite("perdure.example", "https://perdure.example:8443")),
        ("http://localhost:7400", PasskeySite("localhost", "http://localhost:7400")),
        ("http://127.0.0.1:7400", PasskeySite("localhost", "http://localhost:7400")),
        ("http://[::1]:7400", PasskeySite("localhost", "http://localhost:7400")),
        ("http://perdure.example", None),
        ("https://192.0.2.7", None),
        ("http://10.0.0.1:7400", None),
    ],
)
def test_where_passkeys_work(public_url: str, site: PasskeySite | None) -> None:
    assert passkey_site(public_url) == site


REFUSED_REGISTRATIONS: list[tuple[str, dict[str, Any], int, str]] = [
    ("wrong origin", {"origin": "https://evil.example"}, 400, "passkey_refused"),
    ("the origin of the address", {"origin": "http://127.0.0.1"}, 400, "passkey_refused"),
    ("wrong relying party", {"rp_id": "evil.example"}, 400, "passkey_refused"),
    ("wrong challenge", {"challenge": b64url(b"x" * 56)}, 401, "challenge_expired"),
    ("empty challenge", {"challenge": ""}, 401, "challenge_expired"),
    ("an answer to a sign-in", {"type": "webauthn.get"}, 400, "passkey_refused"),
    ("asked in a frame of another site", {"cross_origin": True}, 400, "passkey_refused"),
    ("nobody was there", {"flags": VERIFIED}, 400, "passkey_refused"),
    ("an attestation that nobody asked for", {"fmt": "tpm"}, 400, "passkey_refused"),
    ("an unknown attestation", {"fmt": "x" * 1000}, 400, "passkey_refused"),
    ("a statement where none should be", {"statement": {"sig": b"x", "alg": -7}}, 400, "passkey_refused"),
]


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [case[1:] for case in REFUSED_REGISTRATIONS],
    ids=[case[0] for case in REFUSED_REGISTRATIONS],
)
async def test_a_bad_registration_keeps_nothing(
    api_server: ApiServer, at: Desk, wrong: dict[str, Any], status: int, code: str
) -> None:
    answer = await at.register(_authenticator(api_server), **wrong)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await at.send("GET", "/me/factors")).json()["passkeys"] == []


async def test_an_algorithm_that_was_not_offered_is_refused(api_server: ApiServer, at: Desk) -> None:
    answer = await at.register(_authenticator(api_server, algorithm=ES256K))
    assert (answer.status_code, answer.json()["code"]) == (400, "passkey_refused")
    assert -47 not in [one["alg"] for one in (await at.options())["pubKeyCredParams"]]


async def test_a_point_that_is_on_no_curve_is_not_kept(
    api_server: ApiServer, at: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = _authenticator(api_server)
    good = authenticator._cose()
    monkeypatch.setattr(authenticator, "_cose", lambda: good[:-32] + bytes(31) + b"\x01")
    answer = await at.register(authenticator)
    assert (answer.status_code, answer.json()["code"]) == (400, "passkey_refused")


async def test_a_registration_is_good_once_and_for_its_session_only(
    api_server: ApiServer, at: Desk, person: Person
) -> None:
    stranger = await api_server.user()
    credential = _authenticator(api_server).create(await at.options())
    body = {"name": "key", "credential": credential}
    async with desk(api_server, stranger) as theirs, desk(api_server, person) as other_session:
        for elsewhere in (theirs, other_session):
            answer = await elsewhere.send("POST", "/me/factors/passkeys", body)
            assert (answer.status_code, answer.json()["code"]) == (401, "challenge_expired")
    assert (await at.send("POST", "/me/factors/passkeys", body)).status_code == 201
    again = await at.send("POST", "/me/factors/passkeys", body)
    assert (again.status_code, again.json()["code"]) == (400, "passkey_refused")


async def test_a_credential_that_is_known_is_not_taken_over(api_server: ApiServer, at: Desk) -> None:
    authenticator = _authenticator(api_server)
    assert (await at.register(authenticator)).status_code == 201
    assert [one["id"] for one in (await at.options())["excludeCredentials"]] == [b64url(authenticator.credential_id)]
    async with desk(api_server, await api_server.user()) as theirs:
        copied = _authenticator(api_server, credential_id=authenticator.credential_id)
        answer = await theirs.register(copied)
        assert (answer.status_code, answer.json()["code"]) == (409, "passkey_exists")


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\0b", "a\nb"])
async def test_a_passkey_needs_a_name(api_server: ApiServer, at: Desk, name: str) -> None:
    assert (await at.register(_authenticator(api_server), name)).status_code == 400


async def test_there_is_an_end_to_how_many(api_server: ApiServer, at: Desk) -> None:
    await at.change(
        "INSERT INTO passkeys (user_id, name, credential_id, public_key) "
        "SELECT u.id, 'key', decode(md5(u.name || n::text), 'hex'), '\\x00' "
        "FROM users u, generate_series(1, :many) n WHERE u.id = :user",
        many=PASSKEYS_MAX,
    )
    answer = await at.register(_authenticator(api_server))
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_passkeys")


async def test_passkeys_are_named_renamed_and_removed_by_their_owner_only(api_server: ApiServer, at: Desk) -> None:
    made = (await at.register(_authenticator(api_server), " phone ")).json()
    assert (made["name"], len(made["recovery_codes"])) == ("phone", 10)
    second = (await at.register(_authenticator(api_server), "desk")).json()
    assert second["recovery_codes"] is None
    path = f"/me/factors/passkeys/{made['id']}"
    async with desk(api_server, await api_server.user()) as theirs:
        assert (await theirs.send("PATCH", path, {"name": "mine"})).status_code == 404
        assert (await theirs.send("DELETE", path)).status_code == 404
    assert (await at.send("PATCH", path, {"name": ""})).status_code == 400
    assert (await at.send("PATCH", path, {"name": "old phone"})).json()["name"] == "old phone"
    assert (await at.send("DELETE", path)).status_code == 204
    assert [one["name"] for one in (await at.send("GET", "/me/factors")).json()["passkeys"]] == ["desk"]
    for action in ("create", "update", "delete"):
        assert await at.audited(f"passkey:{action}")


async def test_the_only_way_in_is_not_removed(api_server: ApiServer, at: Desk) -> None:
    made = (await at.register(_authenticator(api_server))).json()
    await at.change("UPDATE users SET password_hash = NULL WHERE id = :user")
    path = f"/me/factors/passkeys/{made['id']}"
    refused = await at.send("DELETE", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "only_way_in")
    await at.register(_authenticator(api_server))
    assert (await at.send("DELETE", path)).status_code == 204


REFUSED_SIGN_INS: list[tuple[str, dict[str, Any], str]] = [
    ("wrong origin", {"origin": "https://evil.example"}, "origin"),
    ("wrong relying party", {"rp_id": "evil.example"}, "RP ID"),
    ("wrong challenge", {"challenge": b64url(b"x" * 56)}, "did not ask"),
    ("another ceremony", {"type": "webauthn.create"}, "type"),
    ("wrong signature", {"signature": b"\x30\x06\x02\x01\x01\x02\x01\x01"}, "signature"),
    ("no signature", {"signature": b""}, "signature"),
    ("nobody was there", {"flags": VERIFIED}, "not present"),
    ("its user was not verified", {"flags": PRESENT}, "not verified"),
    ("of somebody else", {"user_handle": bytes(16)}, "somebody else"),
    ("asked in a frame of another site", {"cross_origin": True}, "another site"),
]


@pytest.mark.parametrize(
    ("wrong", "told"), [case[1:] for case in REFUSED_SIGN_INS], ids=[case[0] for case in REFUSED_SIGN_INS]
)
async def test_a_bad_answer_signs_nobody_in(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient, wrong: dict[str, Any], told: str
) -> None:
    authenticator = _authenticator(api_server)
    await at.register(authenticator)
    answer = await _by_passkey(visitor, authenticator, **wrong)
    assert answer.status_code == 401
    assert told in unescape(answer.text)
    assert "perdure_session" not in visitor.cookies
    right = await _by_passkey(visitor, authenticator)
    assert right.status_code == 303, "an answer that was refused does no harm"


async def test_unknown_and_removed_passkeys_and_deactivated_people_are_refused_alike(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    authenticator = _authenticator(api_server)
    made = (await at.register(authenticator)).json()
    await at.send("DELETE", f"/me/factors/passkeys/{made['id']}")
    texts = [(await _by_passkey(visitor, authenticator)).text]
    stranger = _authenticator(api_server, rp_id="localhost")
    texts.append((await _by_passkey(visitor, stranger)).text)
    inactive = _authenticator(api_server)
    await at.register(inactive)
    await at.change("UPDATE users SET is_active = false WHERE id = :user")
    texts.append((await _by_passkey(visitor, inactive)).text)
    assert all("The passkey was refused: it is not registered here." in shown for shown in texts)


async def test_an_answer_is_good_once_even_without_a_counter(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    authenticator = _authenticator(api_server, counts=False)
    await at.register(authenticator)
    page = await visitor.get("/login")
    answer = authenticator.get(_options(page))
    assert (await _answer(visitor, page, answer)).status_code == 303
    del visitor.cookies["perdure_session"]
    again = await _answer(visitor, page, answer)
    assert again.status_code == 401
    assert "this answer was given before" in again.text


async def test_an_answer_of_another_browser_is_refused(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    authenticator = _authenticator(api_server)
    await at.register(authenticator)
    async with _visitor(api_server) as other:
        answer = authenticator.get(_options(await other.get("/login")))
    refused = await _answer(visitor, await visitor.get("/login"), answer)
    assert refused.status_code == 401
    assert "did not ask" in refused.text


async def test_a_counter_that_goes_back_is_refused(api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient) -> None:
    authenticator = _authenticator(api_server)
    await at.register(authenticator)
    authenticator.count = 40
    assert (await _by_passkey(visitor, authenticator)).status_code == 303
    del visitor.cookies["perdure_session"]
    for count in (41, 7, 0):
        refused = await _by_passkey(visitor, authenticator, count=count)
        assert refused.status_code == 401
        assert f"its counter went from 41 to {count}" in refused.text
    assert (await _by_passkey(visitor, authenticator, count=42)).status_code == 303


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
async def test_a_passkey_alone_signs_in(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient, algorithm: int
) -> None:
    authenticator = _authenticator(api_server, algorithm=algorithm)
    assert (await at.register(authenticator)).status_code == 201
    answer = await _by_passkey(visitor, authenticator)
    assert (answer.status_code, answer.headers["location"]) == (303, "/me/factors")
    me = (await visitor.get("/api/v1/me")).json()
    assert me["name"] == at.person.name
    async with api_server.transaction() as session:
        rows = await session.execute(text("SELECT factor FROM auth_sessions WHERE id = :id"), {"id": me["session_id"]})
        assert rows.scalar_one() == "passkey"
    assert (await at.send("GET", "/me/factors")).json()["passkeys"][0]["last_used_at"]


async def test_a_passkey_is_a_second_factor_too_and_then_need_not_verify(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    authenticator = _authenticator(api_server, verifies=False)
    await at.register(authenticator)
    login = await visitor.get("/login")
    form = {"csrf_token": _csrf(login), "name": at.person.name, "password": PASSWORD, "next": "/me/factors"}
    asked = await visitor.post("/login", data=form)
    assert asked.headers["location"] == "/login/second-factor?next=%2Fme%2Ffactors"
    page = await visitor.get(asked.headers["location"])
    options = _options(page)
    assert [one["id"] for one in options["allowCredentials"]] == [b64url(authenticator.credential_id)]
    answer = json.dumps(authenticator.get(options))
    data = {"csrf_token": _csrf(page), "answer": answer, "next": "/me/factors"}
    assert (await visitor.post("/login/passkey", data=data)).status_code == 401, "it is not enough by itself"
    done = await visitor.post("/login/second-factor", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "/me/factors")


async def test_a_passkey_of_another_is_no_second_factor(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    mine, theirs = _authenticator(api_server), _authenticator(api_server)
    await at.register(mine)
    async with desk(api_server, await api_server.user()) as other:
        await other.register(theirs)
    login = await visitor.get("/login")
    form = {"csrf_token": _csrf(login), "name": at.person.name, "password": PASSWORD}
    page = await visitor.get((await visitor.post("/login", data=form)).headers["location"])
    data = {"csrf_token": _csrf(page), "answer": json.dumps(theirs.get(_options(page)))}
    refused = await visitor.post("/login/second-factor", data=data)
    assert refused.status_code == 401
    assert "it is not registered here" in refused.text


async def test_a_passkey_proves_again_over_json(api_server: ApiServer, at: Desk) -> None:
    authenticator = _authenticator(api_server)
    await at.register(authenticator)
    await at.age_proof()
    refused = await at.send("POST", "/sessions/current/proof", {"passkey": {"id": "x"}})
    assert (refused.status_code, refused.json()["code"]) == (401, "passkey_refused")
    page = await at.client.get("/me/proof", headers={**HTML, "Host": site_origin(api_server).removeprefix("http://")})
    answer = authenticator.get(_options(page))
    assert (await at.send("POST", "/sessions/current/proof", {"passkey": answer})).status_code == 200
    assert (await at.send("POST", "/me/factors/recovery-codes")).status_code == 201


_JUNK: list[object] = [None, True, -1, "", "!", "é", "AA", "x" * 30_000, [], {}, {"a": [1]}, "\ud800"]


def _spoilt(credential: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The credential with each of its parts replaced by each kind of junk, left out, or cut short."""
    for inside in (False, True):
        for part in credential["response"] if inside else credential:
            for junk in (*_JUNK, "cut"):
                made = copy.deepcopy(credential)
                place = made["response"] if inside else made
                if junk == "cut" and isinstance(place[part], str):
                    place[part] = place[part][: len(place[part]) // 2]
                elif junk is None:
                    del place[part]
                else:
                    place[part] = junk
                yield made


async def test_no_answer_whatever_it_is_makes_a_500(
    api_server: ApiServer, at: Desk, visitor: httpx.AsyncClient
) -> None:
    page = await visitor.get("/login")
    authenticator = _authenticator(api_server, rp_id="localhost")
    for answer in _spoilt(authenticator.get(_options(page))):
        assert (await _answer(visitor, page, answer)).status_code in (400, 401), answer
    for credential in _spoilt(authenticator.create(await at.options())):
        kept = await at.send("POST", "/me/factors/passkeys", {"name": "k", "credential": credential})
        assert kept.status_code in (201, 400, 401, 409), kept.text
