"""Texts that PostgreSQL or UTF-8 cannot hold, wherever a caller may send one: a refusal, never a 500."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Route

from api.app import create_app
from domain.projects import ProjectView
from tests.policy.routes import NOWHERE, ROUTES
from tests.support.api import ApiServer, Person
from tests.support.pipelines import HELLO, fill_repository, make_run

NUL = "%00"
ODD = (NUL, f"a{NUL}b", "%FF", "%ED%A0%80", "%C2%85%0A", "x" * 3000)
"""In a path: NUL, bytes that are no UTF-8, half of a surrogate pair, line ends, and more than anything is long."""


@dataclass
class Scene:
    """Somebody who may do everything, and a project with a run."""

    server: ApiServer
    person: Person
    project: ProjectView
    run_id: str

    async def call(self, method: str, path: str, *, query: str = "", **changed: str) -> int:
        values = {"owner": self.project.owner_name, "name": self.project.name, "run_id": self.run_id, "step": "build"}
        call = ROUTES.get(f"{method} {path}")
        values |= {"rest": "HEAD"} | ({} if call is None else call.values) | changed
        url = re.sub(r"{(\w+)[^}]*}", lambda found: values.get(found[1], NOWHERE), path) + query
        body = None if call is None else call.body
        answer = await self.server.client.request(method, url, headers=self.person.headers, json=body)
        return answer.status_code


@pytest.fixture(scope="module")
async def scene(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    person = await api_server.user(role="admin")
    project = await api_server.project(person)
    await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path_factory.mktemp("odd"))
    made = await make_run(api_server.services.database, project, person.user)
    return Scene(api_server, person, project, str(made.run_id))


def _routes(server: ApiServer) -> Iterator[tuple[str, Route]]:
    for route in create_app(server.services).router.routes:
        if isinstance(route, Route):
            for method in sorted(route.methods or ()):
                yield method, route


def _query_names(dependant: Dependant) -> set[str]:
    return {field.alias for field in dependant.query_params}.union(*map(_query_names, dependant.dependencies))


@pytest.mark.parametrize("odd", ODD)
async def test_in_every_part_of_every_path(api_server: ApiServer, scene: Scene, odd: str) -> None:
    answers = {
        (method, route.path, name): await scene.call(method, route.path, **{name: odd})
        for method, route in _routes(api_server)
        for name in route.param_convertors
    }
    assert len(answers) > 150
    # 301: whoever leaves out ".git" is led to the address with it, which then is not there.
    possible = {404} if NUL in odd else {301, 400, 404, 422}
    # A token is told first that it may not do what a person has to.
    for_people = {403} if NUL not in odd else set()
    assert {
        key: status
        for key, status in answers.items()
        if status not in possible | (for_people if _is_for_people(*key[:2]) else set())
    } == {}


def _is_for_people(method: str, path: str) -> bool:
    # Starlette answers HEAD where there is GET, without an entry of its own.
    return ROUTES[f"{method.replace('HEAD', 'GET')} {path}"].by != "any"


async def test_a_nul_in_every_query(api_server: ApiServer, scene: Scene) -> None:
    answers = {
        (method, route.path, name): await scene.call(method, route.path, query=f"?{name}={NUL}")
        for method, route in _routes(api_server)
        if isinstance(route, APIRoute)
        for name in _query_names(route.dependant)
    }
    assert ("GET", "/api/v1/projects", "owner") in answers
    assert {key: status for key, status in answers.items() if status >= 500} == {}


async def test_a_nul_in_a_static_address(api_server: ApiServer) -> None:
    assert (await api_server.client.get(f"/static/app.js{NUL}")).status_code == 404


BODIES = [
    ("POST /api/v1/projects", '{"name": "odd", "description": "ODD"}'),
    ("POST /api/v1/projects", '{"name": "odd", "owner": "ODD"}'),
    ("POST /api/v1/projects", '{"name": "odd", "default_branch": "ODD"}'),
    ("POST /api/v1/projects", '{"name": "ODD"}'),
    ("POST /api/v1/projects", '{"ODD": "ODD"}'),
    ("PATCH {project}", '{"display_name": "ODD"}'),
    ("POST /api/v1/tokens", '{"name": "ODD", "scopes": ["project:read"]}'),
    ("POST /api/v1/tokens", '{"name": "odd", "scopes": ["ODD"]}'),
    ("POST /api/v1/tokens", '{"name": "odd", "scopes": ["project:read"], "project": "ODD/ODD"}'),
    ("POST /api/v1/sessions", '{"name": "ODD", "password": "x"}'),
    ("POST /api/v1/sessions", '{"name": "nobody", "password": "ODD"}'),
    ("POST {project}/pipelines", '{"ref": "ODD"}'),
    ("POST {project}/pipelines", '{"ref": "main", "config_path": "ODD"}'),
    ("POST {project}/pipelines", '{"ref": "main", "variables": {"A": "ODD"}}'),
    ("POST {project}/pipelines", '{"ref": "main", "variables": {"ODD": "x"}}'),
    ("POST {project}/pipelines", '{"ref": "main", "variables": {"ODD": 5}}'),
    ("POST {run}/cancel", '{"reason": "ODD"}'),
]


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800"])
@pytest.mark.parametrize(("key", "body"), BODIES)
async def test_in_a_body(api_server: ApiServer, scene: Scene, key: str, body: str, odd: str) -> None:
    method, path = key.split()
    project = f"/api/v1/projects/{scene.project.full_name}"
    answer = await api_server.client.request(
        method,
        path.format(project=project, run=f"{project}/pipelines/{scene.run_id}"),
        content=body.replace("ODD", odd),
        headers={**scene.person.headers, "content-type": "application/json"},
    )
    assert answer.status_code in (400, 401, 404, 422), answer.text
    assert answer.json()["detail"]


async def test_a_nul_that_only_the_database_sees_is_named(api_server: ApiServer, scene: Scene) -> None:
    answer = await api_server.client.post(
        "/api/v1/projects", json={"name": "odd", "description": "a\0b"}, headers=scene.person.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "nul_character")


async def test_a_place_that_no_stream_has(api_server: ApiServer, scene: Scene) -> None:
    url = f"/api/v1/projects/{scene.project.full_name}/pipelines/{scene.run_id}/events?after={2**70}"
    assert (await api_server.client.get(url, headers=scene.person.headers)).status_code == 400
