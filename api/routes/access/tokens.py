"""API tokens."""

import secrets
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.credentials import basic_credentials
from api.denials import audited_denials
from api.dependencies import ActorDep, Caller, CallerDep, ServicesDep, authenticate
from api.errors import problems
from api.mails import mailing
from api.managing import managed
from api.pagination import CursorQuery, LimitQuery, Listing, Page, newest_first, next_url
from api.proof import check_session_proof
from api.second_factor import CODE_LENGTH_MAX, HEADER, check_second_factor
from api.services import Services
from api.sign_in import check_password
from api.strict_route import StrictRoute
from database.engine import Session
from database.models.credentials import ApiToken
from database.store.access.identities import identity_by_id
from database.store.access.rights import held_by
from database.store.access.tokens import (
    NewToken,
    Rotation,
    create_token,
    revoke_token,
    rotate_token,
    token_by_id,
    token_expiry,
    tokens_of,
)
from database.store.projects import project_by_name
from domain.access.decide import decide
from domain.access.identities import answers_for
from domain.access.permissions import Permission
from domain.access.tokens import (
    LIFETIME_DEFAULT,
    LIFETIME_MAX,
    OVERLAP_DEFAULT,
    OVERLAP_MAX,
    RANDOM_SIZE_BYTES,
    format_token,
    hash_secret,
)
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput, NotFound, PermissionMissing
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

TOKENS: Listing[ApiToken, tuple[datetime, UUID]] = newest_first("tokens")


class TokenRequest(BaseModel):
    """What the new token shall be good for. A token that asks gets no more than it has itself."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="For people, to recognise it by")
    scopes: list[Permission] = Field(min_length=1, description="The permissions that it is narrowed to")
    project: str | None = Field(
        default=None, max_length=130, description="`owner/name`, if it shall be good for one project only"
    )
    expires_in_days: int = Field(default=LIFETIME_DEFAULT.days, ge=1, le=LIFETIME_MAX.days)
    renewable: bool = Field(
        default=False, description="Whether it may rotate itself and then lives as long again, without end"
    )


class RotationRequest(BaseModel):
    """How the token is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: int = Field(
        default=int(OVERLAP_DEFAULT.total_seconds() // 3600),
        ge=0,
        le=int(OVERLAP_MAX.total_seconds() // 3600),
        description="How long the old secret still works; 0 ends it at once",
    )


class Token(BaseModel):
    """An API token without its secret."""

    id: UUID
    name: str
    scopes: list[str]
    project_id: UUID | None
    renewable: bool
    acting_id: UUID | None = Field(description="Who acts with it, if it was exchanged; else its owner does")
    rotated_from: UUID | None = Field(description="The token that it replaced")
    created_by: UUID | None
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(description="To the minute")
    last_used_address: str | None = Field(description="From where")


class NewTokenAnswer(Token):
    """A new API token with its secret, which is shown this once."""

    token: str = Field(description="`prd_...`; only its hash is kept, so it cannot be shown again")


async def token_maker(request: Request, services: ServicesDep) -> Actor:
    """Who asks for a token: a browser session or a token as everywhere, or HTTP Basic with name and password.

    A second factor comes in the header X-Second-Factor beside them.

    Raises:
        PermissionMissing: A signed token of another issuer asks (code ``session_needed``): what is good for minutes
            must not become what is good for months.
    """
    basic = basic_credentials(request)
    if basic is not None:
        right = await check_password(services, request, *basic)
        await check_second_factor(services, request, right, request.headers.get(HEADER, "")[:CODE_LENGTH_MAX] or None)
        return right.actor
    credential, grant = await authenticate(request, services)
    if credential.kind == "external":
        raise PermissionMissing(
            "A signed token of another issuer makes no API tokens: they would outlive it. Nothing was made; use it as "
            "it is, or let somebody make the token who is signed in.",
            code="session_needed",
        )
    await check_session_proof(services, request, grant.actor)
    return grant.actor


@router.post(
    "/tokens", status_code=201, summary="Make an API token", responses=problems(400, 401, 403, 404, 413, 422, 429)
)
async def post_token(
    body: Annotated[TokenRequest, Body()],
    request: Request,
    response: Response,
    actor: Annotated[Actor, Depends(token_maker)],
    services: ServicesDep,
) -> NewTokenAnswer:
    """Makes a token and shows it once. Also accepts HTTP Basic with name and password, for the first token.

    ``Idempotency-Key`` is refused here: keeping the answer would mean keeping the secret.
    """
    refuse_to_repeat(request)
    response.headers["cache-control"] = "no-store"
    return await made_token(services, actor, body)


def refuse_to_repeat(request: Request) -> None:
    """Refuses an ``Idempotency-Key`` where the answer holds a secret.

    Raises:
        InvalidInput: The request carries one (code ``idempotency_not_possible``).
    """
    if "idempotency-key" in request.headers:
        raise InvalidInput(
            "A token cannot be made with an Idempotency-Key: the answer holds a secret and is not kept. Nothing was "
            "made; ask without the key, and revoke what you do not need.",
            code="idempotency_not_possible",
        )


async def made_token(
    services: Services, actor: Actor, body: TokenRequest, *, owner_id: UUID | None = None
) -> NewTokenAnswer:
    """Makes a token of the actor's own, or of an identity that it manages.

    Raises:
        NotFound: There is no such project, or the actor may not see it.
        PermissionMissing: The token would be wider than the one that asks, or would outlive what that one came from;
            an audit row tells of the attempt.
    """
    secret = format_token(secrets.token_bytes(RANDOM_SIZE_BYTES))
    async with (
        audited_denials(services, actor, AuditAction.TOKEN_CREATE, "token"),
        mailing(services) as session,
    ):
        _check_not_exchanged(actor)
        project = None if body.project is None else await _readable_project(session, actor, body.project)
        asking = None if actor.token_id is None else await token_by_id(session, actor.token_id)
        new = NewToken(
            name=body.name,
            secret_hash=hash_secret(secret),
            scopes=frozenset(scope.value for scope in body.scopes),
            project_id=project.id if project else None,
            lifetime=timedelta(days=body.expires_in_days),
            not_after=asking.expires_at if asking else None,
            user_id=owner_id,
            is_renewable=body.renewable,
        )
        _check_no_wider(actor, new, asking)
        row = await create_token(session, actor, new)
    return NewTokenAnswer(token=secret, **shown_token(row).model_dump())


async def _readable_project(session: Session, actor: Actor, full_name: str) -> ProjectView:
    owner, _, name = full_name.partition("/")
    project = await project_by_name(session, owner, name)
    if project is not None:
        held = await held_by(session, actor.subject_id, project.id)
        if decide(actor, Permission.PROJECT_READ, project.resource, held=held).allowed:
            return project
    raise NotFound(f"There is no project {full_name!r}, or you may not see it. Write it as owner/name.")


def _check_not_exchanged(actor: Actor) -> None:
    """A token of a token exchange ends with what it came from, however early that ends; another one would go on.

    And if another acts with it, that one's own token would have scopes that nobody gave to a token of its.
    """
    if actor.is_exchanged:
        raise PermissionMissing(
            "The token comes from a token exchange and ends with what it came from, so no API token is made or renewed "
            "with it. Nothing was made; exchange it again for a narrower one.",
            code="made_by_exchange",
        )


def _check_no_wider(actor: Actor, new: NewToken, asking: ApiToken | None) -> None:
    """A token makes no token that is good for more than itself, nor one that may outlive it by renewing itself."""
    if asking is not None and new.is_renewable and not asking.is_renewable:
        raise PermissionMissing(
            "The token that asks is not renewable, so the new one cannot be either.",
            code="scope_missing",
            details={"renewable": False},
        )
    if actor.scopes is not None and not new.scopes <= actor.scopes:
        missing = ", ".join(sorted(new.scopes - actor.scopes))
        raise PermissionMissing(
            f"The token that asks does not have the scopes {missing}, so the new one cannot have them either.",
            code="scope_missing",
            details={"scopes": sorted(new.scopes - actor.scopes)},
        )
    if actor.project_id is not None and new.project_id != actor.project_id:
        raise PermissionMissing(
            "The token that asks is good for one project only, so the new one must name that project.",
            code="scope_missing",
            details={"project_id": str(actor.project_id)},
        )


@router.get("/tokens", summary="List your API tokens", responses=problems(400, 401))
async def get_tokens(
    request: Request, actor: ActorDep, services: ServicesDep, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> Page[Token]:
    """Your tokens that are not revoked, newest first; asked with a token, only those that are not wider than it."""
    before = TOKENS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        rows = await tokens_of(session, actor, before=before, limit=limit + 1)
    page, following = TOKENS.cut(services.secret_key, rows, limit)
    return Page(items=[shown_token(row) for row in page], next=next_url(request, following))


@router.post(
    "/tokens/{token_id}/rotation",
    status_code=201,
    summary="Rotate an API token",
    responses=problems(400, 401, 403, 404, 409, 413),
)
async def post_rotation(
    *,
    token_id: UUID,
    body: RotationRequest,
    request: Request,
    response: Response,
    caller: CallerDep,
    services: ServicesDep,
) -> NewTokenAnswer:
    """Makes a token that is good for the same and shows it once; the old secret works until the overlap ends.

    The new one lives as long as the old one was made for, but a token that asks makes none that outlives it, unless it
    is renewable and rotates itself.
    """
    refuse_to_repeat(request)
    response.headers["cache-control"] = "no-store"
    actor, token = await _reachable(services, caller, token_id, AuditAction.TOKEN_ROTATE, yields_secret=True)
    async with audited_denials(services, actor, AuditAction.TOKEN_ROTATE, "token", token.id):
        _check_not_exchanged(actor)
    await check_session_proof(services, request, actor)
    secret = format_token(secrets.token_bytes(RANDOM_SIZE_BYTES))
    renews_itself = actor.token_id == token.id and token.is_renewable
    async with mailing(services) as session:
        asks_until = None
        if actor.token_id is not None and not renews_itself:
            asks_until = await token_expiry(session, actor.token_id)
        rotation = Rotation(hash_secret(secret), timedelta(hours=body.overlap_hours), asks_until)
        row = await rotate_token(session, actor, token, rotation)
    return NewTokenAnswer(token=secret, **shown_token(row).model_dump())


@router.delete(
    "/tokens/{token_id}", status_code=204, summary="Revoke an API token", responses=problems(400, 401, 403, 404)
)
async def delete_token(token_id: UUID, caller: CallerDep, services: ServicesDep) -> None:
    """Ends a token at once, with what was exchanged from it: yours, or one of somebody whom you manage.

    A token may end itself and those that are not wider than it.
    """
    actor, token = await _reachable(services, caller, token_id, AuditAction.TOKEN_REVOKE)
    async with services.database.transaction() as session:
        revoked = await revoke_token(session, actor, token_id, owner_id=token.user_id)
    if not revoked:
        raise NotFound(_NO_SUCH_TOKEN)


_NO_SUCH_TOKEN = "You have no such token, or it was revoked before."  # noqa: S105  # a message


async def _reachable(
    services: Services, caller: Caller, token_id: UUID, action: AuditAction, *, yields_secret: bool = False
) -> tuple[Actor, ApiToken]:
    """A token that the caller may change, and who acts then.

    Args:
        yields_secret: Whether the caller gets to know a secret by it: that of a person's token is theirs alone, and
            no credential gets a wider one.

    Raises:
        NotFound: There is none, or it is not the caller's and of nobody whom the caller manages.
        Conflict: It is a person's, and not the caller's (code ``token_of_a_person``).
    """
    async with services.database.transaction() as session:
        token = await token_by_id(session, token_id)
        owner = None if token is None else await identity_by_id(session, token.user_id)
    actor = caller.actor
    if token is None or owner is None:
        raise NotFound(_NO_SUCH_TOKEN)
    if token.id == actor.token_id or (owner.id == actor.user_id and _covers(actor, token)):
        return actor, token
    manages = owner.id != actor.user_id and (caller.may(Permission.ADMIN_USERS) or answers_for(actor, owner))
    if not manages or (yields_secret and not _covers(actor, token)):
        raise NotFound(_NO_SUCH_TOKEN)
    if yields_secret and owner.kind == "user":
        raise Conflict(
            "Nobody gets to know other people's tokens. Nothing was changed; revoke it, or let them rotate it.",
            code="token_of_a_person",
        )
    actor, _ = await managed(services, caller, owner.name, action)
    return actor, token


def _covers(actor: Actor, token: ApiToken) -> bool:
    """Whether the actor's credential is at least as wide as the token."""
    if actor.scopes is not None and not frozenset(token.scopes) <= actor.scopes:
        return False
    return actor.project_id is None or actor.project_id == token.project_id


def shown_token(row: ApiToken) -> Token:
    """A token as the API shows it."""
    return Token(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        project_id=row.project_id,
        renewable=row.is_renewable,
        acting_id=row.acting_id,
        rotated_from=row.rotated_from,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        last_used_address=None if row.last_used_ip is None else str(row.last_used_ip),
    )
