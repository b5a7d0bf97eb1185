"""The stream of events itself: what it does while nothing happens, and when the reader may no longer read."""

import pytest

from api import sse
from api.routes.pipelines import run_feed
from domain.pipelines.status import RunStatus
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.pipelines import finish_run, finish_step, make_run, start_run, start_step
from tests.support.sse import streaming


async def opened_run(server: ApiServer, person: Person) -> tuple[ProjectView, str]:
    project = await server.project(person)
    run = await make_run(server.services.database, project, person.user)
    return project, f"/api/v1/projects/{project.full_name}/pipelines/{run.run_id}/events"


async def test_a_silent_stream_is_kept_alive(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "REREAD_SECONDS", 0.02)
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.05)
    person = await api_server.user()
    _, path = await opened_run(api_server, person)
    async with api_server.client.stream("GET", path, headers=person.headers) as answer:
        async for line in answer.aiter_lines():
            if line == ": keep-alive":
                break


async def test_more_events_than_one_read_gives_come_in_order_and_once(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_feed, "EVENTS_READ_MAX", 2)
    database = api_server.services.database
    person = await api_server.user()
    project = await api_server.project(person)
    run = await make_run(database, project, person.user)
    await start_run(database, run.run_id)
    for name in ("build", "test"):
        await finish_step(database, await start_step(database, run.run_id, name))
    await finish_run(database, run.run_id, RunStatus.SUCCESS)
    path = f"/api/v1/projects/{project.full_name}/pipelines/{run.run_id}/events"
    async with streaming(api_server.client, path, person.headers) as stream:
        events = await stream.rest()
    assert [event.id for event in events] == ["1", "2", "3", "4", "5", "6", "7", ""]
    assert (events[-1].name, events[-1].json) == ("end", {"status": "success"})


async def test_a_revoked_token_ends_the_stream_and_says_so(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "REREAD_SECONDS", 0.02)
    monkeypatch.setattr(sse, "RECHECK_SECONDS", 0.05)
    person = await api_server.user()
    _, path = await opened_run(api_server, person)
    async with streaming(api_server.client, path, person.headers) as stream:
        assert (await stream.next()).name == "status"
        revoked = await api_server.client.delete(f"/api/v1/tokens/{person.token.id}", headers=person.headers)
        assert revoked.status_code == 204, revoked.text
        (denied,) = await stream.rest()
    assert (denied.name, denied.json["code"]) == ("denied", "no_longer_granted")
