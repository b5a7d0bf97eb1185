"""Rights that one lends and is lent, with the time left."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.pages.frame import Frame, frame_for
from api.proof import ProvenSessionDep, SessionDep
from api.rendering import render
from api.routes.access.delegations import lend_for, readable_project, take_back_for
from api.services import Services
from database.store.access.lent import LentGrant, lent_by_or_to
from domain.access.delegations import REASON_LENGTH_MAX, REDELEGATIONS_MAX, Offer
from domain.access.permissions import DESCRIPTIONS, Permission
from domain.errors import Conflict, InvalidInput, NotFound, PermissionMissing

router = APIRouter(include_in_schema=False)

HERE = "/me/delegations"
SHOWN_MAX = 100
HOURS_MAX = 24 * 366


@dataclass(frozen=True, slots=True)
class DelegationsPage:
    """What ``access/delegations.html`` shows; ``error`` says why the last attempt was refused."""

    frame: Frame
    given: tuple[LentGrant, ...]
    received: tuple[LentGrant, ...]
    permissions: tuple[tuple[Permission, str], ...] = tuple(DESCRIPTIONS.items())
    redelegations_max: int = REDELEGATIONS_MAX
    hours_max: int = HOURS_MAX
    error: str | None = None


async def _shown(services: Services, caller: Caller, *, error: str | None = None, status_code: int = 200) -> Response:
    actor = caller.actor
    async with services.database.transaction() as session:
        given = await lent_by_or_to(session, actor, actor.user_id, "given", limit=SHOWN_MAX)
        received = await lent_by_or_to(session, actor, actor.user_id, "received", limit=SHOWN_MAX)
    page = DelegationsPage(
        frame=frame_for(services, caller, section="account"),
        given=tuple(given),
        received=tuple(received),
        error=error,
    )
    return render("access/delegations.html", status_code=status_code, page=page, frame=page.frame)


@router.get(HERE, summary="Rights lent and received")
async def get_delegations(caller: SessionDep, services: ServicesDep) -> Response:
    """What you lend to whom, and what you were lent, with the time left."""
    return await _shown(services, caller)


@router.post(HERE, summary="Lend permissions")
async def post_delegation(
    *,
    caller: ProvenSessionDep,
    services: ServicesDep,
    to: Annotated[str, Form(min_length=1, max_length=64)],
    permissions: Annotated[list[Permission], Form()],
    hours: Annotated[int, Form(ge=1, le=HOURS_MAX)],
    project: Annotated[str, Form(max_length=130)] = "",
    redelegations: Annotated[int, Form(ge=0, le=REDELEGATIONS_MAX)] = 0,
    reason: Annotated[str, Form(max_length=REASON_LENGTH_MAX)] = "",
) -> Response:
    """Lends, and leads back to the list; what is refused shows the form again."""
    try:
        name = project.strip() or None
        where = None if name is None else await readable_project(services, caller.actor, name)
        offer = Offer(
            permissions=frozenset(permissions),
            project_id=None if where is None else where.id,
            expires_at=datetime.now(UTC) + timedelta(hours=hours),
            redelegations=redelegations,
            reason=reason.strip() or None,
        )
        await lend_for(services, caller.actor, to.strip(), offer)
    except (NotFound, InvalidInput, PermissionMissing, Conflict) as refused:
        return await _shown(services, caller, error=refused.message, status_code=refused.status)
    return RedirectResponse(HERE, status_code=303)


@router.post(f"{HERE}/{{grant_id}}/take-back", summary="Take a delegation back")
async def post_end(grant_id: UUID, caller: SessionDep, services: ServicesDep) -> Response:
    """Ends it at once, with all that was lent on from it."""
    try:
        await take_back_for(services, caller.actor, grant_id, as_admin=False)
    except NotFound as refused:
        return await _shown(services, caller, error=refused.message, status_code=refused.status)
    return RedirectResponse(HERE, status_code=303)
