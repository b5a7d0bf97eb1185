"""Who identities of ours are at other providers and issuers."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.dependencies import ActorDep, Caller, ServicesDep, require_platform
from api.errors import problems
from api.mails import mailing
from api.managing import managed
from api.proof import ProvenSessionDep, require_recent_proof
from api.services import Services
from api.strict_route import StrictRoute
from database.store.access.external import (
    ExternalIdentityView,
    external_identities_of,
    link_by_name,
    unlink_external,
)
from domain.access.claims import SUBJECT_LENGTH_MAX
from domain.access.permissions import Permission
from domain.audit.actions import AuditAction
from domain.errors import InvalidInput

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

ISSUER_LENGTH_MAX = 500

UsersAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_USERS))]
ProvenUsersAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_USERS)))]


class ExternalIdentity(BaseModel):
    """Who somebody is elsewhere."""

    id: UUID
    issuer: str
    subject: str
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None = Field(description="The last login through it; null for tokens")


class ExternalIdentities(BaseModel):
    """All of one identity, oldest link first."""

    items: list[ExternalIdentity]


class LinkRequest(BaseModel):
    """Whom an issuer's tokens speak of."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(min_length=1, max_length=ISSUER_LENGTH_MAX, description="As the settings name it")
    subject: str = Field(min_length=1, max_length=SUBJECT_LENGTH_MAX, description="The `sub` of its tokens")


@router.get("/me/external-identities", summary="Who you are elsewhere", responses=problems(401))
async def get_mine(actor: ActorDep, services: ServicesDep) -> ExternalIdentities:
    """Your accounts at providers and issuers. A new one is linked in the browser, by signing in there."""
    return await _listed(services, actor.user_id)


@router.delete(
    "/me/external-identities/{external_id}",
    status_code=204,
    summary="Unlink an account elsewhere",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_mine(external_id: UUID, caller: ProvenSessionDep, services: ServicesDep) -> None:
    """It signs you in no more; refused where it is the only way left."""
    async with mailing(services) as session:
        await unlink_external(
            session, caller.actor, caller.actor.user_id, external_id, usable_issuers=_login_issuers(services)
        )


@router.get(
    "/users/{name}/external-identities", summary="Who an identity is elsewhere", responses=problems(401, 403, 404)
)
async def get_theirs(name: str, caller: UsersAdmin, services: ServicesDep) -> ExternalIdentities:
    """The accounts of a person, an agent or a service at providers and issuers."""
    _, identity = await managed(services, caller, name, AuditAction.EXTERNAL_IDENTITY_READ)
    return await _listed(services, identity.id)


@router.post(
    "/users/{name}/external-identities",
    status_code=201,
    summary="Say who an identity is elsewhere",
    responses=problems(400, 401, 403, 404, 409),
)
async def post_theirs(
    name: str, body: Annotated[LinkRequest, Body()], caller: ProvenUsersAdmin, services: ServicesDep
) -> ExternalIdentities:
    """Links a subject of an issuer, so that its tokens, or its logins, are this identity's here."""
    if body.issuer not in {*_login_issuers(services), *services.token_issuers.names}:
        raise InvalidInput(
            "No provider and no issuer of that address is in the settings; nothing was linked. Write it character by "
            "character as it stands there.",
            code="unknown_issuer",
        )
    actor, identity = await managed(services, caller, name, AuditAction.EXTERNAL_IDENTITY_LINK)
    async with mailing(services) as session:
        await link_by_name(session, actor, identity.id, body.issuer, body.subject)
    return await _listed(services, identity.id)


@router.delete(
    "/users/{name}/external-identities/{external_id}",
    status_code=204,
    summary="Unlink an identity from elsewhere",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_theirs(name: str, external_id: UUID, caller: ProvenUsersAdmin, services: ServicesDep) -> None:
    """Its tokens and logins from there are nobody's here any more."""
    actor, identity = await managed(services, caller, name, AuditAction.EXTERNAL_IDENTITY_UNLINK)
    async with mailing(services) as session:
        await unlink_external(session, actor, identity.id, external_id, usable_issuers=_login_issuers(services))


def _login_issuers(services: Services) -> list[str]:
    return [provider.settings.issuer for provider in services.identity_providers.values()]


async def _listed(services: Services, user_id: UUID) -> ExternalIdentities:
    async with services.database.transaction() as session:
        found = await external_identities_of(session, user_id)
    return ExternalIdentities(items=[_shown(one) for one in found])


def _shown(one: ExternalIdentityView) -> ExternalIdentity:
    return ExternalIdentity(
        id=one.id,
        issuer=one.issuer,
        subject=one.subject,
        created_at=one.created_at,
        last_used_at=one.last_used_at,
    )
