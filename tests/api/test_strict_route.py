"""What is asked for with an unknown parameter is refused instead of answered as if it were not there."""

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from api.app import create_app
from api.strict_route import StrictRoute
from tests.support.api import ApiServer

LENIENT = ("/api/v1/temporal/codec/", "/.well-known/", "/healthz", "/readyz", "/metrics", "/schemas/")
"""Asked by programs of others, which may add what they like."""


def json_routes(server: ApiServer) -> Iterator[APIRoute]:
    for route in create_app(server.services).routes:
        if isinstance(route, APIRoute) and route.include_in_schema and not route.path.startswith(LENIENT):
            yield route


async def test_every_route_of_the_api_knows_the_parameters_of_its_document(api_server: ApiServer) -> None:
    document = (await api_server.client.get("/api/v1/openapi.json")).json()
    routes = list(json_routes(api_server))
    assert len(routes) > 90
    for route in routes:
        assert isinstance(route, StrictRoute), route.path
        for method in route.methods or ():
            documented = document["paths"][route.path_format][method.lower()].get("parameters", [])
            assert {one["name"] for one in documented if one["in"] == "query"} == route.query_names, route.path


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v1/audit?actoin=user:create", "there is no query parameter 'actoin' here; did you mean action?"),
        ("/api/v1/audit/export?format=csv", "there is no query parameter 'format' here; did you mean"),
        ("/api/v1/me?limit=3", "there is no query parameter 'limit' here; this address takes none"),
        ("/api/v1/projects?zzz=&zzz=2", "there is no query parameter 'zzz' here; possible: "),
        ("/api/v1/projects?%0a=1", "there is no query parameter '\\n' here"),
        (f"/api/v1/projects?{'x' * 3000}=1", f"there is no query parameter '{'x' * 59}…' here"),
    ],
)
async def test_what_is_unknown_is_refused_by_name(api_server: ApiServer, path: str, told: str) -> None:
    person = await api_server.user()
    answer = await api_server.client.get(path, headers=person.headers)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["detail"]
    assert answer.json()["details"]["errors"][0]["in"] == "query"


async def test_only_so_many_are_told(api_server: ApiServer) -> None:
    person = await api_server.user()
    query = "&".join(f"unknown{number}=1" for number in range(500))
    answer = await api_server.client.get(f"/api/v1/me?{query}", headers=person.headers)
    assert answer.status_code == 400
    assert len(answer.json()["details"]["errors"]) == 5


async def test_what_is_known_is_answered(api_server: ApiServer) -> None:
    person = await api_server.user()
    assert (await api_server.client.get("/api/v1/projects?limit=3", headers=person.headers)).status_code == 200
    assert (await api_server.client.get("/healthz?anything=1")).status_code == 200
