"""What is taken back in one process ends in every other: at once for requests, within a second for open streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from adapters.bus.base import Bus
from adapters.bus.memory import MemoryBus
from adapters.bus.valkey import ValkeyBus
from adapters.cache.memory import MemoryCache
from adapters.cache.valkey import ValkeyCache
from api.rights import CHANNEL
from database.engine import Database
from database.store.access.cache import Rights, SharedHeld
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person, listening_socket, services_for_tests, serving
from tests.support.audit import AUDIT_KEYS
from tests.support.eventually import eventually
from tests.support.factories import give_role, make_session
from tests.support.pipelines import make_run
from tests.support.sse import Stream, streaming
from tests.support.stack import Stack, TestDatabase

WITHIN_SECONDS = 1.0


@dataclass
class Two:
    """Two processes of one installation, as far as they can tell: nothing but their neighbours is shared.

    Attributes:
        here: Where rights are taken back.
        there: Where they are used.
    """

    here: ApiServer
    there: ApiServer


@asynccontextmanager
async def two_servers(stack: Stack, made: TestDatabase, root: Path, *, with_valkey: bool) -> AsyncIterator[Two]:
    async with AsyncExitStack() as open_until_the_end:
        servers: list[ApiServer] = []
        for name in ("here", "there"):
            listening = listening_socket()
            database = await open_until_the_end.enter_async_context(Database(made.url, audit_keys=AUDIT_KEYS))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            services = await services_for_tests(stack, database, root / name, url)
            bus: Bus = ValkeyBus(stack.bus_url) if with_valkey else MemoryBus()
            cache = ValkeyCache(stack.bus_url) if with_valkey else MemoryCache()
            open_until_the_end.push_async_callback(bus.close)
            open_until_the_end.push_async_callback(cache.close)
            secret_key = servers[0].services.secret_key if servers else services.secret_key
            services = replace(services, bus=bus, secret_key=secret_key, rights=Rights(SharedHeld(cache, secret_key)))
            servers.append(await open_until_the_end.enter_async_context(serving(services, listening)))
        yield Two(*servers)


@pytest.fixture(params=["valkey", "valkey was killed", "no hint ever comes"], scope="module")
async def two(
    request: pytest.FixtureRequest,
    idle_stack: Stack,
    template_database: TestDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Two]:
    with_valkey = request.param != "no hint ever comes"
    made = await idle_stack.create_database(template=template_database.name)
    if with_valkey:
        await idle_stack.start("valkey")
    async with two_servers(idle_stack, made, tmp_path_factory.mktemp("two"), with_valkey=with_valkey) as servers:
        if request.param == "valkey was killed":
            await idle_stack.kill("valkey")
        yield servers
    if with_valkey:
        await idle_stack.start("valkey")
    await idle_stack.drop_database(made)


@dataclass
class Scene:
    """A reader of somebody else's private project, by a role of their own on it."""

    two: Two
    owner: Person
    reader: Person
    project: ProjectView
    role: str
    run_path: str

    @property
    def path(self) -> str:
        return f"/api/v1/projects/{self.project.full_name}"

    async def status(self) -> int:
        answer = await self.two.there.client.get(self.path, headers=self.reader.headers)
        return answer.status_code


async def a_scene(two: Two) -> Scene:
    owner, reader = await two.here.user(), await two.here.user(role=None)
    project = await two.here.project(owner)
    run = await make_run(two.here.services.database, project, owner.user)
    path = f"/api/v1/projects/{project.full_name}/pipelines/{run.run_id}/events"
    scene = Scene(two, owner, reader, project, f"reader-of-{project.name}", path)
    await sql(
        scene,
        "WITH made AS (INSERT INTO roles (name) VALUES (:role) RETURNING id) INSERT INTO role_permissions "
        "SELECT made.id, permissions.id FROM made, permissions WHERE permissions.name = 'project:read'",
        role=scene.role,
    )
    await give_the_role(scene)
    return scene


async def sql(scene: Scene, statement: str, **values: object) -> None:
    async with scene.two.here.transaction() as session:
        await session.execute(text(statement), values)


async def revoke_the_token(scene: Scene) -> None:
    path = f"/api/v1/tokens/{scene.reader.token.id}"
    answer = await scene.two.here.client.delete(path, headers=scene.reader.headers)
    assert answer.status_code == 204, answer.text


async def give_the_role(scene: Scene) -> None:
    async with scene.two.here.transaction() as session:
        await give_role(session, scene.reader.user, scene.role, project_id=scene.project.id)


async def take_the_role(scene: Scene) -> None:
    await sql(scene, "DELETE FROM user_roles WHERE user_id = :user", user=scene.reader.user.id)


async def empty_the_role(scene: Scene) -> None:
    await sql(
        scene,
        "DELETE FROM role_permissions WHERE role_id = (SELECT id FROM roles WHERE name = :role)",
        role=scene.role,
    )


async def deactivate(scene: Scene) -> None:
    await sql(scene, "UPDATE users SET is_active = false WHERE id = :user", user=scene.reader.user.id)


async def delete_the_project(scene: Scene) -> None:
    answer = await scene.two.here.client.delete(scene.path, headers=scene.owner.headers)
    assert answer.status_code == 204, answer.text


Revocation = Callable[[Scene], Awaitable[None]]
REVOCATIONS: dict[Revocation, int] = {
    revoke_the_token: 401,
    take_the_role: 404,
    empty_the_role: 404,
    deactivate: 401,
    delete_the_project: 404,
}


@pytest.mark.parametrize("revoke", REVOCATIONS, ids=lambda revoke: revoke.__name__)
async def test_the_next_request_is_refused_and_the_open_stream_ends(two: Two, revoke: Revocation) -> None:
    scene = await a_scene(two)
    for _ in range(3):
        assert await scene.status() == 200
    async with streaming(two.there.client, scene.run_path, scene.reader.headers) as stream:
        assert (await stream.next()).name == "status"
        await revoke(scene)
        revoked_at = time.monotonic()
        assert await scene.status() == REVOCATIONS[revoke]
        (denied,) = await stream.rest()
        took_seconds = time.monotonic() - revoked_at
    assert (denied.name, denied.json["code"]) == ("denied", "no_longer_granted")
    assert took_seconds < WITHIN_SECONDS


async def test_a_browser_session_that_is_narrowed_loses_its_streams(two: Two) -> None:
    scene = await a_scene(two)
    async with two.here.transaction() as session:
        session_id, secret = await make_session(session, scene.reader.user)
    async with streaming(two.there.client, scene.run_path, {"Cookie": f"perdure_session={secret}"}) as stream:
        assert (await stream.next()).name == "status"
        await sql(scene, "UPDATE auth_sessions SET scopes = '{pipeline:run}' WHERE id = :id", id=session_id)
        narrowed_at = time.monotonic()
        (denied,) = await stream.rest()
        took_seconds = time.monotonic() - narrowed_at
    assert (denied.name, denied.json["code"]) == ("denied", "no_longer_granted")
    assert took_seconds < WITHIN_SECONDS


async def test_what_runs_out_by_itself_ends_open_streams_too(two: Two) -> None:
    scene = await a_scene(two)
    async with streaming(two.there.client, scene.run_path, scene.reader.headers) as stream:
        assert (await stream.next()).name == "status"
        await sql(
            scene,
            "UPDATE user_roles SET expires_at = clock_timestamp() + interval '1.5 seconds' WHERE user_id = :user",
            user=scene.reader.user.id,
        )
        changed_at = time.monotonic()
        assert await scene.status() == 200
        (denied,) = await stream.rest()
        took_seconds = time.monotonic() - changed_at
    assert denied.name == "denied"
    assert 1.4 < took_seconds < 1.5 + WITHIN_SECONDS
    assert await scene.status() == 404


async def test_what_is_given_is_there_at_once(two: Two) -> None:
    scene = await a_scene(two)
    await take_the_role(scene)
    for _ in range(3):
        assert await scene.status() == 404
        await give_the_role(scene)
        assert await scene.status() == 200
        await take_the_role(scene)


async def test_others_keep_their_streams(two: Two) -> None:
    scene = await a_scene(two)
    async with (
        streaming(two.there.client, scene.run_path, scene.owner.headers) as stays,
        streaming(two.there.client, scene.run_path, scene.reader.headers) as ends,
    ):
        assert (await stays.next()).name == (await ends.next()).name == "status"
        await take_the_role(scene)
        assert [event.name for event in await ends.rest()] == ["denied"]
        await assert_still_open(stays)


async def assert_still_open(stream: Stream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await stream.next()


async def test_a_stream_that_opens_while_its_reader_is_thrown_out_ends(two: Two) -> None:
    scene = await a_scene(two)
    await take_the_role(scene)
    for _ in range(5):
        await give_the_role(scene)
        taking = asyncio.create_task(take_the_role(scene))
        answer = await two.there.client.send(
            two.there.client.build_request("GET", scene.run_path, headers=scene.reader.headers), stream=True
        )
        await taking
        opened = Stream(answer)
        if answer.status_code == 200:
            assert [event.name for event in await opened.rest()][-1] == "denied"
        else:
            assert answer.status_code == 404
        await answer.aclose()


async def test_only_what_may_change_rights_tells_the_others(api_server: ApiServer) -> None:
    person = await api_server.user()
    project = await api_server.project(person)
    client, path = api_server.client, f"/api/v1/projects/{project.full_name}"
    async with api_server.services.bus.subscribe(CHANNEL) as hints:
        assert (await client.get(path, headers=person.headers)).status_code == 200
        assert (await client.delete(f"/api/v1/tokens/{UUID(int=0)}", headers=person.headers)).status_code == 404
        assert (await client.patch(path, json={"name": ""}, headers=person.headers)).status_code == 400
        assert not await hints.wait(timeout_seconds=0.1)
        changed = await client.patch(path, json={"visibility": "public"}, headers=person.headers)
        assert changed.status_code == 200, changed.text
        assert await hints.wait(timeout_seconds=5)
        assert (await client.delete(f"/api/v1/tokens/{person.token.id}", headers=person.headers)).status_code == 204
        assert await hints.wait(timeout_seconds=5)


async def test_nobody_looks_while_nothing_is_open(api_server: ApiServer) -> None:
    watch = api_server.services.rights_watch
    for _ in range(3):
        async with watch.changes() as first, watch.changes() as second:
            assert await first.wait(timeout_seconds=5), "whoever begins to look tells everybody to ask"
            assert await second.wait(timeout_seconds=5)
        await eventually(lambda: not any(task.get_name() == "rights watch" for task in asyncio.all_tasks()))
