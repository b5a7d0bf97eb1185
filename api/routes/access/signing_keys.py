"""Identity tokens, and the keys that sign them."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.dependencies import Caller, CallerDep, ServicesDep, require_platform
from api.errors import problems
from api.proof import require_recent_proof
from api.strict_route import StrictRoute
from database.models.credentials import SigningKey
from database.store.access.signing_keys import (
    published_keys,
    rotate_on_demand,
    sign_identity_token,
)
from database.store.audit import record
from domain.access.permissions import Permission
from domain.access.signing import TOKEN_LIFETIME_MAX, identity_claims
from domain.audit.actions import AuditAction

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

AUDIENCE_LENGTH_MAX = 300
REASON_LENGTH_MAX = 500
_LIFETIME_DEFAULT_SECONDS = 600

KeysAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_USERS))]
ProvenKeysAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_USERS)))]


class IdentityTokenRequest(BaseModel):
    """For whom the token shall be."""

    model_config = ConfigDict(extra="forbid")

    audience: str = Field(
        min_length=1, max_length=AUDIENCE_LENGTH_MAX, description="Who shall believe it, and nobody else"
    )
    lifetime_seconds: int = Field(default=_LIFETIME_DEFAULT_SECONDS, ge=1, le=int(TOKEN_LIFETIME_MAX.total_seconds()))
    algorithm: Literal["RS256", "EdDSA"] = "RS256"


class IdentityToken(BaseModel):
    """A signed statement of who asked for it; no credential of this platform."""

    token: str = Field(description="A JWT; its keys are at /.well-known/jwks.json")
    expires_in: int = Field(description="Seconds")


class SigningKeyView(BaseModel):
    """A signing key without its private part."""

    kid: str
    algorithm: str
    signs_from: AwareDatetime
    signs_until: AwareDatetime
    verifies_until: AwareDatetime


class SigningKeys(BaseModel):
    """The keys that are published now."""

    items: list[SigningKeyView]


class RotationOnDemand(BaseModel):
    """Why keys are exchanged, and whether the present ones are still to be believed."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=REASON_LENGTH_MAX, description="For the audit log")
    revoke: bool = Field(
        default=False,
        description="Whether somebody else may have the present keys: they end at once, and so does every token that "
        "they signed. Else they go on for a day, until the new ones are known everywhere",
    )


@router.post(
    "/me/identity-token",
    status_code=201,
    summary="Prove to another system who you are",
    responses=problems(400, 401, 403),
)
async def post_identity_token(
    body: Annotated[IdentityTokenRequest, Body()], response: Response, caller: CallerDep, services: ServicesDep
) -> IdentityToken:
    """A short-lived JWT for one audience, signed by this installation, that says who asks and for whom.

    It ends with the credential that asked for it, if that ends sooner.
    """
    response.headers["cache-control"] = "no-store"
    actor, seconds = caller.actor, body.lifetime_seconds
    if caller.lasts is not None:
        seconds = max(1, min(seconds, int(caller.lasts.total_seconds())))
    claims = {**identity_claims(actor), "aud": body.audience}
    async with services.database.transaction() as session:
        token = await sign_identity_token(
            session,
            services.keyring,
            claims,
            timedelta(seconds=seconds),
            issuer=services.public_url,
            algorithm=body.algorithm,
        )
        detail: dict[str, object] = {"audience": body.audience, "lifetime_seconds": seconds}
        await record(session, actor, AuditAction.IDENTITY_TOKEN_CREATE, "user", actor.user_id, detail=detail)
    return IdentityToken(token=token, expires_in=seconds)


@router.get("/signing-keys", summary="List our signing keys", responses=problems(401, 403))
async def get_signing_keys(_: KeysAdmin, services: ServicesDep) -> SigningKeys:
    """The keys that verify now or will sign soon, newest first."""
    async with services.database.transaction() as session:
        return SigningKeys(items=[_shown(key) for key in await published_keys(session)])


@router.post(
    "/signing-keys/rotation", status_code=201, summary="Exchange our signing keys", responses=problems(400, 401, 403)
)
async def post_rotation(
    body: Annotated[RotationOnDemand, Body()], caller: ProvenKeysAdmin, services: ServicesDep
) -> SigningKeys:
    """Makes new keys now. The hourly schedule does so by itself every month; this is for the days in between."""
    async with services.database.transaction() as session:
        await rotate_on_demand(session, caller.actor, services.keyring, revoke=body.revoke, reason=body.reason)
        return SigningKeys(items=[_shown(key) for key in await published_keys(session)])


def _shown(key: SigningKey) -> SigningKeyView:
    return SigningKeyView(
        kid=key.kid,
        algorithm=key.algorithm,
        signs_from=key.signs_from,
        signs_until=key.signs_until,
        verifies_until=key.verifies_until,
    )
