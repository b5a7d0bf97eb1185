import asyncio

import httpx
import pytest
from sqlalchemy import text

from tests.support.api import ApiServer, Person
from tests.support.factories import give_role, make_project, make_token

PROJECTS = "/api/v1/projects"


async def _create(server: ApiServer, person: Person, **body: object) -> httpx.Response:
    return await server.client.post(PROJECTS, headers=person.headers, json=body)


@pytest.mark.parametrize(
    "name",
    ["", "-x", "x-", ".x", "a..b", "Upper", "a b", "a/b", "x.git", "x.lock", "ü", "a" * 65, "a\n", "a\x00b", "%2e"],
)
async def test_a_name_that_breaks_a_rule_is_400_and_says_which(
    api_server: ApiServer, person: Person, name: str
) -> None:
    answer = await _create(api_server, person, name=name)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_name")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "p", "visibility": "secret"},
        {"name": "p", "default_branch": "a..b"},
        {"name": "p", "default_branch": "-x y"},
        {"name": "p", "description": "x" * 2001},
        {"name": "p", "owner_id": "1"},
        {"name": 5},
    ],
)
async def test_a_wrong_project_request_is_400(api_server: ApiServer, person: Person, body: dict[str, object]) -> None:
    answer = await api_server.client.post(PROJECTS, headers=person.headers, json=body)
    assert answer.status_code == 400


async def test_a_body_that_is_no_json_is_400(api_server: ApiServer, person: Person) -> None:
    headers = {**person.headers, "content-type": "application/json"}
    answer = await api_server.client.post(PROJECTS, headers=headers, content=b"{")
    assert answer.status_code == 400
    assert answer.json()["details"]["errors"][0]["pointer"] == "#"


async def test_a_project_is_made_read_changed_and_deleted_with_audit_rows(
    api_server: ApiServer, person: Person
) -> None:
    made = await _create(api_server, person, name="tool", description="A tool", visibility="internal")
    assert made.status_code == 201
    project = made.json()
    assert project["full_name"] == f"{person.name}/tool"
    assert project["clone_url"] == f"{api_server.services.public_url}/{person.name}/tool.git"
    path = f"{PROJECTS}/{person.name}/tool"
    assert (await api_server.client.get(path, headers=person.headers)).json() == project
    changed = await api_server.client.patch(
        path, headers=person.headers, json={"description": None, "default_branch": "trunk"}
    )
    assert changed.status_code == 200
    assert {**project, "description": None, "default_branch": "trunk"} == {
        **changed.json(),
        "updated_at": project["updated_at"],
    }
    assert (await api_server.client.delete(path, headers=person.headers)).status_code == 204
    assert (await api_server.client.get(path, headers=person.headers)).status_code == 404
    async with api_server.transaction() as session:
        rows = await session.execute(
            text("SELECT action FROM audit_log WHERE project_id = :id AND outcome = 'success' ORDER BY created_at"),
            {"id": project["id"]},
        )
        assert list(rows.scalars()) == ["project:create", "project:update", "project:delete"]


async def test_the_default_branch_of_the_repository_follows(api_server: ApiServer, person: Person) -> None:
    project = await api_server.project(person)
    repositories = api_server.services.repositories
    await repositories.ensure(project.id, default_branch="main")
    answer = await api_server.client.patch(
        f"{PROJECTS}/{project.full_name}", headers=person.headers, json={"default_branch": "trunk"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("body", [{"visibility": None}, {"default_branch": None}, {"name": "other"}])
async def test_a_wrong_change_is_400_and_changes_nothing(
    api_server: ApiServer, person: Person, body: dict[str, object]
) -> None:
    project = await api_server.project(person)
    path = f"{PROJECTS}/{project.full_name}"
    before = (await api_server.client.get(path, headers=person.headers)).json()
    assert (await api_server.client.patch(path, headers=person.headers, json=body)).status_code == 400
    assert (await api_server.client.get(path, headers=person.headers)).json() == before


async def test_a_taken_name_and_the_name_of_a_deleted_project_are_409(api_server: ApiServer, person: Person) -> None:
    await _create(api_server, person, name="once")
    taken = await _create(api_server, person, name="once")
    assert (taken.status_code, taken.json()["code"]) == (409, "project_exists")
    await api_server.client.delete(f"{PROJECTS}/{person.name}/once", headers=person.headers)
    reserved = await _create(api_server, person, name="once")
    assert (reserved.status_code, reserved.json()["code"]) == (409, "project_exists")


async def test_only_an_administrator_makes_projects_in_other_names(api_server: ApiServer, person: Person) -> None:
    admin = await api_server.user(role="admin")
    refused = await _create(api_server, person, name="gift", owner=admin.name)
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "admin:users")
    assert f"Projects of {admin.name} are made by {admin.name}" in refused.json()["detail"]
    async with api_server.transaction() as session:
        denied = await session.execute(
            text("SELECT count(*) FROM audit_log WHERE actor_id = :id AND outcome = 'denied'"), {"id": person.user.id}
        )
        assert denied.scalar_one() == 1
    made = await _create(api_server, admin, name="gift", owner=person.name)
    assert made.json()["owner"] == person.name
    assert (await _create(api_server, admin, name="gift", owner="nobody-at-all")).status_code == 404


async def test_the_list_shows_exactly_what_one_may_read(api_server: ApiServer) -> None:
    owner, reader = await api_server.user(), await api_server.user(role=None)
    async with api_server.transaction() as session:
        private = await make_project(session, owner.user, "a-private")
        await make_project(session, owner.user, "b-internal", visibility="internal")
        await make_project(session, owner.user, "c-public", visibility="public")
        shared = await make_project(session, owner.user, "d-shared")
        await give_role(session, reader.user, "viewer", project_id=shared.id)
        only = await make_token(session, owner.user, project_id=private.id)
        blind = await make_token(session, owner.user, scopes=frozenset({"project:write"}))

    async def names(headers: dict[str, str]) -> list[str]:
        answer = await api_server.client.get(PROJECTS, params={"owner": owner.name}, headers=headers)
        listed = [project["name"] for project in answer.json()["items"]]
        for name in ("a-private", "b-internal", "c-public", "d-shared"):
            read = await api_server.client.get(f"{PROJECTS}/{owner.name}/{name}", headers=headers)
            assert (read.status_code == 200) == (name in listed), "the list and the verdict function differ"
        return listed

    assert await names(owner.headers) == ["a-private", "b-internal", "c-public", "d-shared"]
    assert await names(reader.headers) == ["b-internal", "c-public", "d-shared"]
    assert await names(only.headers) == ["a-private"]
    assert await names(blind.headers) == []


async def test_the_list_is_paged_without_gap_or_repeat_while_projects_come(
    api_server: ApiServer, person: Person
) -> None:
    async with api_server.transaction() as session:
        for number in range(5):
            await make_project(session, person.user, f"p{number}")
    seen: list[str] = []
    url: str | None = f"{PROJECTS}?limit=2&owner={person.name}"
    while url:
        page = (await api_server.client.get(url, headers=person.headers)).json()
        seen += [project["name"] for project in page["items"]]
        url = page["next"]
        if len(seen) == 2:
            await api_server.project(person, "a-newcomer-before")
    assert seen == ["p0", "p1", "p2", "p3", "p4"]


async def test_the_same_key_gives_the_same_answer_once(api_server: ApiServer, person: Person) -> None:
    headers = {**person.headers, "Idempotency-Key": "k-1"}
    first = await api_server.client.post(PROJECTS, headers=headers, json={"name": "one"})
    again = await api_server.client.post(PROJECTS, headers=headers, json={"name": "one"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    other = await api_server.client.post(PROJECTS, headers=headers, json={"name": "two"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    stranger = await api_server.user()
    theirs = {**stranger.headers, "Idempotency-Key": "k-1"}
    assert (await api_server.client.post(PROJECTS, headers=theirs, json={"name": "two"})).status_code == 201


async def test_a_failed_request_does_not_use_up_its_key(api_server: ApiServer, person: Person) -> None:
    await _create(api_server, person, name="taken")
    headers = {**person.headers, "Idempotency-Key": "k-2"}
    assert (await api_server.client.post(PROJECTS, headers=headers, json={"name": "taken"})).status_code == 409
    assert (await api_server.client.post(PROJECTS, headers=headers, json={"name": "free"})).status_code == 201


async def test_many_at_once_with_one_key_make_one_project(api_server: ApiServer, person: Person) -> None:
    headers = {**person.headers, "Idempotency-Key": "k-3"}
    answers = await asyncio.gather(
        *(api_server.client.post(PROJECTS, headers=headers, json={"name": "raced"}) for _ in range(12))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    made = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in made}) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_progress"}


@pytest.mark.parametrize("key", ["x" * 256, ""])
async def test_a_malformed_key_is_400(api_server: ApiServer, person: Person, key: str) -> None:
    answer = await api_server.client.post(
        PROJECTS, headers={**person.headers, "Idempotency-Key": key}, json={"name": "p"}
    )
    assert answer.status_code == 400
