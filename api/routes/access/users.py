"""People, agents and services: made, listed, changed, taken out of use and back."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.dependencies import Caller, CallerDep, ServicesDep, check_permission
from api.errors import problems
from api.idempotency import OnceDep
from api.mails import mailing, start_mail
from api.managing import NO_SUCH_USER, managed
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.proof import check_recent_proof
from api.services import Services
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.access.identities import (
    IdentityFilter,
    NewIdentity,
    change_identity,
    create_identity,
    deactivate,
    identities,
    identity_by_name,
    reactivate,
)
from database.store.access.mails import order_invitation
from domain.access.decide import PLATFORM
from domain.access.granting import check_in_own_name
from domain.access.identities import (
    EMAIL_LENGTH_MAX,
    IDENTITY_KINDS,
    NAME_LENGTH_MAX,
    Identity,
    IdentityKind,
    answers_for,
    check_email,
    check_responsible,
    manages_itself,
)
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput, NotFound
from domain.projects import DISPLAY_NAME_LENGTH_MAX

router = APIRouter(prefix="/api/v1/users", tags=["access"], route_class=StrictRoute)

USERS: Listing[Identity, str] = Listing("users", written=lambda one: (one.name,), read=lambda place: place[0])

NameOfUser = Annotated[str, Path(description="Login name", max_length=64)]


class UserRequest(BaseModel):
    """Somebody new. A person without a password is mailed an invitation: a link to set one."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64, description=f"Login name: 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and inner `-`")
    kind: IdentityKind = "user"
    display_name: str | None = Field(default=None, max_length=DISPLAY_NAME_LENGTH_MAX)
    email: str | None = Field(default=None, max_length=EMAIL_LENGTH_MAX, description="People need one")
    password: str | None = Field(
        default=None, max_length=PASSWORD_LENGTH_MAX, description="A first password for a person; else by mail"
    )
    responsible: str | None = Field(
        default=None, max_length=64, description="Who answers for an agent or a service; you, if left out"
    )


class UserChange(BaseModel):
    """What shall change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    display_name: str | None = Field(default=None, max_length=DISPLAY_NAME_LENGTH_MAX)
    email: str | None = Field(default=None, max_length=EMAIL_LENGTH_MAX, description="Must be verified anew")
    responsible: str | None = Field(default=None, max_length=64)


class PublicUser(BaseModel):
    """What everybody who is signed in may know of somebody whose name they know."""

    id: UUID
    name: str
    kind: IdentityKind
    display_name: str | None
    is_active: bool


class User(PublicUser):
    """Somebody, as those see them who manage them."""

    email: str | None
    email_verified_at: AwareDatetime | None
    has_password: bool
    responsible: str | None = Field(description="The person who answers for an agent or a service")
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Deactivated(BaseModel):
    """What ended with the deactivation; all zero if it had happened before."""

    sessions: int
    tokens: int = Field(description="With those that others used in their name, and what was exchanged from them")
    delegations: int = Field(description="Given and received, with what was lent on of them")
    answers_for: list[str] = Field(
        description="Agents and services still in use that need another responsible person, and new tokens if this one "
        "knew theirs"
    )


def public(identity: Identity) -> PublicUser:
    """What everybody may know."""
    return PublicUser.model_validate(identity, from_attributes=True)


def shown(identity: Identity) -> User:
    """What those see who manage it."""
    return User.model_validate(
        {
            **{name: getattr(identity, name) for name in User.model_fields if name != "responsible"},
            "responsible": identity.responsible_name,
        }
    )


@router.post(
    "",
    status_code=201,
    summary="Make a user",
    response_model=User,
    responses=problems(400, 401, 403, 409, 413, 422, 429),
)
async def post_user(
    body: UserRequest, request: Request, caller: CallerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Makes a person, if you administer users; or an agent or a service of your own, if you may run agents."""
    actor = await _maker(services, caller, body)
    email = None if body.email is None else check_email(body.email)
    password_hash = await _first_password(services, request, body, email)
    invitations: list[UUID] = []

    async def change(session: Session) -> User:
        responsible = await _responsible(session, actor, body)
        new = NewIdentity(
            name=body.name,
            kind=body.kind,
            display_name=body.display_name,
            email=email,
            password_hash=password_hash,
            responsible_id=responsible.id if responsible else None,
        )
        made = await create_identity(session, actor, new)
        if email is not None and body.kind == "user" and password_hash is None:
            invitations.append(await order_invitation(session, actor, made.id, email, services.secret_key))
        return shown(made)

    answer = await once.run(actor, change)
    for mail_id in invitations:
        await start_mail(services, mail_id)
    return answer


async def _maker(services: Services, caller: Caller, body: UserRequest) -> Actor:
    """Who makes it, if they may."""
    own = body.kind != "user" and body.responsible in (None, caller.actor.name)
    if own and not caller.may(Permission.ADMIN_USERS):
        actor = await check_permission(services, caller, Permission.AGENT_RUN, PLATFORM)
        check_in_own_name(actor)
        return actor
    return await check_permission(services, caller, Permission.ADMIN_USERS, PLATFORM)


async def _first_password(services: Services, request: Request, body: UserRequest, email: str | None) -> str | None:
    if body.kind == "user" and email is None:
        raise InvalidInput(
            "A person needs an e-mail address: forgotten passwords are set by mail.", code="email_needed"
        )
    if body.password is None:
        return None
    if body.kind != "user":
        raise InvalidInput("Agents and services sign in with tokens, not with passwords.", code="password_not_possible")
    if "idempotency-key" in request.headers:
        raise InvalidInput(
            "With a password in it the request cannot carry an Idempotency-Key: a trace of it would be kept. Nothing "
            "was made; ask without the key.",
            code="idempotency_not_possible",
        )
    about = (body.name, body.display_name or "", email or "")
    return await services.passwords.hash_new(body.password, about=about)


async def _responsible(session: Session, actor: Actor, body: UserRequest) -> Identity | None:
    named = body.responsible
    if named is None and body.kind != "user":
        named = actor.name
    found = None if named is None else await identity_by_name(session, named)
    if named is not None and found is None:
        raise NotFound(NO_SUCH_USER, code="no_such_user")
    check_responsible(body.kind, found)
    return found


@router.get("", summary="List users", responses=problems(400, 401))
async def get_users(
    *,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    kind: Annotated[IdentityKind | None, Query(description="Only people, agents or services")] = None,
    active: Annotated[Literal["yes", "no", "both"], Query(description="In use, deactivated, or both")] = "both",
    prefix: Annotated[str, Query(max_length=64, description="How the name begins")] = "",
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[User | PublicUser]:
    """Everybody, by name, for administrators of users; for others themselves and whom they answer for."""
    after = USERS.place(services.secret_key, cursor)
    which = IdentityFilter(
        kinds=IDENTITY_KINDS if kind is None else (kind,),
        is_active=None if active == "both" else active == "yes",
        prefix=prefix,
        managed_by=None if caller.may(Permission.ADMIN_USERS) else caller.actor.user_id,
    )
    async with services.database.transaction() as session:
        rows = await identities(session, which, after=after, limit=limit + 1)
    page, following = USERS.cut(services.secret_key, rows, limit)
    return Page(items=[_as_seen_by(caller, one) for one in page], next=next_url(request, following))


@router.get("/{name}", summary="Read a user", responses=problems(400, 401, 404))
async def get_user(name: NameOfUser, caller: CallerDep, services: ServicesDep) -> User | PublicUser:
    """Somebody by their name: all that is known for those who manage them, the public part for others."""
    async with services.database.transaction() as session:
        identity = await identity_by_name(session, name)
    if identity is None or identity.kind == "organization":
        raise NotFound(NO_SUCH_USER, code="no_such_user")
    return _as_seen_by(caller, identity)


def _as_seen_by(caller: Caller, identity: Identity) -> User | PublicUser:
    actor = caller.actor
    manages = manages_itself(actor, identity) or answers_for(actor, identity) or caller.may(Permission.ADMIN_USERS)
    return shown(identity) if manages else public(identity)


@router.patch("/{name}", summary="Change a user", responses=problems(400, 401, 403, 404, 409, 413))
async def patch_user(
    name: NameOfUser, body: UserChange, request: Request, caller: CallerDep, services: ServicesDep
) -> User:
    """Changes the fields that are sent. People may change what they are called, in a browser session.

    Another e-mail address needs a recent proof, because a new password can be mailed there; one's own is changed by
    `PUT /api/v1/me/email`.
    """
    actor, identity = await managed(services, caller, name, AuditAction.USER_UPDATE, by_itself=True)
    if "email" in body.model_fields_set:
        if identity.id == actor.user_id:
            raise InvalidInput(
                "Change your own address with PUT /api/v1/me/email: it stays the old one until a mail to the new one "
                "was read. Nothing was changed.",
                code="own_email",
            )
        await check_recent_proof(services, request, actor)
    async with mailing(services) as session:
        changes = await _changes(session, identity, body)
        return shown(await change_identity(session, actor, identity, changes))


async def _changes(session: Session, identity: Identity, body: UserChange) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "display_name" in body.model_fields_set:
        changes["display_name"] = body.display_name
    if "email" in body.model_fields_set:
        if body.email is None and identity.kind == "user":
            raise InvalidInput(
                "A person needs an e-mail address: forgotten passwords are set by mail. Nothing was changed.",
                code="email_needed",
            )
        changes["email"] = None if body.email is None else check_email(body.email)
    if "responsible" in body.model_fields_set:
        found = None if body.responsible is None else await identity_by_name(session, body.responsible)
        check_responsible(identity.kind, found)
        changes["responsible_id"] = None if found is None else found.id
    return changes


@router.post(
    "/{name}/invitation",
    status_code=202,
    summary="Invite a user again",
    responses=problems(400, 401, 403, 404, 409),
)
async def post_invitation(name: NameOfUser, caller: CallerDep, services: ServicesDep) -> User:
    """Mails a new link to somebody who has set no password yet; links of before are void."""
    actor, identity = await managed(services, caller, name, AuditAction.USER_INVITE, by_responsible=False)
    if identity.kind != "user" or identity.email is None or identity.has_password or not identity.is_active:
        raise Conflict(
            f"{identity.name} cannot be invited: only people who are in use, have an address and have no password yet "
            "can. No mail was sent.",
            code="cannot_be_invited",
        )
    async with services.database.transaction() as session:
        mail_id = await order_invitation(session, actor, identity.id, identity.email, services.secret_key)
    await start_mail(services, mail_id)
    return shown(identity)


@router.post("/{name}/deactivation", summary="Deactivate a user", responses=problems(400, 401, 403, 404, 409))
async def post_deactivation(name: NameOfUser, caller: CallerDep, services: ServicesDep) -> Deactivated:
    """Takes somebody out of use at once, with their sessions, their tokens, and all that was lent by and to them."""
    actor, identity = await managed(services, caller, name, AuditAction.USER_DEACTIVATE)
    async with services.database.transaction() as session:
        ended = await deactivate(session, actor, identity)
    if ended is None:
        return Deactivated(sessions=0, tokens=0, delegations=0, answers_for=[])
    return Deactivated.model_validate(ended, from_attributes=True)


@router.post("/{name}/reactivation", summary="Reactivate a user", responses=problems(400, 401, 403, 404))
async def post_reactivation(name: NameOfUser, caller: CallerDep, services: ServicesDep) -> User:
    """Takes somebody into use again, with the roles they have; what ended with the deactivation stays ended.

    For administrators of users only: who answers for an agent does not undo what they decided.
    """
    actor, _ = await managed(services, caller, name, AuditAction.USER_REACTIVATE, by_responsible=False)
    async with services.database.transaction() as session:
        identity = await identity_by_name(session, name)
        if identity is None:
            raise NotFound(NO_SUCH_USER, code="no_such_user")
        await reactivate(session, actor, identity)
        again = await identity_by_name(session, name)
    if again is None:
        raise NotFound(NO_SUCH_USER, code="no_such_user")
    return shown(again)
