"""Our identity tokens, as somebody sees them who has nothing but our address."""

from typing import Any

import httpx
import pytest
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry, deserialize_compact
from sqlalchemy import text

from tests.support.api import ApiServer, Person
from tests.support.factories import make_session


class Verifier(JWSRegistry):
    """joserfc, without its warning that EdDSA has a newer name."""

    def get_alg(self, name: str) -> Any:  # noqa: ANN401  # joserfc does not export the type
        return self.algorithms[name]


async def verified(server: ApiServer, token: str) -> dict[str, Any]:
    """Header and claims together, verified with what discovery leads to."""
    discovery = (await server.client.get("/.well-known/openid-configuration")).json()
    assert discovery["issuer"] == server.base_url
    jwks = (await server.client.get(discovery["jwks_uri"].removeprefix(server.base_url))).json()
    found = deserialize_compact(token, KeySet.import_key_set(jwks), registry=Verifier(algorithms=["RS256", "EdDSA"]))
    assert found.headers()["alg"] in discovery["id_token_signing_alg_values_supported"]
    assert found.payload is not None
    claims: dict[str, Any] = httpx.Response(200, content=found.payload).json()
    return {**found.headers(), **claims}


async def ask(server: ApiServer, person: Person, **body: object) -> httpx.Response:
    return await server.client.post("/api/v1/me/identity-token", json=body, headers=person.headers)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"audience": ""},
        {"audience": "a", "lifetime_seconds": 0},
        {"audience": "a", "lifetime_seconds": 3601},
        {"audience": "a", "algorithm": "none"},
        {"audience": "a", "algorithm": "HS256"},
        {"audience": "a", "sub": "admin"},
        {"audience": ["a"]},
    ],
)
async def test_what_is_asked_for_wrongly_is_not_signed(api_server: ApiServer, body: dict[str, object]) -> None:
    assert (await ask(api_server, await api_server.user(), **body)).status_code == 400


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_others_verify_who_somebody_is_with_nothing_but_our_address(
    api_server: ApiServer, algorithm: str
) -> None:
    person = await api_server.user()
    answer = await ask(api_server, person, audience="https://vault.example", algorithm=algorithm, lifetime_seconds=60)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    said = await verified(api_server, answer.json()["token"])
    assert (said["alg"], said["iss"], said["aud"]) == (algorithm, api_server.base_url, "https://vault.example")
    assert (said["sub"], said["preferred_username"]) == (str(person.user.id), person.name)
    assert said["exp"] - said["iat"] == 60
    assert "project:read" in said["scope"].split()


async def test_an_identity_token_ends_with_the_credential_that_asked_for_it(api_server: ApiServer) -> None:
    person = await api_server.user()
    async with api_server.transaction() as session:
        soon = text("UPDATE api_tokens SET expires_at = now() + interval '30 seconds' WHERE user_id = :user")
        await session.execute(soon, {"user": person.user.id})
    answer = await ask(api_server, person, audience="https://vault.example", lifetime_seconds=600)
    said = await verified(api_server, answer.json()["token"])
    assert 0 < answer.json()["expires_in"] == said["exp"] - said["iat"] <= 30


async def test_an_identity_token_is_no_credential_here(api_server: ApiServer) -> None:
    token = (await ask(api_server, await api_server.user(), audience=api_server.base_url)).json()["token"]
    answer = await api_server.client.get("/api/v1/me", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_the_key_set_shows_public_parts_only_and_may_be_cached(api_server: ApiServer) -> None:
    answer = await api_server.client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = answer.json()["keys"]
    assert {key["alg"] for key in keys} == {"RS256", "EdDSA"}
    for key in keys:
        assert not set(key) & {"d", "p", "q", "dp", "dq", "qi", "k"}


async def test_an_administrator_exchanges_the_keys_and_may_end_the_old_ones_at_once(api_server: ApiServer) -> None:
    admin = await api_server.user(role="admin")
    async with api_server.transaction() as session:
        _, secret = await make_session(session, admin.user)
    async with httpx.AsyncClient(
        base_url=api_server.base_url, cookies={"perdure_session": secret}, trust_env=False
    ) as browser:
        headers = {"x-csrf-token": (await browser.get("/api/v1/me")).json()["csrf_token"]}
        token = (await ask(api_server, admin, audience="a")).json()["token"]
        known = {key["kid"] for key in (await browser.get("/api/v1/signing-keys")).json()["items"]}
        body = {"reason": "once a quarter"}
        exchanged = await browser.post("/api/v1/signing-keys/rotation", json=body, headers=headers)
        assert exchanged.status_code == 201, exchanged.text
        assert len({key["kid"] for key in exchanged.json()["items"]} - known) == 2
        # The new ones are known before they sign.
        before = await verified(api_server, token)
        after = await verified(api_server, (await ask(api_server, admin, audience="a")).json()["token"])
        assert before["kid"] == after["kid"]
        revoked = await browser.post(
            "/api/v1/signing-keys/rotation", json={"reason": "a laptop is gone", "revoke": True}, headers=headers
        )
        kids = {key["kid"] for key in revoked.json()["items"]}
        assert len(kids) == 2
        assert before["kid"] not in kids
        assert {key["kid"] for key in (await browser.get("/api/v1/signing-keys")).json()["items"]} == kids
        fresh = await verified(api_server, (await ask(api_server, admin, audience="a")).json()["token"])
        assert fresh["kid"] in kids
    async with api_server.transaction() as session:
        rows = await session.execute(
            text("SELECT detail->>'reason' FROM audit_log WHERE action = 'signing_key:rotate' AND actor_id = :id"),
            {"id": admin.user.id},
        )
        assert sorted(rows.scalars()) == ["a laptop is gone", "once a quarter"]
