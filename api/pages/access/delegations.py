"""Rights that one lends and is lent, with the time left."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.pages.more import more_url
from api.pagination import CursorQuery
from api.proof import ProvenSessionDep, SessionDep
from api.rendering import render
from api.routes.access.delegations import GRANTS, lend_for, readable_project, take_back_for, user_id_of
from api.routes.access.organizations import UsersAdmin
from api.routes.access.users import NameOfUser
from api.services import Services
from database.store.access.lent import LentGrant, lent_by_or_to
from domain.access.delegations import REASON_LENGTH_MAX, REDELEGATIONS_MAX, Offer
from domain.access.permissions import DESCRIPTIONS, Permission
from domain.actors import Actor
from domain.errors import Conflict, InvalidInput, NotFound, PermissionMissing

router = APIRouter(include_in_schema=False)

HERE = "/me/delegations"
LENT = "/people/{name}/delegations"
SHOWN_MAX = 100
HOURS_MAX = 24 * 366


@dataclass(frozen=True, slots=True)
class Typed:
    """What was filled into the form to lend."""

    to: str = ""
    permissions: tuple[Permission, ...] = ()
    hours: int = 8
    project: str = ""
    redelegations: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lists:
    """What somebody lends and was lent, a page of each.

    Attributes:
        more_given, more_received: Where the next page of each list is.
        all_given, all_received: Whether these are all of it.
    """

    given: tuple[LentGrant, ...]
    received: tuple[LentGrant, ...]
    more_given: str | None
    more_received: str | None
    all_given: bool
    all_received: bool


@dataclass(frozen=True, slots=True)
class DelegationsPage:
    """What ``access/delegations.html`` shows.

    Attributes:
        typed: What was filled in before; shown again with ``error``, which says why it was refused.
    """

    frame: Frame
    lists: Lists
    typed: Typed
    permissions: tuple[tuple[Permission, str], ...] = tuple(DESCRIPTIONS.items())
    redelegations_max: int = REDELEGATIONS_MAX
    hours_max: int = HOURS_MAX
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LentPage:
    """What ``access/lent.html`` shows to administrators: the delegations of somebody.

    Attributes:
        name: Whose.
        error: Why the last attempt was refused.
    """

    frame: Frame
    name: str
    lists: Lists
    error: str | None = None


async def _lists(
    services: Services, actor: Actor, user_id: UUID, here: str, *, given: str | None, received: str | None
) -> Lists:
    """The two lists of the page at ``here``, which begin at the cursors ``given`` and ``received``."""
    key = services.secret_key
    places = GRANTS.place(key, given), GRANTS.place(key, received)
    async with services.database.transaction() as session:
        rows = [
            await lent_by_or_to(session, actor, user_id, "given", before=places[0], limit=SHOWN_MAX + 1),
            await lent_by_or_to(session, actor, user_id, "received", before=places[1], limit=SHOWN_MAX + 1),
        ]
    (lent, after_lent), (had, after_had) = (GRANTS.cut(key, some, SHOWN_MAX) for some in rows)
    return Lists(
        given=tuple(lent),
        received=tuple(had),
        more_given=more_url(here, after_lent, parameter="given", received=received),
        more_received=more_url(here, after_had, parameter="received", given=given),
        all_given=given is None and after_lent is None,
        all_received=received is None and after_had is None,
    )


async def _shown(
    services: Services,
    caller: Caller,
    *,
    given: str | None = None,
    received: str | None = None,
    typed: Typed | None = None,
    refused: Refusal | None = None,
) -> Response:
    page = DelegationsPage(
        frame=frame_for(services, caller, section="account"),
        lists=await _lists(services, caller.actor, caller.actor.user_id, HERE, given=given, received=received),
        typed=typed or Typed(),
        error=refused.message if refused else None,
    )
    status_code = refused.status if refused else 200
    return render("access/delegations.html", status_code=status_code, page=page, frame=page.frame)


@router.get(HERE, summary="Rights lent and received")
async def get_delegations(
    caller: SessionDep, services: ServicesDep, given: CursorQuery = None, received: CursorQuery = None
) -> Response:
    """What you lend to whom, and what you were lent, with the time left."""
    return await _shown(services, caller, given=given, received=received)


@router.post(HERE, summary="Lend permissions")
async def post_delegation(
    *,
    caller: ProvenSessionDep,
    services: ServicesDep,
    to: Annotated[str, Form(min_length=1, max_length=64)],
    permissions: Annotated[list[Permission] | None, Form()] = None,
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
            permissions=frozenset(permissions or ()),
            project_id=None if where is None else where.id,
            expires_at=datetime.now(UTC) + timedelta(hours=hours),
            redelegations=redelegations,
            reason=reason.strip() or None,
        )
        await lend_for(services, caller.actor, to.strip(), offer)
    except (NotFound, InvalidInput, PermissionMissing, Conflict) as refused:
        typed = Typed(to, tuple(permissions or ()), hours, project, redelegations, reason)
        return await _shown(services, caller, typed=typed, refused=refused)
    return RedirectResponse(HERE, status_code=303)


@router.post(f"{HERE}/{{grant_id}}/take-back", summary="Take a delegation back")
async def post_end(grant_id: UUID, caller: SessionDep, services: ServicesDep) -> Response:
    """Ends it at once, with all that was lent on from it."""
    try:
        await take_back_for(services, caller.actor, grant_id, as_admin=False)
    except NotFound as refused:
        return await _shown(services, caller, refused=refused)
    return RedirectResponse(HERE, status_code=303)


@router.get(LENT, summary="Rights that somebody lends and was lent")
async def get_lent(
    name: NameOfUser,
    caller: UsersAdmin,
    services: ServicesDep,
    given: CursorQuery = None,
    received: CursorQuery = None,
) -> Response:
    """What somebody lends to whom, and what they were lent, with the time left."""
    return await _lent(services, caller, name, given=given, received=received)


async def _lent(
    services: Services,
    caller: Caller,
    name: str,
    *,
    given: str | None = None,
    received: str | None = None,
    refused: Refusal | None = None,
) -> Response:
    user_id, here = await user_id_of(services, name), LENT.format(name=name)
    page = LentPage(
        frame=frame_for(services, caller, section="people"),
        name=name,
        lists=await _lists(services, caller.actor, user_id, here, given=given, received=received),
        error=refused.message if refused else None,
    )
    return render("access/lent.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


@router.post(f"{LENT}/{{grant_id}}/take-back", summary="Take a delegation of somebody back")
async def post_lent_end(name: NameOfUser, grant_id: UUID, caller: UsersAdmin, services: ServicesDep) -> Response:
    """Ends it at once, with all that was lent on from it, whoever lent it."""
    refused = await refusal_of(take_back_for(services, caller.actor, grant_id, as_admin=True))
    if refused is not None:
        return await _lent(services, caller, name, refused=refused)
    return RedirectResponse(LENT.format(name=name), status_code=303)
