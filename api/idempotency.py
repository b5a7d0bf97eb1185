"""``Idempotency-Key`` on unsafe POSTs (draft-ietf-httpapi-idempotency-key-header): carried out once, answered often.

A handler does its change through ``Once.run``::

    async def post_thing(body: NewThing, caller: CallerDep, once: OnceDep) -> Response:
        async def change(session: Session) -> Thing: ...
        return await once.run(caller.actor, change)

What must follow the commit (starting a workflow) comes after ``run``; on a replay ``change`` is not called, and a
start that a crash prevented is made up for by the repair schedule.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.dependencies import ServicesDep
from api.services import Services
from database.engine import Session
from database.store.idempotency import KeptAnswer, claim, keep
from domain.actors import Actor
from domain.errors import InvalidInput

KEY_LENGTH_MAX = 255
REPLAYED_HEADER = "idempotency-replayed"


class KeyReused(InvalidInput):
    """The key was used for another request."""

    code = "idempotency_key_reused"
    status = 422
    title = "The Idempotency-Key belongs to another request"


class Once:
    """One unsafe request that may carry an ``Idempotency-Key``."""

    def __init__(self, services: Services, key: str | None, request_hash: str) -> None:
        self._services = services
        self._key = key
        self._request_hash = request_hash

    async def run(
        self, actor: Actor, change: Callable[[Session], Awaitable[BaseModel]], *, status: int = 201
    ) -> Response:
        """Carries ``change`` out in a transaction and answers with its result, or with the answer kept for the key.

        A change that raises leaves nothing behind, so the same key may be tried again.

        Raises:
            KeyReused: The key came with another request before.
            Conflict: The same request is being carried out now.
        """
        async with self._services.database.transaction() as session:
            if self._key is None:
                return _json((await change(session)).model_dump_json(), status)
            kept = await claim(session, actor.user_id, self._key)
            if kept is not None:
                if kept.request_hash != self._request_hash:
                    raise KeyReused(
                        "This Idempotency-Key was used for a different request within the last day; nothing was "
                        "changed. Make a new key for each new request."
                    )
                return _json(kept.body, kept.status, replayed=True)
            body = (await change(session)).model_dump_json()
            await keep(session, actor.user_id, self._key, KeptAnswer(self._request_hash, status, body))
        return _json(body, status)


def _json(body: str, status: int, *, replayed: bool = False) -> Response:
    headers = {REPLAYED_HEADER: "true"} if replayed else None
    return Response(body, status_code=status, headers=headers, media_type="application/json")


async def once_of(
    request: Request,
    services: ServicesDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=KEY_LENGTH_MAX,
            description="Any text that is unique to this request: repeated with the same body within a day it gives "
            "the first answer again instead of doing the work twice",
        ),
    ] = None,
) -> Once:
    """The dependency."""
    if idempotency_key is None:
        return Once(services, None, "")
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    return Once(services, idempotency_key, hashlib.sha256(asked).hexdigest())


def just_once(services: Services) -> Once:
    """For forms: browsers send no ``Idempotency-Key`` with them."""
    return Once(services, None, "")


OnceDep = Annotated[Once, Depends(once_of)]
