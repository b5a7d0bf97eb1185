import dataclasses
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from adapters.objects.memory import MemoryObjects
from database.engine import Database
from domain.access.tokens import format_token
from domain.errors import Unavailable
from temporal.client import connect
from tests.support.api import ApiServer, listening_socket, services_for_tests, serving
from tests.support.stack import Stack


class AbsentObjects(MemoryObjects):
    """An object store that does not answer."""

    async def ping(self) -> None:
        raise Unavailable("The object store does not answer.", neighbour="objects")


@pytest.fixture
async def alone(idle_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """An API whose database, object store and Temporal are away."""
    async with Database("postgresql+asyncpg://nobody:x@127.0.0.1:1/nothing") as database:
        services = await services_for_tests(
            idle_stack, database, tmp_path_factory.mktemp("repositories"), "http://127.0.0.1"
        )
        temporal = await connect(
            "127.0.0.1:1", services.namespace, services.temporal.data_converter, program="api", lazy=True
        )
        away = dataclasses.replace(services, objects=AbsentObjects(), temporal=temporal)
        async with serving(away, listening_socket()) as server:
            yield server


async def test_it_is_alive_and_names_what_is_away(alone: ApiServer) -> None:
    assert (await alone.client.get("/healthz")).json() == {"status": "alive"}
    answer = await alone.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    states = {name: found["state"] for name, found in answer.json()["dependencies"].items()}
    assert states["bus"] == "ready"
    assert {name for name, state in states.items() if state == "away"} == {"database", "objects", "temporal"}


async def test_without_the_database_requests_are_503_with_a_time_to_come_back(alone: ApiServer) -> None:
    headers = {"Authorization": f"Bearer {format_token(bytes(32))}"}
    answer = await alone.client.get("/api/v1/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.json()["details"] == {"neighbour": "database"}
    assert int(answer.headers["retry-after"]) >= 1


async def test_ready_when_all_are(api_server: ApiServer, temporal_server: object) -> None:
    del temporal_server
    answer = await api_server.client.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ready"


async def test_connections_that_the_database_closed_cost_no_request(api_server: ApiServer, idle_stack: Stack) -> None:
    person = await api_server.user()
    paths = ("/api/v1/me", "/api/v1/projects")
    async with api_server.transaction() as session:
        name = (await session.execute(text("SELECT current_database()"))).scalar_one()
    for path in paths:
        assert (await api_server.client.get(path, headers=person.headers)).status_code == 200
    connection = await idle_stack.servers.postgres.connect(database="postgres")
    try:
        closed = await connection.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name
        )
    finally:
        await connection.close()
    assert len(closed) >= 2
    for path in paths:
        assert (await api_server.client.get(path, headers=person.headers)).status_code == 200


async def test_metrics_count_by_route_template(api_server: ApiServer) -> None:
    person = await api_server.user()
    project = await api_server.project(person)
    await api_server.client.get(f"/api/v1/projects/{project.full_name}", headers=person.headers)
    answer = await api_server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'route="/api/v1/projects/{owner}/{name}",method="GET",status="200",le="+Inf"' in answer.text
    assert project.name not in answer.text
    assert "process_resident_memory_bytes" in answer.text
