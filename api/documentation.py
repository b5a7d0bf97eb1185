"""The OpenAPI document: what FastAPI derives from the routes, plus what it cannot know.

How callers prove who they are is read from the errors that a route declares: whoever may answer 401 needs a
credential. FastAPI's own account of validation errors is taken out, because they are answered as 400 problems here.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import PROBLEM_JSON, Problem

_METHODS = frozenset({"get", "put", "post", "patch", "delete"})

_SCHEMES: dict[str, Any] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "prd_...",
        "description": "An API token. Its scopes and its project narrow what its user may do.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "perdure_session",
        "description": "A browser session; over TLS the cookie is called __Host-perdure_session. Unsafe requests also "
        "send X-CSRF-Token.",
    },
    "password": {"type": "http", "scheme": "basic", "description": "Name and password; to make the first token."},
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """Builds the document once and keeps it in ``app.openapi_schema``."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title="Perdure",
        version=app.version,
        description="Lists are paged by `next`; errors are problem documents (RFC 9457) with a stable `code`.",
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                _complete(path, method, operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    app.openapi_schema = document
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, response in list(responses.items()):
        content = response.get("content", {})
        if status == "422" and "HTTPValidationError" in str(content):
            del responses[status]
        elif PROBLEM_JSON in content:
            # FastAPI adds the model under application/json as well; errors never come as that.
            response["content"] = {PROBLEM_JSON: content[PROBLEM_JSON]}
    if "401" in responses and (path, method) != ("/api/v1/sessions", "post"):
        operation["security"] = [{"token": []}, {"session": []}]
        if (path, method) == ("/api/v1/tokens", "post"):
            operation["security"].append({"password": []})
