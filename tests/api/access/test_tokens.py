import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.support.api import ApiServer, Person
from tests.support.browsers import browser_of
from tests.support.factories import TestToken, make_token


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


async def rotate(server: ApiServer, by: TestToken | Person, token_id: object, **body: object) -> httpx.Response:
    return await server.client.post(f"/api/v1/tokens/{token_id}/rotation", headers=by.headers, json=body)


async def works(server: ApiServer, secret: str) -> bool:
    answer = await server.client.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code == 200


async def aged(server: ApiServer, token: TestToken, *, renewable: bool = False, exchanged: bool = False) -> None:
    """As if made a day ago for two days."""
    async with server.transaction() as session:
        await session.execute(
            text(
                "UPDATE api_tokens SET created_at = now() - interval '1 day', expires_at = now() + interval '1 day', "
                "is_renewable = :renewable, acting_id = CASE WHEN :exchanged THEN user_id END WHERE id = :id"
            ),
            {"id": token.id, "renewable": renewable, "exchanged": exchanged},
        )


def lifetime(shown: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])


async def test_the_address_of_the_last_use_is_noted(api_server: ApiServer, person: Person) -> None:
    await api_server.client.get("/api/v1/me", headers=person.headers)
    await api_server.services.token_uses.write(api_server.services.database)
    [shown] = (await api_server.client.get("/api/v1/tokens", headers=person.headers)).json()["items"]
    assert shown["last_used_address"] == "127.0.0.1"
    assert shown["last_used_at"] is not None


@pytest.mark.parametrize("hours", [-1, 337, 0.5])
async def test_a_wrong_overlap_is_refused(api_server: ApiServer, person: Person, hours: float) -> None:
    answer = await rotate(api_server, person, person.token.id, overlap_hours=hours)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["details"]["errors"]] == ["#/overlap_hours"]


async def test_a_rotation_keeps_no_answer(api_server: ApiServer, person: Person) -> None:
    answer = await api_server.client.post(
        f"/api/v1/tokens/{person.token.id}/rotation", headers={**person.headers, "Idempotency-Key": "k"}, json={}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_not_possible")


async def test_after_a_rotation_both_secrets_work_until_the_overlap_ends(api_server: ApiServer, person: Person) -> None:
    project = await api_server.project(person)
    async with api_server.transaction() as session:
        token = await make_token(
            session, person.user, scopes=frozenset({"project:read"}), project_id=project.id, lifetime=timedelta(days=9)
        )
    async with browser_of(api_server, person) as browser:
        made = await browser.post(f"/api/v1/tokens/{token.id}/rotation", json={"overlap_hours": 2})
    assert made.status_code == 201, made.text
    new = made.json()
    assert made.headers["cache-control"] == "no-store"
    assert (new["name"], new["scopes"], new["project_id"]) == ("test", ["project:read"], str(project.id))
    assert (new["rotated_from"], new["created_by"]) == (str(token.id), str(person.user.id))
    assert abs(lifetime(new) - timedelta(days=9)) < timedelta(minutes=1)
    assert await works(api_server, token.secret)
    assert await works(api_server, new["token"])
    listed = (await api_server.client.get("/api/v1/tokens", headers=person.headers)).json()["items"]
    [old] = [one for one in listed if one["id"] == str(token.id)]
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < left <= timedelta(hours=2)
    again = await rotate(api_server, person, token.id)
    assert (again.status_code, again.json()["code"]) == (409, "already_rotated")
    async with api_server.transaction() as session:
        detail = (
            await session.execute(
                text("SELECT detail FROM audit_log WHERE resource_id = :id AND action = 'token:rotate'"),
                {"id": token.id},
            )
        ).scalar_one()
        assert new["token"] not in str(detail)


async def test_without_an_overlap_the_old_secret_is_dead_at_once_and_so_is_what_came_from_it(
    api_server: ApiServer, person: Person
) -> None:
    async with api_server.transaction() as session:
        token, child = await make_token(session, person.user), await make_token(session, person.user)
        await session.execute(
            text("UPDATE api_tokens SET parent_id = :parent WHERE id = :id"), {"parent": token.id, "id": child.id}
        )
    new = (await rotate(api_server, person, token.id, overlap_hours=0)).json()
    assert await works(api_server, new["token"])
    assert not await works(api_server, token.secret)
    assert not await works(api_server, child.secret)


async def test_of_two_rotations_at_once_one_is_made(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        token = await make_token(session, person.user)
    answers = await asyncio.gather(*(rotate(api_server, person, token.id) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_token_that_rotates_itself_lives_on_only_if_it_is_renewable(
    api_server: ApiServer, person: Person
) -> None:
    async with api_server.transaction() as session:
        plain, renewable = await make_token(session, person.user), await make_token(session, person.user)
    await aged(api_server, plain)
    await aged(api_server, renewable, renewable=True)
    kept = (await rotate(api_server, plain, plain.id)).json()
    assert timedelta(hours=23) < lifetime(kept) <= timedelta(days=1)
    renewed = (await rotate(api_server, renewable, renewable.id)).json()
    assert timedelta(hours=47) < lifetime(renewed) <= timedelta(days=2)
    assert renewed["renewable"]
    # Another token, renewable or not, makes none that outlives it.
    async with api_server.transaction() as session:
        long = await make_token(session, person.user, lifetime=timedelta(days=300))
        short = await make_token(session, person.user, lifetime=timedelta(hours=1))
    cut = (await rotate(api_server, short, long.id)).json()
    assert lifetime(cut) <= timedelta(hours=1)


async def test_a_token_that_is_not_renewable_makes_none_that_is(api_server: ApiServer, person: Person) -> None:
    body = {"name": "t", "scopes": ["project:read"], "renewable": True}
    refused = await api_server.client.post("/api/v1/tokens", headers=person.headers, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    async with browser_of(api_server, person) as browser:
        made = await browser.post("/api/v1/tokens", json=body)
        assert made.json()["renewable"]


async def test_an_exchanged_token_is_not_rotated(api_server: ApiServer, person: Person) -> None:
    async with api_server.transaction() as session:
        token = await make_token(session, person.user)
    await aged(api_server, token, exchanged=True)
    answer = await rotate(api_server, person, token.id)
    assert (answer.status_code, answer.json()["code"]) == (409, "exchanged_token")


async def test_nobody_gets_the_secret_of_anothers_or_of_a_wider_token(api_server: ApiServer, person: Person) -> None:
    admin, stranger = await api_server.user(role="admin"), await api_server.user()
    async with api_server.transaction() as session:
        narrow = await make_token(session, person.user, scopes=frozenset({"project:read"}))
        expired = await make_token(session, person.user, lifetime=timedelta(seconds=-1))
    assert (await rotate(api_server, stranger, person.token.id)).status_code == 404
    assert (await rotate(api_server, narrow, person.token.id)).status_code == 404
    assert (await rotate(api_server, person, expired.id)).status_code == 404
    refused = await rotate(api_server, admin, person.token.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "token_of_a_person")


async def test_an_administrator_ends_anybodys_token_whatever_its_scopes(api_server: ApiServer, person: Person) -> None:
    admin = await api_server.user(role="admin")
    async with api_server.transaction() as session:
        narrow = await make_token(session, admin.user, scopes=frozenset({"admin:users"}))
    path = f"/api/v1/tokens/{person.token.id}"
    assert (await api_server.client.delete(path, headers=narrow.headers)).status_code == 204
    assert not await works(api_server, person.token.secret)
    assert (await api_server.client.delete(path, headers=narrow.headers)).status_code == 404


async def test_who_answers_for_a_service_rotates_its_tokens(api_server: ApiServer, person: Person) -> None:
    name = f"service-of-{person.name[-10:]}"
    body = {"name": name, "kind": "service"}
    assert (await api_server.client.post("/api/v1/users", headers=person.headers, json=body)).status_code == 201
    token = (
        await api_server.client.post(
            f"/api/v1/users/{name}/tokens", headers=person.headers, json={"name": "ci", "scopes": ["project:read"]}
        )
    ).json()
    new = (await rotate(api_server, person, token["id"], overlap_hours=0)).json()
    me = await api_server.client.get("/api/v1/me", headers={"Authorization": f"Bearer {new['token']}"})
    assert me.json()["name"] == name
    assert not await works(api_server, token["token"])
