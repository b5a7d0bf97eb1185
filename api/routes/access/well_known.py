"""What others need to verify the tokens that we sign: our key set, and where it is (OpenID Connect Discovery 1.0)."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.dependencies import ServicesDep
from api.errors import problems
from database.store.access.signing_keys import key_set
from domain.access.signing import ALGORITHMS

router = APIRouter(prefix="/.well-known", tags=["access"])

CACHE_SECONDS = 300
"""Much shorter than a key is published before it signs."""


class JwkSet(BaseModel):
    """A JWK Set (RFC 7517)."""

    keys: list[dict[str, Any]] = Field(description="Public keys; those that will sign soon are among them")


class Discovery(BaseModel):
    """What relying parties that only verify tokens look for."""

    issuer: str
    jwks_uri: str
    id_token_signing_alg_values_supported: list[str]
    subject_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]
    claims_supported: list[str]


@router.get("/jwks.json", summary="Our public signing keys", responses=problems())
async def get_jwks(response: Response, services: ServicesDep) -> JwkSet:
    """The keys that verify identity tokens of this installation."""
    async with services.database.transaction() as session:
        keys = await key_set(session, services.keyring)
    response.headers["cache-control"] = f"public, max-age={CACHE_SECONDS}"
    response.headers["access-control-allow-origin"] = "*"
    return JwkSet(keys=[key.public_jwk for key in keys])


@router.get("/openid-configuration", summary="Where our public signing keys are", responses=problems())
async def get_discovery(response: Response, services: ServicesDep) -> Discovery:
    """Discovery for verifiers of identity tokens; nobody signs in here through OpenID Connect."""
    response.headers["cache-control"] = f"public, max-age={CACHE_SECONDS}"
    response.headers["access-control-allow-origin"] = "*"
    return Discovery(
        issuer=services.public_url,
        jwks_uri=f"{services.public_url}/.well-known/jwks.json",
        id_token_signing_alg_values_supported=list(ALGORITHMS),
        subject_types_supported=["public"],
        response_types_supported=["id_token"],
        scopes_supported=["openid"],
        claims_supported=[
            *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "act", "scope"),
            *("preferred_username", "kind", "project_id"),
        ],
    )
