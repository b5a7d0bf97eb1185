"""The codec server of the Temporal UI and CLI: shows encrypted payloads to administrators.

The protocol is Temporal's (https://docs.temporal.io/production-deployment/data-encryption): a browser page of the UI,
so of another origin, posts ``{"payloads": [...]}`` as protobuf JSON and gets the same back, decoded. A payload does not
tell whose it is, so nothing less than administering users opens it. Only pages of the configured UI may read answers
(CORS), refusals among them, and a cookie counts only in requests that such a page, or one of ours, made.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from api.credentials import credential_of
from api.dependencies import Caller, ServicesDep, check_permission
from api.errors import problems
from api.requests import origin_of
from api.services import Services
from database.store.access.requests import authorize
from domain.access.decide import PLATFORM
from domain.access.permissions import Permission
from domain.errors import InvalidInput, PermissionMissing, Unauthenticated, Unavailable

PATH = "/api/v1/temporal/codec"
PREFLIGHT_SECONDS = 600

Step = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


class ReadableRoute(APIRoute):
    """Every answer may be read by the UI's pages, an error too: else they could not tell a person the reason."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the CORS headers to whatever is sent."""
        headers = _cors(Request(scope))

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await super().handle(scope, receive, send_readable)


router = APIRouter(prefix=PATH, tags=["temporal"], route_class=ReadableRoute)


async def require_reader(request: Request, services: ServicesDep) -> Caller:
    """Who may see any payload: administrators, from the Temporal UI, from here, or with a token.

    Raises:
        Unauthenticated: No good credential.
        PermissionMissing: The caller is no administrator, or a page of another origin asks with their cookie.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin not in (_ui_origin(services), services.public_url):
        raise PermissionMissing(
            f"This request was made by a page of {origin[:200]}, which is not the Temporal UI of this installation.",
            code="cross_origin",
        )
    credential = await credential_of(request, secure=services.secure_cookies, issuers=services.token_issuers)
    grant = await authorize(services.database, credential, rights=services.rights, origin=origin_of(request))
    if grant is None:
        raise Unauthenticated("The credential is unknown, expired or revoked.", code="invalid_credential")
    await check_permission(services, grant, Permission.ADMIN_USERS, PLATFORM)
    return Caller(grant.actor, grant.held)


require_reader.permission = Permission.ADMIN_USERS  # type: ignore[attr-defined]  # read by the sweep over the routes

ReaderDep = Annotated[Caller, Depends(require_reader)]


@router.post("/decode", summary="Decode payloads for the Temporal UI", responses=problems(400, 401, 403, 413))
async def decode(request: Request, services: ServicesDep, _: ReaderDep) -> Response:
    """Decrypts payloads of histories; those that are not ours come back as they are."""
    return await _converted(request, services, _codec(services).decode)


@router.post("/encode", summary="Encode payloads for the Temporal UI", responses=problems(400, 401, 403, 413))
async def encode(request: Request, services: ServicesDep, _: ReaderDep) -> Response:
    """Encrypts payloads that an operator typed, so that a workflow or signal can be started from the UI."""
    return await _converted(request, services, _codec(services).encode)


@router.options("/decode", include_in_schema=False)
@router.options("/encode", include_in_schema=False)
async def preflight() -> Response:
    """Tells a browser which pages may ask, before it asks (Fetch standard, CORS preflight); holds nothing secret."""
    headers = {
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization, content-type, x-namespace",
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    return Response(status_code=204, headers=headers)


async def _converted(request: Request, services: Services, step: Step) -> Response:
    namespace = request.headers.get("x-namespace", services.namespace)
    if namespace != services.namespace:
        raise InvalidInput(f"The namespace is {services.namespace!r} here, not {namespace[:100]!r}.")
    body = await request.body()
    try:
        asked = Parse(body, Payloads())
    except (ParseError, UnicodeDecodeError) as error:
        raise InvalidInput('Send {"payloads": [...]} as the JSON of temporal.api.common.v1.Payloads.') from error
    answer = MessageToJson(Payloads(payloads=await step(asked.payloads)), indent=None)
    return Response(answer, media_type="application/json", headers={"cache-control": "no-store"})


def _codec(services: Services) -> PayloadCodec:
    codec = services.temporal.data_converter.payload_codec
    if codec is None:
        raise Unavailable("This API was built without payload keys.", neighbour="temporal")
    return codec


def _cors(request: Request) -> dict[str, str]:
    """Lets the UI's pages read the answer, and nobody else's."""
    allowed = _ui_origin(request.app.state.services)
    if not allowed or request.headers.get("origin") != allowed:
        return {"vary": "origin"}
    return {
        "access-control-allow-origin": allowed,
        "access-control-allow-credentials": "true",
        "vary": "origin",
    }


def _ui_origin(services: Services) -> str:
    url = urlsplit(services.temporal_ui_url)
    return f"{url.scheme}://{url.netloc}" if url.netloc else ""
