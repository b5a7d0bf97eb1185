import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from api.providers import identity_providers, token_issuers
from domain.errors import InvalidInput
from settings.values import AccessSettings

GOOD = """
[identity_providers.corp]
title = "Corp"
issuer = "https://sso.corp.example/realms/main"
client_id = "perdure"
client_secret = "secret"
email_domains = ["Corp.example"]
[identity_providers.corp.roles_of_groups]
developers = "developer"
[token_issuers.builds]
issuer = "https://ci.corp.example"
audience = "https://perdure.example"
"""


def settings(change: tuple[str, str] = ("", "")) -> AccessSettings:
    values: dict[str, Any] = tomllib.loads(GOOD.replace(change[0], change[1]) if change[0] else GOOD)
    return AccessSettings.model_validate(values)


@pytest.mark.parametrize(
    "change",
    [
        ("https://sso.corp.example", "http://sso.corp.example"),
        ("https://sso.corp.example/realms/main", "sso.corp.example"),
        ("realms/main", "realms/main?tenant=1"),
        ("identity_providers.corp", "identity_providers.Corp"),
        ("identity_providers.corp", 'identity_providers."a/b"'),
        ("client_id", "clientid"),
        ('title = "Corp"', 'title = ""'),
        ("https://ci.corp.example", "http://10.0.0.1"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(change)


async def test_what_the_settings_say_is_what_the_providers_are() -> None:
    providers = identity_providers(settings())
    assert list(providers) == ["corp"]
    said = providers["corp"].settings
    assert said.client_secret == "secret"
    assert said.policy.email_domains == {"corp.example"}
    assert said.policy.roles({"developers"}) == {"developer"}
    assert "secret" not in repr(said)
    issuers = token_issuers(settings(), "https://perdure.example")
    assert issuers.names == {"https://ci.corp.example"}
    await issuers.close()
    await providers["corp"].close()


def test_an_installation_is_no_issuer_of_credentials_for_itself_and_no_issuer_is_named_twice() -> None:
    with pytest.raises(InvalidInput, match="this installation itself"):
        token_issuers(settings(), "https://ci.corp.example")
    twice = settings()
    twice.token_issuers["again"] = twice.token_issuers["builds"]
    with pytest.raises(InvalidInput, match="same issuer"):
        token_issuers(twice, "https://perdure.example")
