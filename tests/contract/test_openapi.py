"""The OpenAPI document is complete enough that a generated client works."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app
from tests.policy.routes import ROUTES
from tests.support.api import ApiServer

# Its errors are those of OAuth 2, so that any client library understands them (RFC 6749, section 5.2).
OAUTH = ("POST /api/v1/oauth/token", "400")
OPEN = {key for key, call in ROUTES.items() if call.needs == "nothing"}


@pytest.fixture(scope="module")
def document(api_server: ApiServer) -> dict[str, Any]:
    return create_app(api_server.services).openapi()


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_summary_a_description_a_tag_and_an_id_of_its_own(document: dict[str, Any]) -> None:
    operations = dict(_operations(document))
    for key, operation in operations.items():
        assert operation.get("summary"), key
        assert operation.get("description"), key
        assert operation.get("tags"), key
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_operation_declares_its_errors_as_problem_documents(document: dict[str, Any]) -> None:
    for key, operation in _operations(document):
        responses = operation["responses"]
        assert "422" not in responses or "application/problem+json" in responses["422"]["content"], key
        if not key.split()[1].startswith("/api/"):
            continue
        call = ROUTES[key]
        expected = {"503"}
        if call.needs != "nothing":
            expected |= {"401"}
        if call.on_project:
            expected |= {"404"}
        if call.on_project and call.needs != "project:read":
            expected |= {"403"}
        assert expected <= set(responses), key
        for status, response in responses.items():
            if status >= "400" and (key, status) != OAUTH:
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (key, status)
                assert set(response["content"]) == {"application/problem+json"}, (key, status)


def test_every_protected_operation_names_its_security(document: dict[str, Any]) -> None:
    schemes = set(document["components"]["securitySchemes"])
    for key, operation in _operations(document):
        named = {name for one in operation.get("security", []) for name in one}
        assert named <= schemes
        assert bool(named) == (key not in OPEN), key


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    yield value
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
