"""No refusal of somebody who is known goes unwritten: what no check of a permission has told, is told here.

Checks that know what was tried write their own row (``api/dependencies.py``, ``api/denials.py``, ``api/proof.py``) and
say so. Everything else that is refused for lack of a right (a forged form, a token where a browser is needed, ...) and
credentials that have ended pass by here.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from starlette.requests import Request

from api.credential_uses import EndedUses
from api.requests import origin_of
from database.engine import Database
from database.store.access.ended import ended_token
from database.store.access.requests import Credential
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import PerdureError, PermissionMissing


@dataclass(frozen=True, slots=True)
class Asking:
    """Who makes the present request, and what it is."""

    database: Database
    actor: Actor
    route: str


_ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)


def note_asking(database: Database, request: Request, actor: Actor) -> None:
    """Notes who makes the request that is being answered."""
    _ASKING.set(Asking(database, actor, _route(request)))


def _route(request: Request) -> str:
    # Not ``request.url``, which is put together anew, and this is noted for every request.
    return f"{request.method} {request.scope['path']}"


async def write_down(refusal: PerdureError) -> None:
    """Writes the audit row of a refusal that has none yet; of who is not known, there is nothing to write.

    Raises:
        Unavailable: The database does not answer.
    """
    asking = _ASKING.get()
    if asking is None or not isinstance(refusal, PermissionMissing) or refusal.is_audited:
        return
    refusal.is_audited = True
    actor = asking.actor
    detail: dict[str, object] = {"answer": refusal.specific_code, "route": asking.route, **refusal.details}
    async with asking.database.transaction() as session:
        await record(session, actor, AuditAction.REQUEST_REFUSE, "user", actor.user_id, outcome="denied", detail=detail)


async def write_down_ended(database: Database, uses: EndedUses, request: Request, credential: Credential) -> None:
    """Tells of the use of an API token that was good once; of one that never was, there is nothing to tell.

    Browser sessions end all the time without anybody's doing, and one that was ended is gone.
    """
    if credential.kind != "token" or not uses.is_news(credential.secret_hash):
        return
    async with database.transaction() as session:
        ended = await ended_token(session, credential.secret_hash)
        if ended is None:
            return
        actor = ended.actor.model_copy(update={"origin": origin_of(request)})
        detail: dict[str, object] = {"why": ended.why, "route": _route(request)}
        await record(
            session, actor, AuditAction.CREDENTIAL_REFUSE, "user", actor.user_id, outcome="denied", detail=detail
        )
