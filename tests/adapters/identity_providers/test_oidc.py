"""What a provider may do to us: lie in its documents, be large, be slow, or send us into our own network."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from adapters.identity_providers.base import AuthorizationRequest, ProviderSettings
from adapters.identity_providers.oidc import OidcProvider
from adapters.identity_providers.outbound import ANSWER_SIZE_BYTES_MAX, Outbound
from adapters.identity_providers.verifying import (
    REFETCH_SECONDS_MIN,
    RETRY_SECONDS_MIN,
    STALE_SECONDS_MAX,
    KeySet,
    usable_keys,
)
from domain.access.claims import UntrustedToken
from domain.errors import Unavailable
from tests.support.openid import CLIENT, SECRET
from tests.support.openid_scene import Clock, Scene

REQUEST = AuthorizationRequest(redirect_uri="https://us.example/cb", state="s", nonce="n", code_verifier="v")


@asynccontextmanager
async def fresh(scene: Scene, issuer: str | None = None) -> AsyncIterator[OidcProvider]:
    """A client that has read nothing yet."""
    settings = ProviderSettings(
        name="fresh", title="Corp", issuer=issuer or scene.provider.issuer, client_id=CLIENT, client_secret=SECRET
    )
    client = OidcProvider(settings, clock=Clock())
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("lie", "told"),
    [("other-issuer", "its discovery document is that of"), ("internal-token-endpoint", None)],
)
async def test_a_discovery_document_that_lies_is_not_used(oidc: Scene, lie: str, told: str | None) -> None:
    # A host of our own network that is not the issuer's: the address of a cloud's metadata service, say.
    async with oidc.lying(lie, elsewhere="https://169.254.169.254/token"), fresh(oidc) as client:
        if told is not None:
            with pytest.raises(Unavailable, match=told):
                await client.authorization_url(REQUEST)
        else:
            with pytest.raises(Unavailable, match="an address of our own network"):
                await client.redeem(REQUEST, code="c", issuer=oidc.provider.issuer)


@pytest.mark.parametrize(
    "address",
    [
        "http://sso.example/token",
        "ftp://127.0.0.1/token",
        "https://",
        "/token",
        7,
        None,
        "https://a\nb/",
        "http://127.0.0.1.example/",
    ],
)
async def test_only_https_or_loopback_addresses_are_asked(address: object) -> None:
    outbound = Outbound("Corp", {"127.0.0.1"})
    with pytest.raises(Unavailable, match="not an https address"):
        outbound.check_address(address, "token endpoint")
    await outbound.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "localhost", "[::]"]
)
async def test_a_host_that_is_not_trusted_is_not_connected_to_inside_of_our_network(host: str) -> None:
    outbound = Outbound("Corp", {"sso.example"})
    with pytest.raises(Unavailable, match="an address of our own network"):
        await outbound.get_json(f"https://{host}/x", "key set")
    await outbound.close()


async def test_redirects_are_not_followed(oidc: Scene) -> None:
    await oidc.provider.control(redirect="http://127.0.0.1:9/")
    try:
        async with fresh(oidc) as client:
            with pytest.raises(Unavailable, match="status 302"):
                await client.authorization_url(REQUEST)
    finally:
        await oidc.provider.control(redirect=None)


async def test_an_answer_that_never_ends_is_cut_off() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
        try:
            while True:
                writer.write(b"[" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outbound = Outbound("Corp", {"127.0.0.1"})
    with pytest.raises(Unavailable, match=f"more than {ANSWER_SIZE_BYTES_MAX} bytes"):
        await outbound.get_json(f"http://127.0.0.1:{port}/", "key set")
    await outbound.close()
    server.close()


async def test_a_huge_key_set_signs_nobody_in_and_says_so(oidc: Scene) -> None:
    login = await oidc.account()
    oidc.clock.seconds += 2 * STALE_SECONDS_MAX
    async with oidc.lying("huge-key-set"), oidc.browser() as browser:
        answer = await browser.sign_in("open", login)
        assert answer.status_code == 503
        assert "key set answers with more than" in answer.text
    oidc.clock.seconds += 2 * REFETCH_SECONDS_MIN
    async with oidc.browser() as browser:
        assert (await browser.sign_in("open", login)).status_code == 303


def public(key: RSAKey | ECKey | OKPKey | OctKey, **more: object) -> dict[str, Any]:
    return {**key.as_dict(private=isinstance(key, OctKey)), **more}


def test_only_public_keys_for_signatures_that_are_strong_enough_are_used() -> None:
    strong = RSAKey.generate_key(2048)
    found = usable_keys(
        {
            "keys": [
                public(strong, kid="rsa"),
                public(ECKey.generate_key("P-256"), kid="ec"),
                public(OKPKey.generate_key("Ed25519"), kid="ed"),
                public(OctKey.generate_key(256), kid="shared-secret"),
                public(strong, kid="for-encryption", use="enc"),
                public(strong, kid="other-operation", key_ops=["encrypt"]),
                {**strong.as_dict(private=False), "kid": "short", "n": strong.as_dict(private=False)["n"][:170]},
                {**strong.as_dict(private=False), "kid": "padded", "n": "A" * 342},
                {"kty": "RSA", "kid": "empty"},
                {"kty": "AKP", "kid": "of-the-future"},
                {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "AA", "y": "AA"},
                "not a key",
                None,
            ]
        }
    )
    assert [kid for kid, _ in found] == ["rsa", "ec", "ed"]
    assert usable_keys({}) == usable_keys({"keys": "none"}) == []


class Issuer:
    """A key set that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.key = RSAKey.generate_key(2048)

    async def fetch(self) -> Mapping[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("The issuer is away.", neighbour="issuer")
        return {"keys": [public(self.key, kid=self.key.thumbprint())]}


async def test_keys_are_asked_for_seldom_whatever_tokens_say() -> None:
    issuer, clock = Issuer(), Clock()
    keys = KeySet(issuer.fetch, clock=clock)
    header = {"alg": "RS256", "kid": issuer.key.thumbprint()}
    await asyncio.gather(*(keys.key_for(header) for _ in range(20)))
    assert issuer.asked == 1
    clock.seconds += REFETCH_SECONDS_MIN + 1
    for _ in range(20):
        with pytest.raises(UntrustedToken, match="does not publish"):
            await keys.key_for({"alg": "RS256", "kid": "made up"})
    assert issuer.asked == 2
    for wrong in ({"alg": "ES256"}, {"alg": "EdDSA"}):
        with pytest.raises(UntrustedToken):
            await keys.key_for(header | wrong)
    assert issuer.asked == 2


async def test_a_token_without_a_key_id_is_checked_only_where_there_is_no_choice() -> None:
    issuer, clock = Issuer(), Clock()
    keys = KeySet(issuer.fetch, clock=clock)
    assert (await keys.key_for({"alg": "PS256"})).key_type == "RSA"


async def test_known_keys_are_used_for_a_day_while_the_issuer_is_away_and_then_no_more() -> None:
    issuer, clock = Issuer(), Clock()
    keys = KeySet(issuer.fetch, clock=clock)
    header = {"alg": "RS256", "kid": issuer.key.thumbprint()}
    await keys.key_for(header)
    issuer.away = True
    clock.seconds += STALE_SECONDS_MAX - 1
    await keys.key_for(header)
    clock.seconds += 10
    asked = issuer.asked
    for _ in range(10):
        with pytest.raises(Unavailable):
            await keys.key_for(header)
    assert issuer.asked == asked + 1
    issuer.away = False
    clock.seconds += RETRY_SECONDS_MIN + 1
    await keys.key_for(header)
