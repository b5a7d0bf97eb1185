"""The one place where errors become answers: RFC 9457 problem documents, or a page for a person with a browser.

Handlers raise ``domain.errors`` and never catch. What nobody foresaw is logged with the request's id and answered
as a 500 that shows the id and nothing else.
"""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from api.refusals import write_down
from api.rendering import render
from api.requests import login_url, proof_url, request_id_of, wants_html
from domain.access.permissions import EVERYTHING
from domain.errors import (
    InvalidInput,
    NotFound,
    PerdureError,
    ProofRequired,
    RangeNotSatisfiable,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


class Problem(BaseModel):
    """An error as RFC 9457 lays it out. Programs look at ``code``; ``detail`` is for people."""

    type: str = Field(description="`urn:perdure:problem:` and the code", examples=["urn:perdure:problem:not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; what programs may branch on")
    request_id: str = Field(description="Also in the X-Request-Id header and in the server's log")
    details: dict[str, Any] = Field(description="Structured facts, depending on the code")


_STATUS_NOTES = {
    400: "Not valid; `details.errors` points at each place",
    401: "No credential, or one that is unknown, expired or revoked",
    403: "A permission is missing; `details.permission` names it",
    404: "Does not exist, or is not for you to see",
    409: "Not possible in the present state",
    413: "Over a limit that is named",
    416: "No such range",
    422: "Understood, but cannot be done",
    429: "Too many requests; `Retry-After` says when to come back",
    503: "A part of the platform is not reachable; `Retry-After` says when to come back",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these errors; 503 is always among them."""
    return {
        status: {
            "model": Problem,
            "description": _STATUS_NOTES[status],
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 503})
    }


def answer(connection: HTTPConnection, error: PerdureError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error, as a page or as a problem document."""
    sent = dict(headers or {})
    if isinstance(error, TooManyRequests | Unavailable):
        sent["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated) and not wants_html(connection):
        sent.setdefault("www-authenticate", 'Bearer realm="perdure"')
    request_id = request_id_of(connection.scope)
    if wants_html(connection):
        reading = connection.scope["method"] in ("GET", "HEAD")
        if isinstance(error, Unauthenticated) and reading:
            return RedirectResponse(login_url(connection), status_code=303)
        if isinstance(error, ProofRequired) and error.details.get("how"):
            # 307 makes the browser send the form on to the page that asks for the proof, which sends it back later.
            return RedirectResponse(proof_url(connection), status_code=303 if reading else 307)
        page = render(
            "access/error.html",
            status_code=error.status,
            title=error.title,
            message=error.message,
            request_id=request_id,
        )
        page.headers.update(sent)
        return page
    problem = Problem(
        type=f"urn:perdure:problem:{error.specific_code}",
        title=error.title,
        status=error.status,
        detail=error.message,
        code=error.specific_code,
        request_id=request_id,
        details=error.details,
    )
    # Half of a surrogate pair, which a caller may send in JSON, goes back escaped: JSON can say it and UTF-8 cannot.
    text = json.dumps(problem.model_dump(), ensure_ascii=False, separators=(",", ":"), default=str)
    body = text.encode(errors="backslashreplace")
    return Response(body, status_code=error.status, headers=sent, media_type=PROBLEM_JSON)


def unexpected(connection: HTTPConnection, error: BaseException) -> Response:
    """Logs what nobody foresaw and answers without a word about the inside."""
    logger.error(
        "request %s: %s %s failed",
        request_id_of(connection.scope),
        connection.scope["method"],
        connection.url.path,
        exc_info=error,
    )
    return answer(
        connection,
        PerdureError(
            "Something unforeseen happened and was written to the server's log under this request's id. "
            "Nothing that was not acknowledged was kept."
        ),
    )


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, PerdureError)  # noqa: S101  # registered for this class only
    try:
        await write_down(error)
    except PerdureError as away:
        # As for every other denial: without its row in the audit log, nothing is told.
        return answer(request, away)
    return answer(request, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    found = [_pointed(one) for one in error.errors()]
    told = "; ".join(f"{one['in']} {one['pointer']}: {one['message']}" for one in found)
    return answer(request, InvalidInput(f"The request is not valid: {told}", details={"errors": found}))


def _pointed(error: Mapping[str, Any]) -> dict[str, str]:
    """Where (RFC 6901 pointer) and what; the value itself is left out, it may be a password."""
    place, *path = (str(part) for part in error["loc"])
    if error["type"] == "json_invalid":
        path = []
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    told = error["msg"]
    if error["type"] == "enum" and error["input"] == EVERYTHING:
        told = f"{EVERYTHING} is the admin role's alone: no other role and no token has it, and nobody lends it"
    return {"in": place, "pointer": pointer, "message": str(told)}


class _Http(PerdureError):
    """What the framework itself refuses: an unknown path, a wrong method, a body that is no JSON."""

    retryable = False

    def __init__(self, status: int, message: str) -> None:
        phrase = HTTPStatus(status).phrase
        super().__init__(message, code=phrase.lower().replace(" ", "_").replace("-", "_"))
        self.status = status  # type: ignore[misc]  # here the status is the instance's, not the class's
        self.title = phrase  # type: ignore[misc]  # as above


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    known: PerdureError
    if error.status_code == HTTPStatus.NOT_FOUND:
        known = NotFound(f"There is nothing at {request.url.path}.")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        known = _Http(405, f"{request.method} is not possible here; possible: {allowed}.")
    elif error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        known = TooLarge(str(error.detail))
    elif error.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        known = RangeNotSatisfiable(str(error.detail))
    else:
        known = _Http(error.status_code, str(error.detail))
    return answer(request, known, error.headers)


def install(app: FastAPI) -> None:
    """Registers the translation."""
    app.add_exception_handler(PerdureError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
