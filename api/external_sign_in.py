"""The two halves of a sign-in through an identity provider: the way there, and the way back.

What the way back is checked against travels in a cookie of the browser that began, sealed with the installation's
secret; nothing is stored. The cookie is ``SameSite=Lax``, because the provider sends the browser back from another
site, and is named after the sign-in's ``state``, so that two tabs do not disturb one another. A way back is good once.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from adapters.identity_providers.base import AuthorizationRequest, IdentityProvider
from adapters.keyring.secret_box import SecretUnreadable
from api.services import Services
from database.store.access.factors import spend
from domain.access.external import ExternalProfile, ExternalSignInRefused
from domain.access.tokens import hash_secret
from domain.errors import NotFound

LIFETIME = timedelta(minutes=10)
TEXT_LENGTH_MAX = 2000
"""Characters of a parameter of the way back that are looked at."""

Purpose = Literal["sign-in", "link", "prove"]


class Way(BaseModel):
    """A sign-in that is under way.

    Attributes:
        purpose: To sign in, to link the account there to the one here, or to prove again who one is.
        session_id: The browser session that began, where there was one.
    """

    model_config = ConfigDict(frozen=True)

    provider: str
    purpose: Purpose
    state: str
    nonce: str
    code_verifier: str
    next_path: str
    session_id: UUID | None
    began_at: AwareDatetime


def provider_of(services: Services, name: str) -> IdentityProvider:
    """The provider of that name.

    Raises:
        NotFound: There is none (code ``no_such_provider``).
    """
    provider = services.identity_providers.get(name)
    if provider is None:
        raise NotFound("There is no such way to sign in here.", code="no_such_provider")
    return provider


async def begin(
    services: Services, name: str, purpose: Purpose, next_path: str, session_id: UUID | None = None
) -> tuple[Way, str]:
    """Begins; returns what is to be kept, and where the browser goes.

    Raises:
        NotFound: There is no such provider.
        Unavailable: The provider does not answer.
    """
    provider = provider_of(services, name)
    way = Way(
        provider=name,
        purpose=purpose,
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        code_verifier=secrets.token_urlsafe(48),
        next_path=next_path,
        session_id=session_id,
        began_at=datetime.now(UTC),
    )
    return way, await provider.authorization_url(_request(services, way))


def _request(services: Services, way: Way) -> AuthorizationRequest:
    return AuthorizationRequest(
        redirect_uri=f"{services.public_url}/login/oidc/{way.provider}/callback",
        state=way.state,
        nonce=way.nonce,
        code_verifier=way.code_verifier,
        fresh_since=way.began_at if way.purpose == "prove" else None,
    )


def keep(services: Services, response: Response, way: Way) -> None:
    """Hands the browser what it has to bring back."""
    sealed = services.secret_box.seal(way.model_dump_json().encode(), _context(way.state))
    response.set_cookie(
        _cookie_name(services, way.state),
        base64.urlsafe_b64encode(sealed).decode(),
        max_age=int(LIFETIME.total_seconds()),
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def drop(services: Services, response: Response, way: Way) -> None:
    """Takes it away again."""
    response.delete_cookie(
        _cookie_name(services, way.state),
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def way_back(services: Services, request: Request, name: str) -> Way:
    """The sign-in that this browser began with this provider and comes back from.

    Raises:
        ExternalSignInRefused: It began none, or one with another provider, or too long ago (code
            ``sign_in_expired``).
    """
    state = request.query_params.get("state", "")[:TEXT_LENGTH_MAX]
    kept = request.cookies.get(_cookie_name(services, state), "")
    try:
        sealed = base64.urlsafe_b64decode(kept.encode())
        way = Way.model_validate_json(services.secret_box.open(sealed, _context(state)))
    except (binascii.Error, ValueError, ValidationError, SecretUnreadable):
        way = None
    if way is None or way.state != state or way.provider != name or datetime.now(UTC) - way.began_at > LIFETIME:
        raise ExternalSignInRefused(
            "This browser did not begin this sign-in, or began it more than ten minutes ago, or it was used already. "
            "Nothing was changed; begin again on the login page.",
            code="sign_in_expired",
        )
    return way


async def redeem(services: Services, way: Way, answer: Mapping[str, str]) -> ExternalProfile:
    """Who the provider says that it is.

    Args:
        answer: The query parameters of the way back.

    Raises:
        ExternalSignInRefused: It says no, or is not to be believed, or the way back was used before.
        Unavailable: It does not answer.
    """
    provider = provider_of(services, way.provider)
    async with services.database.transaction() as session:
        if not await spend(session, hash_secret(f"oidc/{way.state}"), way.began_at + LIFETIME):
            raise ExternalSignInRefused(
                "This answer of the provider was used already. Nothing was changed; begin again on the login page.",
                code="sign_in_expired",
            )
    code = answer.get("code", "")
    if "error" in answer or not code:
        error = answer.get("error", "no code")[:TEXT_LENGTH_MAX]
        told = error if error.isascii() and error.replace("_", "").isalnum() else "an error without a name"
        raise ExternalSignInRefused(
            f"{provider.settings.title} did not sign you in: {told}. Nothing was changed; begin again on the login "
            "page.",
            code="provider_refused",
            details={"provider": way.provider, "error": told},
        )
    return await provider.redeem(_request(services, way), code=code[:TEXT_LENGTH_MAX], issuer=answer.get("iss"))


def _context(state: str) -> str:
    return f"oidc-sign-in/{state}"


def _cookie_name(services: Services, state: str) -> str:
    # A part of its hash: a state that somebody makes up may hold what a cookie's name must not.
    name = f"perdure_oidc_{hash_secret(state)[:16]}"
    return f"__Host-{name}" if services.secure_cookies else name
