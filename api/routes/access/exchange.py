"""The token endpoint: a token is exchanged for a narrower one that somebody else may act with (RFC 8693).

Requests and errors are those of OAuth 2 (RFC 6749, sections 3.2 and 5.2), so that any client library works. The subject
token proves whose rights are asked for and the actor token who will act; nothing else does, so cookies and headers
are not looked at.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse

from api.dependencies import ServicesDep
from api.errors import problems
from api.requests import origin_of
from api.services import Services
from api.strict_route import StrictRoute
from database.engine import Session
from database.models.credentials import ApiToken
from database.store.access.exchange import Exchange, exchange_token, names_of
from database.store.access.requests import Credential, authorize
from database.store.access.rights import held_by
from database.store.audit import record
from database.store.projects import project_by_id, project_by_name
from domain.access.decide import decide
from domain.access.exchange import (
    ACCESS_TOKEN,
    BROWSER_SESSION,
    GRANT_TYPE,
    ExchangeRefused,
    chain_of,
    narrowed_scopes,
)
from domain.access.permissions import Permission
from domain.access.tokens import RANDOM_SIZE_BYTES, format_token, hash_secret, is_token
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

_FORM = "application/x-www-form-urlencoded"
_PROJECT = re.compile(r"[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}\Z")
_FIELDS: dict[str, Any] = {
    "grant_type": {"type": "string", "enum": [GRANT_TYPE]},
    "subject_token": {"type": "string", "description": "Whose rights the new token shall give"},
    "subject_token_type": {"type": "string", "enum": [ACCESS_TOKEN, BROWSER_SESSION]},
    "actor_token": {"type": "string", "description": "Who shall act with them; left out: who acted before"},
    "actor_token_type": {"type": "string", "enum": [ACCESS_TOKEN]},
    "scope": {
        "type": "string",
        "description": "Permissions, separated by blanks; left out: those of the subject token",
    },
    "audience": {"type": "string", "description": "`owner/name`, if it shall be good for one project only"},
    "resource": {"type": "string", "description": "The same as the address of the project's page"},
    "requested_token_type": {"type": "string", "enum": [ACCESS_TOKEN]},
    "expires_in": {"type": "integer", "minimum": 1, "description": "Seconds; left out: as long as the settings allow"},
}
_BODY = {
    "required": True,
    "content": {
        _FORM: {
            "schema": {
                "type": "object",
                "required": ["grant_type", "subject_token", "subject_token_type"],
                "properties": _FIELDS,
            }
        }
    },
}


class Act(BaseModel):
    """Who acts, and in whose place before (RFC 8693, section 4.1)."""

    sub: UUID
    name: str
    act: "Act | None" = None


class ExchangedToken(BaseModel):
    """The new token (RFC 8693, section 2.2.1), and the chain that it stands for."""

    access_token: str = Field(description="`prd_...`; only its hash is kept, so it cannot be shown again")
    issued_token_type: str = ACCESS_TOKEN
    token_type: str = "Bearer"  # noqa: S105  # the name of a scheme
    expires_in: int = Field(description="Seconds")
    scope: str
    sub: UUID = Field(description="Whose rights it gives")
    act: Act | None = Field(description="Who acts with them; null: nobody else")
    audience: str | None = Field(description="The only project that it is good for")


class OAuthError(BaseModel):
    """An error as RFC 6749, section 5.2, lays it out."""

    error: str
    error_description: str


_REFUSAL: dict[int | str, dict[str, Any]] = {
    400: {"model": OAuthError, "description": "Not exchanged; `error` is a code of RFC 6749 or RFC 8693"}
}


@router.post(
    "/oauth/token",
    summary="Exchange a token",
    response_model=ExchangedToken,
    responses=problems(413) | _REFUSAL,
    openapi_extra={"requestBody": _BODY},
)
async def post_oauth_token(request: Request, services: ServicesDep) -> JSONResponse:
    """Gives a short-lived token that is not wider than the subject token and ends with it (RFC 8693)."""
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    try:
        answer = await _exchange(request, services)
    except ExchangeRefused as refusal:
        problem = OAuthError(error=refusal.error, error_description=refusal.description)
        return JSONResponse(problem.model_dump(), status_code=400, headers=headers)
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)


async def _exchange(request: Request, services: Services) -> ExchangedToken:
    fields = await _fields(request)
    if fields.get("grant_type") != GRANT_TYPE:
        raise ExchangeRefused("unsupported_grant_type", f"The one grant type here is {GRANT_TYPE}.")
    if fields.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise ExchangeRefused("invalid_request", f"Only tokens of type {ACCESS_TOKEN} are given.")
    subject = await _proven(request, services, fields, "subject", (ACCESS_TOKEN, BROWSER_SESSION))
    acting = None
    if "actor_token" in fields or "actor_token_type" in fields:
        acting = await _proven(request, services, fields, "actor", (ACCESS_TOKEN,))
    try:
        return await _exchanged(services, fields, subject, acting)
    except ExchangeRefused as refusal:
        async with services.database.transaction() as session:
            detail: dict[str, object] = {
                "answer": refusal.error,
                "reason": refusal.description,
                "acting": None if acting is None else str(acting.user_id),
            }
            await record(
                session, subject, AuditAction.TOKEN_EXCHANGE, "token", subject.token_id, outcome="denied", detail=detail
            )
        raise


async def _exchanged(
    services: Services, fields: Mapping[str, str], subject: Actor, acting: Actor | None
) -> ExchangedToken:
    scopes = narrowed_scopes(subject, fields.get("scope"))
    lifetime = _lifetime(fields.get("expires_in"), services.exchange_lifetime_max)
    wanted = _wanted_project(fields, services.public_url)
    secret = format_token(secrets.token_bytes(RANDOM_SIZE_BYTES))
    async with services.database.transaction() as session:
        project = await _project(session, subject, wanted)
        new = Exchange(subject, acting, hash_secret(secret), scopes, project.id if project else None, lifetime)
        token = await exchange_token(session, new)
        await session.refresh(token)
        chain = chain_of(subject, acting)
        names = await names_of(session, [chain.rights_of, chain.acting_id, *chain.on_behalf_of])
    return ExchangedToken(
        access_token=secret,
        expires_in=_seconds(token),
        scope=" ".join(token.scopes),
        sub=chain.rights_of,
        act=_act([chain.acting_id, *chain.on_behalf_of], chain.rights_of, names),
        audience=project.full_name if project else None,
    )


async def _fields(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ExchangeRefused("invalid_request", f"Send the parameters as {_FORM}.")
    form: FormData = await request.form()
    names = [name for name, _ in form.multi_items()]
    if len(names) != len(set(names)):
        twice = {name for name in names if names.count(name) > 1}
        code = "invalid_target" if twice <= {"audience", "resource"} else "invalid_request"
        raise ExchangeRefused(code, f"Given more than once: {', '.join(sorted(twice))[:200]}.")
    # An empty parameter is one that was left out (RFC 6749, section 3.2). Of a form of this type, all are texts.
    return {name: cast("str", value) for name, value in form.items() if value}


async def _proven(
    request: Request, services: Services, fields: Mapping[str, str], which: str, types: tuple[str, ...]
) -> Actor:
    """Who the subject token or the actor token speaks of."""
    secret, kind = fields.get(f"{which}_token"), fields.get(f"{which}_token_type")
    if secret is None or kind not in types:
        raise ExchangeRefused(
            "invalid_request", f"{which}_token and {which}_token_type ({' or '.join(types)}) are needed."
        )
    grant = None
    if kind == BROWSER_SESSION or is_token(secret):
        credential = Credential("session" if kind == BROWSER_SESSION else "token", hash_secret(secret))
        grant = await authorize(services.database, credential, rights=services.rights, origin=origin_of(request))
    if grant is None:
        raise ExchangeRefused("invalid_request", f"The {which} token is unknown, expired or revoked.")
    if grant.actor.token_id is not None:
        services.token_uses.note(grant.actor.token_id, grant.actor.origin.ip)
    return grant.actor


def _lifetime(asked: str | None, longest: timedelta) -> timedelta:
    if asked is None:
        return longest
    seconds = int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 0
    if not 0 < seconds <= longest.total_seconds():
        raise ExchangeRefused(
            "invalid_request", f"expires_in is a whole number of seconds from 1 to {int(longest.total_seconds())}."
        )
    return timedelta(seconds=seconds)


def _wanted_project(fields: Mapping[str, str], public_url: str) -> str | None:
    """``owner/name`` of the audience and of the resource, which must mean the same."""
    named = {
        fields[name].removeprefix(f"{public_url}/").removesuffix(".git")
        for name in ("audience", "resource")
        if name in fields
    }
    if len(named) > 1 or not all(_PROJECT.match(one) for one in named):
        raise ExchangeRefused("invalid_target", "Name one project, as owner/name or by the address of its page.")
    return next(iter(named), None)


async def _project(session: Session, subject: Actor, wanted: str | None) -> ProjectView | None:
    if wanted is None:
        return None if subject.project_id is None else await project_by_id(session, subject.project_id)
    owner, _, name = wanted.partition("/")
    project = await project_by_name(session, owner, name)
    if project is not None:
        held = await held_by(session, subject.subject_id, project.id)
        if decide(subject, Permission.PROJECT_READ, project.resource, held=held).allowed:
            return project
    raise ExchangeRefused("invalid_target", f"There is no project {wanted!r}, or the subject token may not see it.")


def _seconds(token: ApiToken) -> int:
    assert token.expires_at is not None  # noqa: S101  # every exchanged token ends
    return int((token.expires_at - token.created_at).total_seconds())


def _act(chain: list[UUID], rights_of: UUID, names: Mapping[UUID, str]) -> Act | None:
    """The actors, the present one outermost; whose rights they use is not one of them."""
    act = None
    for one in reversed(chain if chain[-1] != rights_of else chain[:-1]):
        act = Act(sub=one, name=names[one], act=act)
    return act
