"""The protocol of identity providers, and what an operator says about each."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from domain.access.external import ExternalProfile, SignUpPolicy


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider that people may sign in with.

    Attributes:
        name: The short name in addresses.
        title: What the button says.
        issuer: As the provider itself writes it in its tokens, character by character.
        client_secret: Empty for a public client (PKCE protects it alone).
        groups_claim: Where the groups of a person are found.
        policy: What a login leads to.
        internal_hosts: Hosts beside the issuer's own that may have addresses inside of our network.
    """

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    policy: SignUpPolicy = field(default_factory=SignUpPolicy)
    internal_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """One issuer whose signed tokens (JWT) the API accepts as a Bearer credential.

    Attributes:
        audience: What a token has to be made for.
        jwks_uri: Where its keys are; empty: what its discovery document says.
        scope_claim: The claim that lists the permissions, as a list or separated by spaces.
        scopes_without_claim: What a token without that claim is narrowed to.
        lifetime_max: A token that is good for longer is refused.
        internal_hosts: As in ``ProviderSettings``.
    """

    name: str
    issuer: str
    audience: str
    jwks_uri: str = ""
    scope_claim: str = "scope"
    scopes_without_claim: frozenset[str] = frozenset()
    lifetime_max: timedelta = timedelta(days=1)
    internal_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a sign-in is begun with and later checked against (RFC 6749, RFC 7636, OpenID Connect Core 1.0).

    Attributes:
        state: Ties the answer to the browser that asked.
        nonce: Ties the ID token to this sign-in.
        code_verifier: The secret of PKCE.
        fresh_since: If the person shall prove again who they are: since when that counts.
    """

    redirect_uri: str
    state: str
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    fresh_since: datetime | None = None


class IdentityProvider(Protocol):
    """Somebody else who knows who people are. Safe to use from many tasks at once."""

    @property
    def settings(self) -> ProviderSettings:
        """What the operator says about it."""
        ...

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """Where the browser goes to sign in there.

        Raises:
            domain.errors.Unavailable: The provider does not answer, or not as one should.
        """
        ...

    async def redeem(self, request: AuthorizationRequest, *, code: str, issuer: str | None) -> ExternalProfile:
        """Exchanges the code that the browser came back with for who it is; a code is good once.

        Args:
            issuer: The ``iss`` parameter of the answer (RFC 9207), if it had one.

        Raises:
            domain.access.external.ExternalSignInRefused: The provider refuses the code, or what it answers is not to
                be believed.
            domain.errors.Unavailable: The provider does not answer, or not as one should.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
