"""Git over smart HTTP (gitprotocol-http(5)) at ``/{owner}/{name}.git``.

Plain ASGI endpoints: packs of gigabytes pass through them, so nothing between the server and the git process may
buffer. Errors are answered here, because git shows plain text only.
"""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from api.protocols.git.answers import in_plain_text
from api.protocols.git.bodies import ClientGone
from api.protocols.git.callers import caller_who
from api.protocols.git.fetching import RECEIVE_PACK, UPLOAD_PACK, list_refs, send_objects
from api.protocols.git.pushing import take_push
from api.requests import request_id_of
from api.services import Services
from domain.access.permissions import Permission
from domain.errors import InvalidInput, NotFound, PerdureError

logger = logging.getLogger(__name__)

PERMISSIONS = {UPLOAD_PACK: Permission.PROJECT_READ, RECEIVE_PACK: Permission.PROJECT_WRITE}

Handler = Callable[[Request, Send, Services], Awaitable[None]]


class GitEndpoint:
    """One address of the protocol as an ASGI application.

    Args:
        handler: Answers, or raises a ``PerdureError`` before its answer has begun.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        services: Services = scope["app"].state.services
        begun = False

        async def send_noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._handler(request, send_noting, services)
        except ClientGone:
            logger.info("a git client went away: %s %s", scope["method"], scope["path"])
        except PerdureError as error:
            if begun:
                # The head is out: only a broken connection tells git that this is not all.
                raise
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                logger.warning("git request %s failed", request_id_of(scope), exc_info=True)
            await in_plain_text(error, request_id_of(scope))(scope, receive, send)


async def _info_refs(request: Request, send: Send, services: Services) -> None:
    service = request.query_params.get("service", "")
    if service not in PERMISSIONS:
        await caller_who(request, services, Permission.PROJECT_READ)
        raise InvalidInput(
            "Only git's smart HTTP protocol is spoken here: the services git-upload-pack and git-receive-pack. "
            "Use git 1.6.6 or newer."
        )
    caller = await caller_who(request, services, PERMISSIONS[service])
    await list_refs(request, send, services, caller, service)


async def _upload_pack(request: Request, send: Send, services: Services) -> None:
    _check_media_type(request, UPLOAD_PACK)
    caller = await caller_who(request, services, Permission.PROJECT_READ)
    await send_objects(request, send, services, caller)


async def _receive_pack(request: Request, send: Send, services: Services) -> None:
    _check_media_type(request, RECEIVE_PACK)
    caller = await caller_who(request, services, Permission.PROJECT_WRITE)
    await take_push(request, send, services, caller)


async def _anything_else(request: Request, _send: Send, services: Services) -> None:
    await caller_who(request, services, Permission.PROJECT_READ)
    raise NotFound("Files of a repository are not served one by one (git's dumb protocol); use git 1.6.6 or newer.")


async def _without_suffix(request: Request, send: Send, _services: Services) -> None:
    """``git clone .../owner/name`` works too: git follows this and stays there."""
    path = "/{owner}/{name}.git/info/refs".format(**request.path_params)
    query = f"?{request.url.query}" if request.url.query else ""
    await RedirectResponse(path + query, status_code=301)(request.scope, request.receive, send)


def _check_media_type(request: Request, service: str) -> None:
    wanted = f"application/x-{service}-request"
    if request.headers.get("content-type", "").split(";")[0].strip() != wanted:
        raise InvalidInput(f"This is git's own address; its requests have the content type {wanted}.")


def _route(path: str, handler: Handler, method: str) -> Route:
    return Route(path, GitEndpoint(handler), methods=[method], include_in_schema=False)


router = APIRouter()
router.routes.extend(
    (
        _route("/{owner}/{name}.git/info/refs", _info_refs, "GET"),
        _route("/{owner}/{name}.git/git-upload-pack", _upload_pack, "POST"),
        _route("/{owner}/{name}.git/git-receive-pack", _receive_pack, "POST"),
        _route("/{owner}/{name}.git/{rest:path}", _anything_else, "GET"),
        _route("/{owner}/{name}/info/refs", _without_suffix, "GET"),
    )
)
