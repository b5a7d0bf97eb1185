import dataclasses
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.ratelimits.local import LocalCounters
from api.ratelimit import Limit, RateLimiter
from api.throttle import RateLimits
from domain.access.tokens import format_token
from tests.support.api import ApiServer, listening_socket, serving
from tests.support.factories import PASSWORD, make_token

CREDENTIAL, ADDRESS = Limit("credential", 12, 3600), Limit("address", 6, 3600)


@pytest.fixture
async def server(api_server: ApiServer) -> AsyncIterator[ApiServer]:
    """Another API on the same database, with small limits that nobody has used yet."""
    limits = RateLimits(RateLimiter(LocalCounters()), CREDENTIAL, ADDRESS)
    services = dataclasses.replace(api_server.services, rate_limits=limits)
    async with serving(services, listening_socket()) as server:
        yield server


async def _me(server: ApiServer, headers: dict[str, str] | None = None) -> httpx.Response:
    return await server.client.get("/api/v1/me", headers=headers or {})


async def test_anonymous_requests_count_for_their_address(server: ApiServer) -> None:
    answers = [await _me(server) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 6 + [429] * 2
    assert answers[0].headers["ratelimit-policy"] == '"address";q=6;w=3600'
    assert answers[0].headers["ratelimit"].startswith('"address";r=5;t=')
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["ratelimit"] == f'"address";r=0;t={refused.headers["retry-after"]}'
    # The window slides: what the last one counted fades during the next.
    assert 1 <= int(refused.headers["retry-after"]) <= 2 * 3600
    assert refused.headers["x-request-id"]


async def test_made_up_credentials_count_for_their_address(server: ApiServer) -> None:
    statuses = []
    for _ in range(8):
        token = format_token(secrets.token_bytes(32))
        statuses.append((await _me(server, {"Authorization": f"Bearer {token}"})).status_code)
    assert statuses == [401] * 6 + [429] * 2
    for headers in ({"Cookie": "perdure_session=x"}, {"Authorization": "Basic eDp5"}):
        assert (await _me(server, headers)).status_code == 429


async def test_a_made_up_credential_does_not_become_good_where_none_is_asked_for(server: ApiServer) -> None:
    headers = {"Authorization": f"Bearer {format_token(secrets.token_bytes(32))}"}
    answers = [await server.client.get("/api/v1/openapi.json", headers=headers) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]


async def test_a_good_credential_has_a_limit_of_its_own(server: ApiServer) -> None:
    person, other = await server.user(), await server.user()
    answers = [await _me(server, person.headers) for _ in range(14)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429] * 2
    assert answers[0].headers["ratelimit"].startswith('"credential";r=11;')
    assert answers[-1].headers["ratelimit-policy"] == '"credential";q=12;w=3600'
    assert (await _me(server, other.headers)).status_code == 200
    for _ in range(10):
        await _me(server)
    assert (await _me(server)).status_code == 429
    assert (await _me(server, other.headers)).status_code == 200, "strangers at the same address do not keep it out"


async def test_the_same_token_sent_another_way_is_the_same_token(server: ApiServer) -> None:
    person = await server.user()
    for number in range(5):
        path = f"/{person.name}/none.git/info/refs?service=git-upload-pack"
        await server.client.get(path, auth=(f"name-{number}", person.token.secret))
    # Each way of sending it is new, so it counts for the address too, and then for the token.
    assert '"credential";r=6;' in (await _me(server, person.headers)).headers["ratelimit"]


async def test_a_credential_that_was_revoked_counts_for_its_address_again(server: ApiServer) -> None:
    person = await server.user()
    async with server.transaction() as session:
        token = await make_token(session, person.user)
    assert (await _me(server, token.headers)).status_code == 200
    revoked = await server.client.delete(f"/api/v1/tokens/{token.id}", headers=token.headers)
    assert revoked.status_code == 204
    answers = [await _me(server, token.headers) for _ in range(8)]
    assert '"credential"' in answers[0].headers["ratelimit"]
    assert '"address"' in answers[1].headers["ratelimit"]
    assert answers[-1].status_code == 429


async def test_browser_sessions_have_limits_and_people_get_pages(server: ApiServer) -> None:
    person = await server.user()
    async with await server.browser(person) as browser:
        answers = [await browser.get("/", headers={"Accept": "text/html"}) for _ in range(13)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429]
    assert "<h1>Too many requests</h1>" in answers[-1].text


async def test_signing_in_with_basic_counts_for_the_address_even_when_it_works(server: ApiServer) -> None:
    person = await server.user()
    body = {"name": "t", "scopes": ["project:read"]}
    answers = [await server.client.post("/api/v1/tokens", auth=(person.name, PASSWORD), json=body) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [201] * 6 + [429]


async def test_health_and_static_files_are_never_refused(server: ApiServer) -> None:
    for _ in range(10):
        await _me(server)
    for path in ("/healthz", "/metrics", "/static/app.css"):
        answer = await server.client.get(path)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


async def test_without_limits_there_are_no_headers(api_server: ApiServer) -> None:
    assert "ratelimit" not in (await _me(api_server)).headers
