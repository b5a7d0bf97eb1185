"""API tokens of agents and services, made and listed by who answers for them or administers users."""

from fastapi import APIRouter, Request, Response

from api.dependencies import CallerDep, ServicesDep
from api.errors import problems
from api.managing import managed
from api.pagination import CursorQuery, LimitQuery, Page, next_url
from api.proof import check_session_proof
from api.routes.access.tokens import (
    TOKENS,
    NewTokenAnswer,
    Token,
    TokenRequest,
    made_token,
    refuse_to_repeat,
    shown_token,
)
from api.routes.access.users import NameOfUser
from api.strict_route import StrictRoute
from database.store.access.tokens import tokens_of
from domain.access.permissions import Permission
from domain.audit.actions import AuditAction
from domain.errors import Conflict

router = APIRouter(prefix="/api/v1/users", tags=["access"], route_class=StrictRoute)


@router.post(
    "/{name}/tokens",
    status_code=201,
    summary="Make a token for an agent or a service",
    responses=problems(400, 401, 403, 404, 409, 413),
)
async def post_token_of_user(
    *,
    name: NameOfUser,
    body: TokenRequest,
    request: Request,
    response: Response,
    caller: CallerDep,
    services: ServicesDep,
) -> NewTokenAnswer:
    """Makes a token with which the agent or service acts, and shows it once. People make their own."""
    refuse_to_repeat(request)
    response.headers["cache-control"] = "no-store"
    actor, identity = await managed(services, caller, name, AuditAction.TOKEN_CREATE)
    await check_session_proof(services, request, actor)
    if identity.kind == "user":
        raise Conflict(
            "Nobody makes tokens for other people: whoever knows such a token could act as them. Nothing was made; "
            "they can make one themselves.",
            code="token_of_a_person",
        )
    if not identity.is_active:
        raise Conflict(f"{identity.name} is deactivated. Nothing was made.", code="user_inactive")
    return await made_token(services, actor, body, owner_id=identity.id)


@router.get("/{name}/tokens", summary="List a user's tokens", responses=problems(400, 401, 403, 404))
async def get_tokens_of_user(
    *,
    name: NameOfUser,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[Token]:
    """The tokens of somebody whom you manage that are not revoked, newest first."""
    before = TOKENS.place(services.secret_key, cursor)
    actor, identity = await managed(services, caller, name, Permission.ADMIN_USERS, by_itself=True)
    async with services.database.transaction() as session:
        rows = await tokens_of(session, actor, owner_id=identity.id, before=before, limit=limit + 1)
    page, following = TOKENS.cut(services.secret_key, rows, limit)
    return Page(items=[shown_token(row) for row in page], next=next_url(request, following))
