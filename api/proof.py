"""Step-up: dangerous actions ask again who it is when the last proof is too long ago.

A route that needs it wraps its own dependency::

    RolesAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_ROLES)))]

A program is answered 403 with the code ``proof_required``, proves itself at ``POST /api/v1/sessions/current/proof``
and asks again. A person is led to ``/me/proof`` and from there on to what they wanted, with what they had filled in.

An API token cannot prove anything: whoever has it, has it. So it may not do what needs a proof, unless the operator
says that tokens need none (``access.tokens_without_proof``), as for an installation that programs administer.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from api.dependencies import Caller, ProjectAccess, ServicesDep, current_caller
from api.second_factor import present_factors, ways_to_prove
from api.services import Services
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import PermissionMissing, ProofRequired

Found = TypeVar("Found", Caller, ProjectAccess)


def is_recently_proven(services: Services, actor: Actor) -> bool:
    """Whether the actor's last proof is young enough for a dangerous action."""
    if actor.kind == "system":
        return True
    if actor.token_id is not None or actor.proved_at is None:
        return services.tokens_without_proof
    return datetime.now(UTC) - actor.proved_at <= services.proof_lifetime


async def check_recent_proof(services: Services, request: Request, actor: Actor) -> None:
    """Lets a dangerous action through or asks for a new proof; an audit row tells of the attempt.

    Raises:
        ProofRequired: The last proof is too long ago, or the credential cannot prove anything;
            ``details['how']`` says what would count, and is empty where nothing does.
    """
    if is_recently_proven(services, actor):
        return
    is_session = actor.token_id is None and actor.session_id is not None
    how = ways_to_prove(await present_factors(services, actor.user_id)) if is_session else []
    async with services.database.transaction() as session:
        detail: dict[str, object] = {"answer": "proof_required", "route": f"{request.method} {request.url.path}"}
        await record(session, actor, AuditAction.PROOF_REQUIRED, "user", actor.user_id, outcome="denied", detail=detail)
    if not is_session:
        raise ProofRequired(
            "This needs a recent proof of who you are, and an API token cannot give one. Nothing was changed. Do it in "
            "the browser, or let the operator set access.tokens_without_proof.",
            details={"how": how},
        )
    minutes = int(services.proof_lifetime.total_seconds() // 60)
    raise ProofRequired(
        f"Your last proof of who you are is more than {minutes} min ago, and this needs a newer one. Nothing was "
        "changed. Prove it with POST /api/v1/sessions/current/proof, then ask again.",
        details={"how": how},
    )


async def check_session_proof(services: Services, request: Request, actor: Actor) -> None:
    """A recent proof for passing on what one has: a token, a loan, a place in a team.

    Somebody at a browser proves themselves; a token passes on nothing that is wider than itself, and its scopes say
    whether it may at all. Without this a browser left alone would make what outlives its session.

    Raises:
        ProofRequired: The last proof of the browser session is too long ago.
    """
    if actor.token_id is None and actor.session_id is not None:
        await check_recent_proof(services, request, actor)


def require_recent_proof(inner: Callable[..., Awaitable[Found]]) -> Callable[..., Awaitable[Found]]:
    """``inner`` (``require_platform(...)``, ``require_project(...)``, ``current_caller``), and a recent proof.

    Raises:
        ProofRequired: See ``check_recent_proof``; after everything that ``inner`` raises.
    """

    async def proven(
        request: Request, services: ServicesDep, found: Annotated[Caller | ProjectAccess, Depends(inner)]
    ) -> Found:
        await check_recent_proof(services, request, found.actor)
        return cast("Found", found)

    proven.needs_proof = True  # type: ignore[attr-defined]  # read by the route sweep
    return proven


async def current_session(caller: Annotated[Caller, Depends(current_caller)]) -> Caller:
    """Somebody at a browser, with all of their own rights: no token, and no session that was narrowed for an agent.

    Raises:
        PermissionMissing: It is something else (code ``session_needed``).
    """
    actor = caller.actor
    if actor.token_id is not None or actor.session_id is None or actor.scopes is not None:
        raise PermissionMissing(
            "This is only possible in a browser session of your own: an API token cannot change how you sign in. "
            "Nothing was changed.",
            code="session_needed",
        )
    return caller


SessionDep = Annotated[Caller, Depends(current_session)]
ProvenSessionDep = Annotated[Caller, Depends(require_recent_proof(current_session))]
