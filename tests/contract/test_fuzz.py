"""Every operation of the OpenAPI document, called with input of every kind that schemathesis thinks of.

Two people ask: an administrator and the owner of a project. Most of what they name exists, so that calls reach
beyond the first look-up. Nothing may answer 5xx, and every answer must be one that the document tells of.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from database.engine import Database
from deploy.local.temporal import Temporal
from domain.pipelines.status import RunStatus
from temporal.client import connect
from temporal.namespace import ensure_namespace
from tests.support.api import ApiServer, Person, listening_socket, services_for_tests, serving, url_of
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import PASSWORD, make_token
from tests.support.pipelines import HELLO, fill_repository, finish_run, make_run, start_run, start_step, write_log
from tests.support.stack import Stack, TestDatabase

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]

EXAMPLES_PER_OPERATION = 8
SCHEMA_PATH = "/api/v1/openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Operations that were served at least once.
SERVED_MIN = {"admin": 60, "developer": 30}
# These end what the others name; they come last.
LAST = ("DELETE", "/deactivation", "/rotation")
# A stream ends with its run; that of a run which waits for a worker is left after this long or this many events.
STREAM_SECONDS_MAX = 1.0
STREAM_EVENTS_MAX = 3


@dataclass(frozen=True)
class Scene:
    """Somebody who asks, and what there is to be named: by the name of a path parameter or of a field."""

    asking: Person
    in_path: dict[str, str]
    in_body: dict[str, Any]

    def values_for(self, path: str) -> dict[str, str]:
        """What the parameters of a path may be, so that they name something."""
        values = dict(self.in_path)
        if path.startswith("/api/v1/projects/"):
            values["name"] = self.in_path["project"]
        elif path.startswith("/api/v1/roles/"):
            values["name"] = "viewer"
        return {name: value for name, value in values.items() if f"{{{name}}}" in path}


@pytest.fixture(scope="module")
async def server(
    idle_stack: Stack,
    temporal_server: Temporal,
    template_database: TestDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[ApiServer]:
    """An API of this test's own, in a namespace that no worker serves, where tokens may do all that sessions may."""
    made = await idle_stack.create_database(template=template_database.name)
    listening = listening_socket()
    async with Database(made.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(
            idle_stack, database, tmp_path_factory.mktemp("repositories"), url_of(listening)
        )
        client = await connect(
            temporal_server.address, "fuzzed", services.temporal.data_converter, program="api", lazy=True
        )
        await ensure_namespace(client)
        async with serving(replace(services, temporal=client, tokens_without_proof=True), listening) as server:
            yield server


async def scene_of(server: ApiServer, asking: Person, directory: Path) -> Scene:
    """A project with a commit and an ended run, and a bystander to do things to."""
    bystander = await server.user(role="viewer")
    project = await server.project(asking)
    await fill_repository(server, project, {".platform.yaml": HELLO}, directory)
    database = server.services.database
    run = await make_run(database, project, asking.user)
    await start_run(database, run.run_id)
    await write_log(database, await start_step(database, run.run_id, "build"), b"building\n")
    await finish_run(database, run.run_id, RunStatus.SUCCESS)
    async with server.transaction() as session:
        other_token = await make_token(session, asking.user)
    await organization_of(server, asking)
    return Scene(
        asking,
        in_path={
            "owner": asking.name,
            "project": project.name,
            "name": bystander.name,
            "member": bystander.name,
            "run_id": str(run.run_id),
            "step": "build",
            "organization": f"{asking.name}-company",
            "team": "crew",
            "token_id": str(other_token.id),
            "user_id": str(bystander.user.id),
        },
        in_body={
            "to": bystander.name,
            "holder": bystander.name,
            "role": "viewer",
            "project": project.full_name,
            "ref": "main",
            "responsible": asking.name,
            "name": f"{asking.name}-made",
            "email": f"{asking.name}-made@example.org",
            "password": PASSWORD,
            "present": PASSWORD,
            "scopes": ["project:read"],
        },
    )


async def organization_of(server: ApiServer, owner: Person) -> None:
    """Somebody's organisation with the team ``crew``."""
    admin = await server.user(role="admin")
    organization = f"{owner.name}-company"
    teams = f"/api/v1/organizations/{organization}/teams"
    for method, path, body in (
        ("POST", "/api/v1/organizations", {"name": organization}),
        ("PUT", f"{teams}/owners/members/{owner.name}", None),
        ("POST", teams, {"name": "crew"}),
    ):
        answer = await server.client.request(method, path, json=body, headers=admin.headers)
        assert answer.is_success, answer.text


def operations(scene: Scene, url: str) -> Iterator[Operation]:
    """All of the document, those that end something last."""
    generation = GenerationConfig(with_security_parameters=False)
    project = ProjectConfig(
        generation=generation,
        request_timeout=30,
        max_stream_events=STREAM_EVENTS_MAX,
        headers=scene.asking.headers,
    )
    config = SchemathesisConfig(projects=ProjectsConfig(default=project), seed=1)
    schema = schemathesis.openapi.from_url(url + SCHEMA_PATH, config=config)
    results = list(schema.get_all_operations())
    found = [one.ok() for one in results if isinstance(one, Ok)]
    assert len(found) == len(results)
    assert len(found) > 100
    return iter(sorted(found, key=lambda one: any(last in one.label for last in LAST)))


def exercised(scene: Scene, operation: Operation, url: str) -> tuple[str | None, set[int]]:
    """Calls an operation with all kinds of input; what was wrong first, if anything, and the statuses answered."""
    statuses: set[int] = set()
    known = scene.values_for(operation.path)
    inputs = [
        operation.as_strategy(GenerationMode.POSITIVE, path_parameters=known),
        operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=known),
    ]
    if known:
        inputs.append(operation.as_strategy(GenerationMode.POSITIVE))

    @settings(
        max_examples=EXAMPLES_PER_OPERATION,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def call(data: st.DataObject) -> None:
        case = data.draw(st.one_of(inputs))
        if isinstance(case.body, dict):
            for name in case.body.keys() & scene.in_body.keys():
                if data.draw(st.booleans()):
                    case.body[name] = scene.in_body[name]
        is_stream = operation.path.endswith(("/events", "/stream"))
        response = case.call(
            base_url=url, headers=scene.asking.headers, timeout=STREAM_SECONDS_MAX if is_stream else 30
        )
        statuses.add(response.status_code)
        # The document is right: in OpenAPI 3.1 a schema tells of the body; schemathesis takes it for one event.
        checks = [check for check in CHECKS if not (is_stream and check is response_schema_conformance)]
        case.validate_response(response, checks=checks)

    try:
        call()
    except FailureGroup as error:
        return f"{operation.label}: {error}", statuses
    return None, statuses


@pytest.mark.parametrize("role", ["admin", "developer"])
@pytest.mark.timeout(300)  # about 25 s of a processor's time; on a machine that is busy otherwise it takes its share
async def test_whatever_is_sent_is_answered_as_the_document_says(server: ApiServer, role: str, tmp_path: Path) -> None:
    scene = await scene_of(server, await server.user(role=role), tmp_path)

    def exercise() -> list[str]:
        called = [exercised(scene, operation, server.base_url) for operation in operations(scene, server.base_url)]
        failures = [failure for failure, _ in called if failure]
        served = [statuses for _, statuses in called if any(status < 400 for status in statuses)]
        # That nobody was let in anywhere would look like perfect answers too.
        assert len(served) > SERVED_MIN[role], f"only {len(served)} operations were ever served"
        return failures

    failures = await asyncio.to_thread(exercise)
    assert not failures, "\n\n".join(failures)
    still = await server.client.get("/api/v1/me", headers=scene.asking.headers)
    assert still.status_code == 200
