"""People, agents and services: the list, and a page of each."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.idempotency import just_once
from api.pages.access.refusals import Refusal, refusal_of
from api.pages.frame import Frame, frame_for
from api.pages.more import more_url
from api.pagination import CursorQuery
from api.proof import SessionDep
from api.rendering import render
from api.routes.access.bindings import BINDINGS, BindingRequest, ProvenRolesAdmin, delete_binding, post_binding
from api.routes.access.users import (
    NameOfUser,
    PublicUser,
    User,
    UserChange,
    UserRequest,
    get_user,
    get_users,
    patch_user,
    post_deactivation,
    post_invitation,
    post_reactivation,
    post_user,
)
from api.services import Services
from database.store.access.bindings import BindingFilter, BindingView, bindings
from database.store.access.roles import RoleView, roles
from domain.access.identities import EMAIL_LENGTH_MAX, IDENTITY_KINDS, IdentityKind
from domain.access.permissions import Permission
from domain.errors import NotFound
from domain.projects import DISPLAY_NAME_LENGTH_MAX

router = APIRouter(include_in_schema=False)

HERE = "/people"
SHOWN_MAX = 50
BINDINGS_SHOWN_MAX = 100
DAYS_MAX = 3660

FormName = Annotated[str, Form(max_length=64)]
FormTitle = Annotated[str, Form(max_length=DISPLAY_NAME_LENGTH_MAX)]
FormEmail = Annotated[str, Form(max_length=EMAIL_LENGTH_MAX)]
FormDays = Annotated[int | None, Form(ge=1, le=DAYS_MAX)]
Active = Literal["yes", "no", "both"]


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """What ``access/people.html`` shows.

    Attributes:
        next_url: Where the next page is.
        sees_all: Whether these are all that there are, or whom the reader answers for.
        kinds: What the reader may make.
        typed: What was filled in before; shown again with ``error``.
    """

    frame: Frame
    people: tuple[User | PublicUser, ...]
    next_url: str | None
    sees_all: bool
    kinds: tuple[IdentityKind, ...]
    filters: dict[str, str]
    typed: dict[str, str]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PersonPage:
    """What ``access/person.html`` shows.

    Attributes:
        is_managed: Whether the reader sees all that is known and may change it.
        is_self: Whether it is the reader.
        administers: Whether the reader administers users.
        binds: Whether the reader may give and take roles.
        next_url: Where the next page of the roles is.
        is_all: Whether these are all of them.
        error: Why the last attempt was refused.
    """

    frame: Frame
    user: User | PublicUser
    is_managed: bool
    is_self: bool
    administers: bool
    binds: bool
    bindings: tuple[BindingView, ...]
    next_url: str | None
    is_all: bool
    roles: tuple[RoleView, ...]
    days_max: int = DAYS_MAX
    error: str | None = None


def until(days: int | None) -> datetime | None:
    """The end of what is given for so many days."""
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


@router.get(HERE, summary="People, agents and services")
async def get_people(
    *,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    kind: Annotated[IdentityKind | Literal[""], Query()] = "",
    active: Annotated[Active, Query()] = "yes",
    prefix: Annotated[str, Query(max_length=64)] = "",
    cursor: Annotated[str | None, Query(max_length=1024)] = None,
) -> Response:
    """Everybody for administrators of users; for others themselves and whom they answer for."""
    return await _people(request, services, caller, kind=kind, active=active, prefix=prefix.strip(), cursor=cursor)


async def _people(
    request: Request,
    services: Services,
    caller: Caller,
    *,
    kind: IdentityKind | Literal[""] = "",
    active: Active = "yes",
    prefix: str = "",
    cursor: str | None = None,
    typed: dict[str, str] | None = None,
    refused: Refusal | None = None,
) -> Response:
    found = await get_users(
        request=request,
        caller=caller,
        services=services,
        kind=kind or None,
        active=active,
        prefix=prefix,
        cursor=cursor,
        limit=SHOWN_MAX,
    )
    sees_all = caller.may(Permission.ADMIN_USERS)
    kinds = IDENTITY_KINDS if sees_all else IDENTITY_KINDS[1:] if caller.may(Permission.AGENT_RUN) else ()
    page = PeoplePage(
        frame=frame_for(services, caller, section="people"),
        people=tuple(found.items),
        next_url=found.next,
        sees_all=sees_all,
        kinds=kinds,
        filters={"kind": kind, "active": active, "prefix": prefix},
        typed=typed or {},
        error=refused.message if refused else None,
    )
    return render("access/people.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


@router.post(HERE, summary="Make a person, an agent or a service")
async def post_person(
    *,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    name: FormName,
    kind: Annotated[IdentityKind, Form()],
    display_name: FormTitle = "",
    email: FormEmail = "",
    responsible: FormName = "",
) -> Response:
    """Makes somebody, and mails a person the invitation; what is refused shows the form again."""
    typed = {"name": name, "kind": kind, "display_name": display_name, "email": email, "responsible": responsible}
    body = UserRequest(
        name=name.strip(),
        kind=kind,
        display_name=display_name.strip() or None,
        email=email.strip() or None,
        responsible=responsible.strip() or None,
    )
    refused = await refusal_of(post_user(body, request, caller, services, just_once(services)))
    if refused is not None:
        return await _people(request, services, caller, typed=typed, refused=refused)
    return _to(body.name)


def _to(name: str) -> Response:
    return RedirectResponse(f"{HERE}/{name}", status_code=303)


@router.get(f"{HERE}/{{name}}", summary="A person, an agent or a service")
async def get_person(
    name: NameOfUser, caller: SessionDep, services: ServicesDep, cursor: CursorQuery = None
) -> Response:
    """What is known of somebody, and the roles that they hold for whoever may give roles."""
    return await _person(services, caller, name, cursor=cursor)


async def _person(
    services: Services, caller: Caller, name: str, *, cursor: str | None = None, refused: Refusal | None = None
) -> Response:
    """The page, with what was refused on it; of nobody there is none, so that refusal is all there is to show."""
    try:
        user = await get_user(name, caller, services)
    except NotFound:
        if refused is None:
            raise
        raise refused from None
    binds = caller.may(Permission.ADMIN_ROLES)
    before = BINDINGS.place(services.secret_key, cursor)
    rows: list[BindingView] = []
    known: list[RoleView] = []
    if binds:
        async with services.database.transaction() as session:
            which = BindingFilter(holder=user.name)
            rows = await bindings(session, which, before=before, limit=BINDINGS_SHOWN_MAX + 1)
            known = await roles(session)
    held, following = BINDINGS.cut(services.secret_key, rows, BINDINGS_SHOWN_MAX)
    page = PersonPage(
        frame=frame_for(services, caller, section="people"),
        user=user,
        is_managed=isinstance(user, User),
        is_self=user.id == caller.actor.user_id,
        administers=caller.may(Permission.ADMIN_USERS),
        binds=binds,
        bindings=tuple(held),
        next_url=more_url(f"{HERE}/{user.name}", following),
        is_all=cursor is None and following is None,
        roles=tuple(known),
        error=refused.message if refused else None,
    )
    return render("access/person.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)


async def _done(services: Services, caller: Caller, name: str, refused: Refusal | None) -> Response:
    return _to(name) if refused is None else await _person(services, caller, name, refused=refused)


@router.post(f"{HERE}/{{name}}/change", summary="Change a person, an agent or a service")
async def post_change(
    *,
    name: NameOfUser,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    display_name: Annotated[str | None, Form(max_length=DISPLAY_NAME_LENGTH_MAX)] = None,
    email: FormEmail = "",
    responsible: FormName = "",
) -> Response:
    """Changes what they are called, their address, who answers for them; a field that is left empty stays.

    Only what they are called can be emptied.
    """
    changes: dict[str, Any] = {"display_name": (display_name or "").strip() or None}
    if email.strip():
        changes["email"] = email.strip()
    if responsible.strip():
        changes["responsible"] = responsible.strip()
    body = UserChange(**changes)
    return await _done(services, caller, name, await refusal_of(patch_user(name, body, request, caller, services)))


@router.post(f"{HERE}/{{name}}/invite", summary="Invite a person again")
async def post_invite(name: NameOfUser, caller: SessionDep, services: ServicesDep) -> Response:
    """Mails a new link; the one before is void."""
    return await _done(services, caller, name, await refusal_of(post_invitation(name, caller, services)))


@router.post(f"{HERE}/{{name}}/deactivate", summary="Deactivate a person, an agent or a service")
async def post_deactivate(name: NameOfUser, caller: SessionDep, services: ServicesDep) -> Response:
    """Takes them out of use at once, with sessions, tokens and what was lent."""
    return await _done(services, caller, name, await refusal_of(post_deactivation(name, caller, services)))


@router.post(f"{HERE}/{{name}}/reactivate", summary="Reactivate a person, an agent or a service")
async def post_reactivate(name: NameOfUser, caller: SessionDep, services: ServicesDep) -> Response:
    """Takes them into use again; what ended stays ended."""
    return await _done(services, caller, name, await refusal_of(post_reactivation(name, caller, services)))


@router.post(f"{HERE}/{{name}}/roles", summary="Give a role")
async def post_role_of(
    *,
    name: NameOfUser,
    caller: ProvenRolesAdmin,
    services: ServicesDep,
    role: FormName,
    days: FormDays = None,
) -> Response:
    """Gives a role that is good everywhere, for some days or without an end."""
    body = BindingRequest(role=role, holder=name, expires_at=until(days))
    return await _done(
        services, caller, name, await refusal_of(post_binding(body, caller, services, just_once(services)))
    )


@router.post(f"{HERE}/{{name}}/roles/{{binding_id}}/take", summary="Take a role")
async def post_role_taken(
    name: NameOfUser, binding_id: UUID, caller: ProvenRolesAdmin, services: ServicesDep
) -> Response:
    """Takes a role that is good everywhere, at once."""
    return await _done(services, caller, name, await refusal_of(delete_binding(binding_id, caller, services)))
