"""API tokens."""

import secrets
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.credentials import basic_credentials
from api.dependencies import ActorDep, ServicesDep, authenticate
from api.errors import problems
from api.pagination import CursorQuery, LimitQuery, Listing, Page, newest_first, next_url
from api.sign_in import check_password
from database.engine import Session
from api.second_factor import CODE_LENGTH_MAX, HEADER, check_second_factor
from api.services import Services
from database.models.credentials import ApiToken
from database.store.access.rights import held_by
from database.store.access.tokens import NewToken, create_token, revoke_token, token_expiry, tokens_of
from database.store.projects import project_by_name
from domain.access.decide import decide
from domain.access.permissions import Permission
from domain.access.tokens import LIFETIME_DEFAULT, LIFETIME_MAX, RANDOM_SIZE_BYTES, format_token, hash_secret
from domain.actors import Actor
from domain.errors import InvalidInput, NotFound, PermissionMissing
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1", tags=["access"])

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


class Token(BaseModel):
    """An API token without its secret."""

    id: UUID
    name: str
    scopes: list[str]
    project_id: UUID | None
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(description="To the minute")


class NewTokenAnswer(Token):
    """A new API token with its secret, which is shown this once."""

    token: str = Field(description="`prd_...`; only its hash is kept, so it cannot be shown again")


async def token_maker(request: Request, services: ServicesDep) -> Actor:
    """Who asks for a token: a browser session or a token as everywhere, or HTTP Basic with name and password.

    A second factor comes in the header X-Second-Factor beside them.
    """
    basic = basic_credentials(request)
    if basic is not None:
        actor = await check_password(services, request, *basic)
        await check_second_factor(services, request, actor, request.headers.get(HEADER, "")[:CODE_LENGTH_MAX] or None)
        return actor
    _, grant = await authenticate(request, services)
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
    if "idempotency-key" in request.headers:
        raise InvalidInput(
            "A token cannot be made with an Idempotency-Key: the answer holds a secret and is not kept. Nothing was "
            "made; ask without the key, and revoke what you do not need.",
            code="idempotency_not_possible",
        )
    response.headers["cache-control"] = "no-store"
    secret = format_token(secrets.token_bytes(RANDOM_SIZE_BYTES))
    async with services.database.transaction() as session:
        project = None if body.project is None else await _readable_project(session, actor, body.project)
        new = NewToken(
            name=body.name,
            secret_hash=hash_secret(secret),
            scopes=frozenset(scope.value for scope in body.scopes),
            project_id=project.id if project else None,
            lifetime=timedelta(days=body.expires_in_days),
            not_after=None if actor.token_id is None else await token_expiry(session, actor.token_id),
        )
        _check_no_wider(actor, new)
        row = await create_token(session, actor, new)
    return NewTokenAnswer(token=secret, **_shown(row).model_dump())


async def _readable_project(session: Session, actor: Actor, full_name: str) -> ProjectView:
    owner, _, name = full_name.partition("/")
    project = await project_by_name(session, owner, name)
    if project is not None:
        held = await held_by(session, actor.subject_id, project.id)
        if decide(actor, Permission.PROJECT_READ, project.resource, held=held).allowed:
            return project
    raise NotFound(f"There is no project {full_name!r}, or you may not see it. Write it as owner/name.")


def _check_no_wider(actor: Actor, new: NewToken) -> None:
    """A token makes no token that is good for more than itself."""
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
    return Page(items=[_shown(row) for row in page], next=next_url(request, following))


@router.delete(
    "/tokens/{token_id}", status_code=204, summary="Revoke an API token", responses=problems(400, 401, 403, 404)
)
async def delete_token(token_id: UUID, actor: ActorDep, services: ServicesDep) -> None:
    """Ends a token of yours at once; a token may end itself and those that are not wider than it."""
    async with services.database.transaction() as session:
        revoked = await revoke_token(session, actor, token_id)
    if not revoked:
        raise NotFound("You have no such token, or it was revoked before.")


def _shown(row: ApiToken) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        project_id=row.project_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
