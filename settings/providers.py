"""Settings of identity providers and token issuers: parts of ``[access]`` with a table for each."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints


def _checked_issuer(issuer: str) -> str:
    """An issuer's address as OpenID Connect allows it; plain http on the loopback interface only."""
    parts = urlsplit(issuer)
    on_loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or (parts.scheme != "https" and not on_loopback) or parts.query or parts.fragment:
        raise ValueError("must be an https address without a query")
    return issuer


Issuer = Annotated[str, AfterValidator(_checked_issuer)]
ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$")]
"""Part of addresses."""


class IdentityProviderSettings(BaseModel):
    """A provider (OpenID Connect) that people sign in with; the table's name is part of the redirect address."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=60, description="what the button says after `Sign in with`")
    issuer: Issuer = Field(description="the provider's address, character by character as its tokens name it")
    client_id: str = Field(min_length=1, description="what the provider calls this installation")
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="empty for a public client; PKCE is always used"
    )
    scopes: list[str] = Field(default=["openid", "profile", "email"], description="what is asked for")
    groups_claim: str = Field(
        default="groups", description="the claim that lists groups; `a.b` finds `b` inside of `a`"
    )
    roles_of_groups: dict[str, str] = Field(
        default={}, description="group to the role that its members hold everywhere while they are in it"
    )
    allow_sign_up: bool = Field(default=False, description="whether somebody unknown becomes a user at the first login")
    email_domains: list[str] = Field(
        default=[], description="if not empty, a verified e-mail address of one of these domains is needed"
    )
    internal_hosts: list[str] = Field(
        default=[], description="hosts, beside the issuer's own, that may have addresses inside of your network"
    )


class TokenIssuerSettings(BaseModel):
    """An issuer whose signed tokens (JWT) the API accepts as Bearer credentials."""

    model_config = ConfigDict(extra="forbid")

    issuer: Issuer = Field(description="the `iss` of its tokens, character by character")
    audience: str = Field(min_length=1, description="what a token must be made for (`aud`)")
    jwks_uri: str = Field(default="", description="where its keys are; empty: what its discovery document says")
    scope_claim: str = Field(default="scope", description="the claim that lists permissions, in a text or a list")
    scopes_without_claim: list[str] = Field(
        default=[], description="the permissions that a token without that claim is narrowed to"
    )
    lifetime_max: timedelta = Field(
        default=timedelta(days=1), gt=timedelta(0), description="a token that is good for longer is refused"
    )
    internal_hosts: list[str] = Field(
        default=[], description="hosts, beside the issuer's own, that may have addresses inside of your network"
    )
