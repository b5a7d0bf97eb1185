"""OpenID Connect: the authorization code flow with PKCE, as a relying party.

Sources: OpenID Connect Core 1.0, RFC 6749, RFC 7636 (PKCE, S256 only), RFC 9207 (issuer in the answer), RFC 9700
(best current practice). What a sign-in has to bring back is in ``AuthorizationRequest``; the caller keeps it.
"""

import hashlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from adapters.identity_providers.base import AuthorizationRequest, ProviderSettings
from adapters.identity_providers.discovery import Discovery
from adapters.identity_providers.outbound import Outbound
from adapters.identity_providers.verifying import verified_claims
from domain.access.claims import Expected, UntrustedToken, check_claims, check_id_token
from domain.access.external import ExternalProfile, ExternalSignInRefused, profile_of, wanted_claims_missing

ID_TOKEN_AGE_MAX = timedelta(minutes=5)
"""It was issued for the code that was exchanged a moment ago."""
ERROR_LENGTH_MAX = 200


class OidcProvider:
    """One provider; see ``adapters.identity_providers.base.IdentityProvider``.

    Args:
        settings: What the operator says about it.
        clock: Monotonic seconds, for how long answers are kept.
    """

    def __init__(self, settings: ProviderSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._outbound = Outbound(settings.title, {urlsplit(settings.issuer).hostname or "", *settings.internal_hosts})
        self._discovery = Discovery(self._outbound, settings.issuer, clock=clock)

    @property
    def settings(self) -> ProviderSettings:
        """What the operator says about it."""
        return self._settings

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """See the protocol."""
        endpoint = await self._discovery.endpoint("authorization_endpoint")
        challenge = urlsafe_b64encode(hashlib.sha256(request.code_verifier.encode()).digest()).rstrip(b"=").decode()
        fresh = {"prompt": "login", "max_age": "0"} if request.fresh_since is not None else {}
        query = urlencode(
            {
                **fresh,
                "response_type": "code",
                "client_id": self._settings.client_id,
                "redirect_uri": request.redirect_uri,
                "scope": " ".join(dict.fromkeys(("openid", *self._settings.scopes))),
                "state": request.state,
                "nonce": request.nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def redeem(self, request: AuthorizationRequest, *, code: str, issuer: str | None) -> ExternalProfile:
        """See the protocol."""
        metadata = await self._discovery.document()
        answers_with_issuer = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != self._settings.issuer and (issuer is not None or answers_with_issuer):
            raise self._refused("the answer does not come from the provider that was asked (iss)")
        tokens = await self._exchange(request, code, metadata)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise self._refused("the provider sent no ID token")
        try:
            claims = await verified_claims(id_token, self._discovery.keys)
            expected = Expected(self._settings.issuer, self._settings.client_id, age_max=ID_TOKEN_AGE_MAX)
            subject = check_claims(claims, expected, datetime.now(UTC))
            check_id_token(
                claims,
                client_id=self._settings.client_id,
                nonce=request.nonce,
                authenticated_since=request.fresh_since,
            )
        except UntrustedToken as untrusted:
            raise self._refused(f"the ID token is not to be believed, because {untrusted.reason}") from untrusted
        groups_claim = self._settings.groups_claim
        wanted = groups_claim if self._settings.policy.roles_of_groups else None
        if isinstance(access_token, str) and wanted_claims_missing(claims, wanted):
            claims = _joined(claims, await self._user_info(access_token, subject, metadata))
        return profile_of(claims, issuer=self._settings.issuer, subject=subject, groups_claim=groups_claim)

    async def close(self) -> None:
        """Lets go of connections."""
        await self._outbound.close()

    async def _exchange(self, request: AuthorizationRequest, code: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The tokens for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": request.redirect_uri,
            "code_verifier": request.code_verifier,
        }
        client_id, secret = self._settings.client_id, self._settings.client_secret
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = None
        if secret and "client_secret_basic" in methods:
            # RFC 6749, section 2.3.1: both are encoded as in a form first.
            basic = quote_plus(client_id), quote_plus(secret)
        else:
            form["client_id"] = client_id
            if secret:
                form["client_secret"] = secret
        endpoint = await self._discovery.endpoint("token_endpoint")
        status, answer = await self._outbound.post_form(endpoint, "token endpoint", form, basic=basic)
        if status != 200:  # noqa: PLR2004  # RFC 6749, section 5.1
            raise self._refused(f"the provider refused the code ({_error_of(answer)})")
        return answer

    async def _user_info(self, access_token: str, subject: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What the user-info endpoint adds; empty if there is none. Only an answer about the same person counts."""
        if "userinfo_endpoint" not in metadata:
            return {}
        endpoint = await self._discovery.endpoint("userinfo_endpoint")
        headers = {"authorization": f"Bearer {access_token}"}
        answer = await self._outbound.get_json(endpoint, "user-info endpoint", headers)
        if answer.get("sub") != subject:
            raise self._refused("its user-info endpoint tells of somebody else")
        return answer

    def _refused(self, reason: str) -> ExternalSignInRefused:
        return ExternalSignInRefused(
            f"{self._settings.title} did not sign you in: {reason}. Nothing was changed; begin again.",
            details={"provider": self._settings.name},
        )


def _joined(claims: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """All claims. An address and whether it is verified are taken from one place, never one of them from each."""
    source = info if "email" in info else claims
    email = {name: source.get(name) for name in ("email", "email_verified")}
    return {**info, **claims, **email}


def _error_of(answer: Mapping[str, Any]) -> str:
    """The OAuth error code of an answer, shortened; descriptions are the provider's and stay out."""
    error = answer.get("error")
    return error[:ERROR_LENGTH_MAX] if isinstance(error, str) and error.isprintable() else "without saying why"
