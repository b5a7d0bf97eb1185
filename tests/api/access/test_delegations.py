"""Delegations over HTTP: what is refused, what is lent, used, seen, and taken back at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from database.store.access.rights import held_by
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.factories import TestToken, give_role, make_token

HOUR = timedelta(hours=1)


class Scene:
    """A private project of ann's, and people who hold nothing."""

    def __init__(self, server: ApiServer, ann: Person, project: ProjectView) -> None:
        self.server, self.ann, self.project = server, ann, project

    async def people(self, count: int) -> list[Person]:
        return [await self.server.user(role=None) for _ in range(count)]

    async def lend(
        self, lender: Person | TestToken, borrower: Person, *permissions: str, **more: object
    ) -> httpx.Response:
        body = {"to": borrower.name, "permissions": permissions or ["project:read"], "project": self.project.full_name}
        return await self.server.client.post("/api/v1/delegations", headers=lender.headers, json={**body, **more})

    async def lent(self, lender: Person, borrower: Person, *permissions: str, **more: object) -> str:
        answer = await self.lend(lender, borrower, *permissions, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def reads(self, person: Person) -> bool:
        path = f"/api/v1/projects/{self.project.full_name}"
        answer = await self.server.client.get(path, headers=person.headers)
        assert answer.status_code in (200, 404)
        return answer.status_code == 200

    async def take_back(self, person: Person | TestToken, grant_id: str) -> int:
        path = f"/api/v1/delegations/{grant_id}"
        return (await self.server.client.delete(path, headers=person.headers)).status_code

    async def listed(self, person: Person | TestToken, query: str = "") -> list[dict[str, Any]]:
        answer = await self.server.client.get(f"/api/v1/delegations?{query}", headers=person.headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def sql(self, statement: str, **values: object) -> list[Any]:
        async with self.server.transaction() as session:
            result = await session.execute(text(statement), values)
            return list(result) if result.returns_rows else []  # type: ignore[attr-defined]  # CursorResult at run time


@pytest.fixture
async def scene(api_server: ApiServer) -> Scene:
    ann = await api_server.user(role=None)
    return Scene(api_server, ann, await api_server.project(ann))


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"permissions": ["*:*"]}, 400, "invalid_input"),
        ({"permissions": ["no:such"]}, 400, "invalid_input"),
        ({"permissions": []}, 400, "invalid_input"),
        ({"redelegations": 6}, 400, "invalid_input"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "already_over"),
        ({"permissions": ["project:create"]}, 400, "not_of_a_project"),
        ({"to": "nobody-is-called-so"}, 404, "not_found"),
        ({"project": "no/such"}, 404, "not_found"),
        ({"project": None}, 403, "permission_missing"),
        ({"project": None, "permissions": ["admin:users"]}, 403, "permission_missing"),
    ],
)
async def test_what_cannot_be_lent(scene: Scene, more: dict[str, Any], status: int, code: str) -> None:
    owner = Scene(scene.server, await scene.server.user(role=None), scene.project)
    project = await scene.server.project(owner.ann)
    owner.project = project
    bob = await scene.server.user(role=None)
    answer = await owner.lend(owner.ann, bob, **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await owner.sql("SELECT 1 FROM delegations WHERE delegate_id = :id", id=bob.user.id) == []
    denied = await owner.sql(
        "SELECT 1 FROM audit_log WHERE actor_id = :id AND action = 'delegation:create' AND outcome = 'denied'",
        id=owner.ann.user.id,
    )
    assert len(denied) == (1 if status == 403 else 0)


async def test_who_does_not_see_the_project_lends_nothing_there(scene: Scene) -> None:
    bob, eve = await scene.people(2)
    assert (await scene.lend(bob, eve)).status_code == 404
    await scene.lent(scene.ann, bob, "project:read")
    refused = await scene.lend(bob, eve, "project:write")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")


async def test_a_token_lends_nothing_that_it_does_not_include(scene: Scene) -> None:
    [bob] = await scene.people(1)
    other = await scene.server.project(scene.ann)
    async with scene.server.transaction() as session:
        reading = await make_token(session, scene.ann.user, scopes=frozenset({"project:read"}))
        elsewhere = await make_token(session, scene.ann.user, project_id=other.id)
    assert (await scene.lend(reading, bob, "project:write")).status_code == 403
    assert (await scene.lend(elsewhere, bob)).status_code == 404
    assert (await scene.lend(elsewhere, bob, project=None)).status_code == 403
    assert (await scene.lend(reading, bob, "project:read")).status_code == 201


async def test_lent_used_seen_and_taken_back_at_once(scene: Scene) -> None:
    [bob] = await scene.people(1)
    assert not await scene.reads(bob)
    end = datetime.now(UTC) + HOUR
    grant_id = await scene.lent(
        scene.ann, bob, "project:read", "pipeline:run", expires_at=end.isoformat(), reason="while I am away"
    )
    assert await scene.reads(bob)
    [given], [received] = await scene.listed(scene.ann), await scene.listed(bob, "direction=received")
    assert given == received | {"seconds_left": given["seconds_left"]}
    assert (given["lender"], given["borrower"], given["project"]) == (
        scene.ann.name, bob.name, scene.project.full_name,
    )  # fmt: skip
    assert given["reason"] == "while I am away"
    assert 3500 < given["seconds_left"] <= 3600
    assert [(one["permission"], one["is_live"]) for one in given["permissions"]] == [
        ("pipeline:run", True),
        ("project:read", True),
    ]
    assert await scene.take_back(scene.ann, grant_id) == 204
    assert not await scene.reads(bob)
    assert await scene.listed(scene.ann) == []
    [ended] = await scene.listed(scene.ann, "with_ended=true")
    assert {one["problem"] for one in ended["permissions"]} == {f"taken back by {scene.ann.name}"}
    assert ended["seconds_left"] is None
    assert await scene.take_back(scene.ann, grant_id) == 404, "a second time there is nothing to take back"
    actions = await scene.sql(
        "SELECT action, outcome FROM audit_log WHERE resource_id = :id ORDER BY created_at", id=UUID(grant_id)
    )
    assert [tuple(row) for row in actions] == [
        ("delegation:create", "success"),
        ("delegation:revoke", "success"),
        ("delegation:revoke", "denied"),
    ]


async def test_what_is_done_with_a_lent_right_names_its_lenders(scene: Scene) -> None:
    bob, eve = await scene.people(2)
    await scene.lent(scene.ann, bob, "project:read", "project:write", redelegations=1)
    await scene.lent(bob, eve, "project:read", "project:write")
    path = f"/api/v1/projects/{scene.project.full_name}"
    changed = await scene.server.client.patch(path, headers=eve.headers, json={"description": "x"})
    assert changed.status_code == 200, changed.text
    [row] = await scene.sql(
        "SELECT on_behalf_of FROM audit_log WHERE actor_id = :id AND action = 'project:update'", id=eve.user.id
    )
    assert row.on_behalf_of == [bob.user.id, scene.ann.user.id]


class TestLendingOn:
    async def test_only_where_it_was_allowed_and_never_further_or_longer(self, scene: Scene) -> None:
        bob, eve, zoe = await scene.people(3)
        end = datetime.now(UTC) + HOUR
        await scene.lent(scene.ann, bob, redelegations=1, expires_at=end.isoformat())
        too_far = await scene.lend(bob, eve, redelegations=1)
        assert (too_far.status_code, too_far.json()["code"]) == (403, "redelegation_not_allowed")
        too_long = await scene.lend(bob, eve, expires_at=(end + HOUR).isoformat())
        assert (too_long.status_code, too_long.json()["code"]) == (403, "outlives_parent")
        too_wide = await scene.lend(bob, eve, project=None)
        assert (too_wide.status_code, too_wide.json()["code"]) == (403, "permission_missing")
        back = await scene.lend(bob, scene.ann)
        assert (back.status_code, back.json()["code"]) == (403, "lent_back")
        lent = (await scene.lend(bob, eve)).json()
        [one] = lent["permissions"]
        assert datetime.fromisoformat(one["expires_at"]) == end, "who asks for no end gets that of the parent"
        not_again = await scene.lend(eve, zoe)
        assert (not_again.status_code, not_again.json()["code"]) == (403, "redelegation_not_allowed")

    async def test_every_lender_before_may_take_it_back_and_nobody_else(self, scene: Scene) -> None:
        bob, eve, zoe, stranger = await scene.people(4)
        admin = await scene.server.user(role="admin")
        await scene.lent(scene.ann, bob, redelegations=2)
        for taker in (scene.ann, bob, eve, admin):
            await scene.sql("UPDATE delegations SET revoked_at = now() WHERE delegator_id = :id", id=bob.user.id)
            await scene.lent(bob, eve, redelegations=1)
            grant_id = await scene.lent(eve, zoe)
            assert await scene.reads(zoe)
            for other in (stranger, zoe):
                assert await scene.take_back(other, grant_id) == 404
            assert await scene.take_back(taker, grant_id) == 204
            assert not await scene.reads(zoe)
            assert await scene.reads(eve)

    async def test_taking_back_in_the_middle_ends_all_that_follows(self, scene: Scene) -> None:
        bob, eve, zoe = await scene.people(3)
        first = await scene.lent(scene.ann, bob, redelegations=2)
        await scene.lent(bob, eve, redelegations=1)
        await scene.lent(eve, zoe)
        assert await scene.reads(zoe)
        assert await scene.take_back(scene.ann, first) == 204
        assert [await scene.reads(one) for one in (bob, eve, zoe)] == [False] * 3
        [received] = await scene.listed(zoe, "direction=received")
        assert received["permissions"][0]["problem"] == f"what it was lent on from: taken back by {scene.ann.name}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE projects SET owner_id = :other WHERE id = :project", "{ann} does not hold it there any more"),
        ("UPDATE users SET is_active = false WHERE id = :ann", "{ann} is deactivated"),
        ("UPDATE delegations SET expires_at = now() WHERE delegator_id = :ann", "expired"),
        ("UPDATE projects SET is_active = false WHERE id = :project", "the project was deleted"),
    ],
)
async def test_it_ends_with_what_it_rests_on(scene: Scene, change: str, problem: str) -> None:
    bob, other = await scene.people(2)
    await scene.lent(scene.ann, bob)
    values = {"other": other.user.id, "ann": scene.ann.user.id, "project": scene.project.id}
    await scene.sql(change, **{name: value for name, value in values.items() if f":{name}" in change})
    assert not await scene.reads(bob)
    if "projects" not in change:
        async with scene.server.transaction() as session:
            assert (await held_by(session, bob.user.id, scene.project.id)).permissions == frozenset()
    [received] = await scene.listed(bob, "direction=received&with_ended=true")
    [one] = received["permissions"]
    assert (one["is_live"], one["problem"]) == (False, problem.format(ann=scene.ann.name))


async def test_lending_the_same_again_needs_taking_back_unless_it_is_over(scene: Scene) -> None:
    [bob] = await scene.people(1)
    await scene.lent(scene.ann, bob)
    again = await scene.lend(scene.ann, bob)
    assert (again.status_code, again.json()["code"]) == (409, "already_lent")
    assert again.json()["details"] == {"permissions": ["project:read"]}
    assert f"You lend project:read to {bob.name} there already" in again.json()["detail"]
    await scene.sql("UPDATE delegations SET expires_at = now() WHERE delegator_id = :id", id=scene.ann.user.id)
    await scene.lent(scene.ann, bob)
    assert await scene.reads(bob)


async def test_a_token_sees_and_ends_only_what_it_includes(scene: Scene) -> None:
    [bob] = await scene.people(1)
    grant_id = await scene.lent(scene.ann, bob, "project:read", "project:write")
    async with scene.server.transaction() as session:
        reading = await make_token(session, scene.ann.user, scopes=frozenset({"project:read"}))
    [seen] = await scene.listed(reading)
    assert [one["permission"] for one in seen["permissions"]] == ["project:read"]
    assert await scene.take_back(reading, grant_id) == 204
    [left] = await scene.listed(scene.ann)
    assert [one["permission"] for one in left["permissions"]] == ["project:write"]
    [both] = await scene.listed(scene.ann, "with_ended=true")
    assert [one["is_live"] for one in both["permissions"]] == [False, True]


async def test_of_others_only_an_administrator_sees_a_list(scene: Scene) -> None:
    bob, eve = await scene.people(2)
    admin = await scene.server.user(role="admin")
    grant_id = await scene.lent(scene.ann, bob)
    answer = await scene.server.client.get(f"/api/v1/delegations?user={bob.name}", headers=eve.headers)
    assert (answer.status_code, answer.json()["details"]["permission"]) == (403, "admin:users")
    assert [one["id"] for one in await scene.listed(admin, f"user={bob.name}&direction=received")] == [grant_id]
    for person, status in ((scene.ann, 200), (bob, 200), (admin, 200), (eve, 404)):
        path = f"/api/v1/delegations/{grant_id}"
        assert (await scene.server.client.get(path, headers=person.headers)).status_code == status
    gone = await scene.server.client.get(f"/api/v1/delegations/{uuid4()}", headers=admin.headers)
    assert gone.status_code == 404


async def test_pages_of_a_long_list(scene: Scene) -> None:
    people = await scene.people(5)
    ids = [await scene.lent(scene.ann, one, "project:read", "project:write") for one in people]
    url, seen = "/api/v1/delegations?limit=2", []
    while url:
        answer = (await scene.server.client.get(url, headers=scene.ann.headers)).json()
        seen += [one["id"] for one in answer["items"]]
        url = answer["next"]
    assert seen == ids[::-1]


async def test_lending_on_and_taking_back_at_once_never_leaves_a_right(scene: Scene) -> None:
    for _ in range(8):
        bob, *others = await scene.people(5)
        first = await scene.lent(scene.ann, bob, redelegations=1)
        answers = await asyncio.gather(
            *(scene.lend(bob, other) for other in others[:2]),
            scene.take_back(scene.ann, first),
            *(scene.lend(bob, other) for other in others[2:]),
            *(scene.reads(other) for other in others),
        )
        assert answers[2] == 204
        for answer in (*answers[:2], *answers[3:5]):
            assert isinstance(answer, httpx.Response)
            assert answer.status_code in (201, 403, 404, 409), answer.text
        async with scene.server.transaction() as session:
            for one in (bob, *others):
                assert (await held_by(session, one.user.id, scene.project.id)).permissions == frozenset()
        for one in (bob, *others):
            assert not await scene.reads(one)


async def test_a_role_that_comes_back_revives_what_was_lent(scene: Scene) -> None:
    [bob] = await scene.people(1)
    lender = await scene.server.user(role=None)
    async with scene.server.transaction() as session:
        await give_role(session, lender.user, "viewer", project_id=scene.project.id)
    await scene.lent(lender, bob)
    assert await scene.reads(bob)
    await scene.sql("DELETE FROM user_roles WHERE user_id = :id", id=lender.user.id)
    assert not await scene.reads(bob)
    async with scene.server.transaction() as session:
        await give_role(session, lender.user, "viewer", project_id=scene.project.id)
    assert await scene.reads(bob)
