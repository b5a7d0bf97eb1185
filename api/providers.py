"""From the settings to the identity providers and token issuers that the routes work with."""

from adapters.identity_providers.base import IdentityProvider, IssuerSettings, ProviderSettings
from adapters.identity_providers.issuers import TokenIssuers
from adapters.identity_providers.oidc import OidcProvider
from domain.access.external import SignUpPolicy
from domain.errors import InvalidInput
from settings.values import AccessSettings


def identity_providers(settings: AccessSettings) -> dict[str, IdentityProvider]:
    """The providers that people sign in with; none of them is asked anything yet."""
    return {
        name: OidcProvider(
            ProviderSettings(
                name=name,
                title=one.title,
                issuer=one.issuer,
                client_id=one.client_id,
                client_secret=one.client_secret.get_secret_value() if one.client_secret else "",
                scopes=tuple(one.scopes),
                groups_claim=one.groups_claim,
                policy=SignUpPolicy(
                    allow_sign_up=one.allow_sign_up,
                    email_domains=frozenset(domain.lower() for domain in one.email_domains),
                    roles_of_groups=one.roles_of_groups,
                ),
                internal_hosts=frozenset(one.internal_hosts),
            )
        )
        for name, one in settings.identity_providers.items()
    }


def token_issuers(settings: AccessSettings, public_url: str) -> TokenIssuers:
    """The issuers whose tokens the API accepts; none of them is asked anything yet.

    Raises:
        InvalidInput: Two have the same address, or one is this installation: its identity tokens are no credentials.
    """
    issuers = [one.issuer for one in settings.token_issuers.values()]
    if len(set(issuers)) < len(issuers):
        raise InvalidInput("Two tables in access.token_issuers name the same issuer; keep one of them.")
    if public_url in issuers:
        raise InvalidInput(
            "access.token_issuers names this installation itself. Its identity tokens prove to others who somebody is "
            "and are no credentials here; remove that table."
        )
    return TokenIssuers(
        IssuerSettings(
            name=name,
            issuer=one.issuer,
            audience=one.audience,
            jwks_uri=one.jwks_uri,
            scope_claim=one.scope_claim,
            scopes_without_claim=frozenset(one.scopes_without_claim),
            lifetime_max=one.lifetime_max,
            internal_hosts=frozenset(one.internal_hosts),
        )
        for name, one in settings.token_issuers.items()
    )
