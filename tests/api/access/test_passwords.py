import asyncio
import dataclasses
import socket
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from api.passwords import Passwords
from domain.access.bans import BanPolicy
from domain.access.passwords import PasswordRules
from tests.support.api import ApiServer, Person, listening_socket, serving
from tests.support.factories import CHEAP_HASHER, PASSWORD, make_user

NEW = "vierzehn kamele trinken tee"


class CountingHasher(PasswordHasher):
    """Real argon2id that counts what it is asked to do."""

    def __init__(self, *, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.work: Counter[str] = Counter()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.work["hash"] += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002  # the library's name; it returns Literal[True]
        self.work["verify"] += 1
        return super().verify(hash, password)


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


@pytest.fixture
def listening() -> socket.socket:
    return listening_socket()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
async def counting(api_server: ApiServer, hasher: CountingHasher, listening: socket.socket) -> AsyncIterator[ApiServer]:
    """Another API on the same database, whose hashing is counted."""
    services = dataclasses.replace(api_server.services, passwords=Passwords(hasher))
    async with serving(services, listening) as server:
        yield server


async def _sign_in(server: ApiServer, name: str, password: str) -> httpx.Response:
    return await server.client.post("/api/v1/sessions", json={"name": name, "password": password})


async def _change(server: ApiServer, person: Person, present: str, new: str) -> httpx.Response:
    body = {"present": present, "new": new}
    return await server.client.put("/api/v1/me/password", headers=person.headers, json=body)


async def _assign(server: ApiServer, person: Person, assignment: str) -> None:
    statement = f"UPDATE users SET {assignment} WHERE id = :id"  # noqa: S608  # written by the tests below
    async with server.transaction() as session:
        await session.execute(text(statement), {"id": person.user.id})


def _without_id(answer: httpx.Response) -> dict[str, object]:
    return {key: value for key, value in answer.json().items() if key != "request_id"}


@pytest.mark.parametrize(
    ("new", "rule"),
    [
        ("short", "too_short"),
        ("aaaaaaaaaaaaa", "too_uniform"),
        ("password2026!!", "common"),
        ("NAME2026xy", "about_you"),
    ],
)
async def test_a_weak_new_password_is_refused_with_its_reason(
    api_server: ApiServer, person: Person, new: str, rule: str
) -> None:
    answer = await _change(api_server, person, PASSWORD, new.replace("NAME", person.name))
    assert (answer.status_code, answer.json()["code"]) == (400, "weak_password")
    assert answer.json()["details"] == {"rule": rule}
    assert (await _sign_in(api_server, person.name, PASSWORD)).status_code == 201


async def test_half_of_a_surrogate_pair_is_no_password_and_no_crash(api_server: ApiServer, person: Person) -> None:
    raw = b'{"present": "correct horse battery staple", "new": "vierzehn kamele \\ud800 trinken"}'
    headers = {**person.headers, "content-type": "application/json"}
    answer = await api_server.client.put("/api/v1/me/password", headers=headers, content=raw)
    assert answer.status_code == 400
    raw = b'{"name": "someone", "password": "\\ud800"}'
    answer = await api_server.client.post("/api/v1/sessions", headers={"content-type": "application/json"}, content=raw)
    assert answer.status_code == 400


async def test_without_the_present_password_nothing_changes(api_server: ApiServer, person: Person) -> None:
    answer = await _change(api_server, person, "wrong", NEW)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_password")
    assert (await _sign_in(api_server, person.name, PASSWORD)).status_code == 201


async def test_who_has_no_password_has_none_to_change(api_server: ApiServer, person: Person) -> None:
    await _assign(api_server, person, "password_hash = NULL")
    answer = await _change(api_server, person, "", NEW)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_password")


async def test_changing_it_ends_every_other_session_and_keeps_ones_own(api_server: ApiServer, person: Person) -> None:
    async with await api_server.browser(person) as own, await api_server.browser(person) as other:
        csrf = (await own.get("/api/v1/me")).json()["csrf_token"]
        body = {"present": PASSWORD, "new": NEW}
        answer = await own.put("/api/v1/me/password", headers={"X-CSRF-Token": csrf}, json=body)
        assert (answer.status_code, answer.json()) == (200, {"sessions_ended": 1})
        assert (await own.get("/api/v1/me")).status_code == 200
        assert (await other.get("/api/v1/me")).status_code == 401
    assert (await _sign_in(api_server, person.name, PASSWORD)).status_code == 401
    assert (await _sign_in(api_server, person.name, NEW)).status_code == 201


async def test_guessing_the_present_password_is_bounded_like_signing_in(api_server: ApiServer, person: Person) -> None:
    answers = [await _change(api_server, person, f"wrong {number}", NEW) for number in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    assert (await _sign_in(api_server, person.name, PASSWORD)).status_code == 429


async def test_every_way_to_fail_costs_the_same_work_and_answers_the_same(
    counting: ApiServer, hasher: CountingHasher, person: Person
) -> None:
    without = await counting.user()
    await _assign(counting, without, "password_hash = NULL")
    async with counting.transaction() as session:
        deactivated = await make_user(session, is_active=False)
    await _sign_in(counting, "warm-up", "makes the hash that unknown names are compared with")
    answers, work = [], []
    for name, password in (
        (person.name, "wrong"),
        ("nobody-of-this-name", PASSWORD),
        (without.name, PASSWORD),
        (deactivated.name, PASSWORD),
        ("", ""),
        ("No Name At All", "x" * 1024),
    ):
        hasher.work.clear()
        answers.append(_without_id(await _sign_in(counting, name, password)))
        work.append(dict(hasher.work))
    assert work == [{"verify": 1}] * 6
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["code"] == "wrong_password"


async def test_a_ban_costs_no_work_and_answers_the_same_whether_or_not_the_name_is_anybodys(
    counting: ApiServer, hasher: CountingHasher, person: Person
) -> None:
    answers = []
    for name in (person.name, f"nobody-{person.name}"):
        tried = [await _sign_in(counting, name, "wrong") for _ in range(5)]
        assert {answer.status_code for answer in tried} == {401}
        hasher.work.clear()
        refused = await _sign_in(counting, name, PASSWORD)
        assert not hasher.work
        assert 50 <= int(refused.headers["retry-after"]) <= 60
        answers.append((refused.status_code, refused.json()["title"], refused.json()["code"]))
    assert answers == [(429, "Too many failed attempts", "banned")] * 2


async def test_the_ban_holds_at_every_door(api_server: ApiServer, person: Person) -> None:
    token = {"name": "t", "scopes": ["project:read"]}
    for _ in range(5):
        await api_server.client.post("/api/v1/tokens", auth=(person.name, "wrong"), json=token)
    basic = await api_server.client.post("/api/v1/tokens", auth=(person.name, PASSWORD), json=token)
    assert basic.status_code == 429
    async with httpx.AsyncClient(base_url=api_server.base_url, trust_env=False) as browser:
        page = await browser.get("/login")
        csrf = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        form = {"csrf_token": csrf, "name": person.name, "password": PASSWORD}
        shown = await browser.post("/login", data=form)
    assert shown.status_code == 429
    assert "There were too many failed attempts" in shown.text
    assert int(shown.headers["retry-after"]) >= 1
    assert (await api_server.client.get("/api/v1/me", headers=person.headers)).status_code == 200


async def test_an_address_is_banned_whoever_it_tries_to_be(api_server: ApiServer, listening: socket.socket) -> None:
    services = dataclasses.replace(api_server.services, bans=BanPolicy(failures_of_address_max=8))
    async with serving(services, listening) as server:
        admin = await server.user(role="admin")
        await server.client.delete("/api/v1/bans/addresses/127.0.0.1", headers=admin.headers)
        answers = [await _sign_in(server, f"guess-{number}", "wrong") for number in range(9)]
        assert [answer.status_code for answer in answers] == [401] * 8 + [429]
        listed = (await server.client.get("/api/v1/bans", headers=admin.headers)).json()["items"]
        assert ("address", "127.0.0.1") in {(ban["by"], ban["address"]) for ban in listed}
        lifted = await server.client.delete("/api/v1/bans/addresses/127.0.0.1", headers=admin.headers)
        assert lifted.status_code == 204
        assert (await _sign_in(server, "guess-again", "wrong")).status_code == 401
        await server.client.delete("/api/v1/bans/addresses/127.0.0.1", headers=admin.headers)


async def test_an_admin_unlocks_a_name_and_nobody_else_does(api_server: ApiServer, person: Person) -> None:
    admin = await api_server.user(role="admin")
    for _ in range(5):
        await _sign_in(api_server, person.name, "wrong")
    url = f"/api/v1/bans/names/{person.name}"
    assert (await api_server.client.delete(url, headers=person.headers)).status_code == 403
    assert (await api_server.client.delete(url, headers=admin.headers)).status_code == 204
    assert (await api_server.client.delete(url, headers=admin.headers)).status_code == 404
    assert (await _sign_in(api_server, person.name, PASSWORD)).status_code == 201
    wrong = await api_server.client.delete("/api/v1/bans/addresses/nowhere", headers=admin.headers)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_address")
    async with api_server.transaction() as session:
        rows = await session.execute(
            text("SELECT action FROM audit_log WHERE actor_id = :id AND action LIKE 'ban:%'"), {"id": admin.user.id}
        )
        assert list(rows.scalars()) == ["ban:delete"]


async def test_guesses_at_the_same_time_are_counted_one_by_one(api_server: ApiServer, person: Person) -> None:
    answers = await asyncio.gather(*(_sign_in(api_server, person.name, "wrong") for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 15}


async def test_signing_in_renews_a_hash_of_other_parameters(api_server: ApiServer, person: Person) -> None:
    async def kept() -> str:
        async with api_server.transaction() as session:
            rows = await session.execute(text("SELECT password_hash FROM users WHERE id = :id"), {"id": person.user.id})
            return str(rows.scalar_one())

    before = await kept()
    hasher = CountingHasher(time_cost=2)
    services = dataclasses.replace(api_server.services, passwords=Passwords(hasher))
    async with serving(services, listening_socket()) as server:
        assert (await _sign_in(server, person.name, "wrong")).status_code == 401
        assert await kept() == before
        assert (await _sign_in(server, person.name, PASSWORD)).status_code == 201
        after = await kept()
        assert "t=2" in after
        assert (await _sign_in(server, person.name, PASSWORD)).status_code == 201
        assert await kept() == after, "it is of today's parameters now"


async def test_the_least_length_is_the_operators(api_server: ApiServer, person: Person) -> None:
    passwords = Passwords(CHEAP_HASHER, PasswordRules(length_min=30))
    async with serving(dataclasses.replace(api_server.services, passwords=passwords), listening_socket()) as server:
        answer = await _change(server, person, PASSWORD, NEW)
    assert answer.status_code == 400
    assert "at least 30 characters; this one has 27" in answer.json()["detail"]
