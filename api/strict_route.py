"""Routes that refuse what they do not know: a misspelt filter that is ignored answers with everything."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from api.errors import problems
from domain.pipelines.problems import closest, quoted

TOLD_MAX = 5


class StrictRoute(APIRoute):
    """A route of the API that answers 400 to a query parameter that it has no use for."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # handed on to FastAPI
        named["responses"] = {**problems(400), **(named.get("responses") or {})}
        super().__init__(*arguments, **named)
        self.query_names = frozenset(_query_names(self.dependant))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Looks at the query before anything else.

        Raises:
            RequestValidationError: A parameter is unknown.
        """
        if scope["query_string"]:
            _refuse_unknown(QueryParams(scope["query_string"]).keys(), self.query_names)
        await super().handle(scope, receive, send)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _query_names(inner)


def _refuse_unknown(given: Iterable[str], known: frozenset[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RequestValidationError(
            [{"type": "unknown_parameter", "loc": ("query",), "msg": _told(name, known)} for name in unknown[:TOLD_MAX]]
        )


def _told(name: str, known: frozenset[str]) -> str:
    meant = closest(name, known)
    if meant is not None:
        return f"there is no query parameter {quoted(name)} here; did you mean {meant}?"
    possible = f"possible: {', '.join(sorted(known))}" if known else "this address takes none"
    return f"there is no query parameter {quoted(name)} here; {possible}"
