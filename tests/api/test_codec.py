from urllib.parse import urlsplit

import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio.api.common.v1 import Payload, Payloads

from api.routes.codec import PATH
from tests.support.api import ApiServer, Person

PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'{"run_id": "seven"}')
DECODE = f"{PATH}/decode"


@pytest.fixture
async def admin(api_server: ApiServer) -> Person:
    return await api_server.user(role="admin")


async def encrypted(server: ApiServer, *payloads: Payload) -> dict[str, object]:
    codec = server.services.temporal.data_converter.payload_codec
    assert codec is not None
    body: dict[str, object] = MessageToDict(Payloads(payloads=await codec.encode(payloads)))
    return body


def payloads_of(answer: httpx.Response) -> list[Payload]:
    return list(ParseDict(answer.json(), Payloads()).payloads)


def ui_origin(server: ApiServer) -> str:
    url = urlsplit(server.services.temporal_ui_url)
    return f"{url.scheme}://{url.netloc}"


@pytest.mark.parametrize("path", [DECODE, f"{PATH}/encode"])
async def test_only_administrators_see_payloads(api_server: ApiServer, path: str) -> None:
    developer = await api_server.user()
    body = await encrypted(api_server, PLAIN)
    assert (await api_server.client.post(path, json=body)).status_code == 401
    refused = await api_server.client.post(path, json=body, headers=developer.headers)
    assert refused.status_code == 403
    assert refused.json()["details"]["permission"] == "admin:users"
    assert "payloads" not in refused.json()


@pytest.mark.parametrize("body", [b"", b"{", b'{"payloads": 7}', b'{"strange": []}', b"\xff\xfe"])
async def test_a_malformed_body_is_told(api_server: ApiServer, admin: Person, body: bytes) -> None:
    answer = await api_server.client.post(DECODE, content=body, headers=admin.headers)
    assert answer.status_code == 400
    assert "payloads" in answer.json()["detail"]


async def test_another_namespace_is_refused(api_server: ApiServer, admin: Person) -> None:
    headers = {**admin.headers, "X-Namespace": "elsewhere"}
    answer = await api_server.client.post(DECODE, json={"payloads": []}, headers=headers)
    assert answer.status_code == 400
    assert "elsewhere" in answer.json()["detail"]


async def test_a_page_of_another_origin_cannot_use_the_cookie(api_server: ApiServer, admin: Person) -> None:
    body = await encrypted(api_server, PLAIN)
    async with await api_server.browser(admin) as browser:
        for origin in ("https://evil.example", "null", ui_origin(api_server) + "0"):
            answer = await browser.post(DECODE, json=body, headers={"Origin": origin})
            assert answer.status_code == 403
            assert answer.json()["code"] == "cross_origin"
            assert "access-control-allow-origin" not in answer.headers
            preflight = await browser.options(DECODE, headers={"Origin": origin})
            assert "access-control-allow-origin" not in preflight.headers


async def test_the_temporal_ui_may_read_why_it_was_refused(api_server: ApiServer, admin: Person) -> None:
    developer = await api_server.user()
    stranger, limit = {"Authorization": "Bearer prd_unknown"}, api_server.services.limits.body_size_bytes_max
    asked: list[tuple[int, dict[str, str], bytes]] = [
        (401, {}, b"{}"),
        (401, stranger, b"{}"),
        (403, developer.headers, b"{}"),
        (400, admin.headers, b"{"),
        (400, {**admin.headers, "X-Namespace": "elsewhere"}, b"{}"),
        (413, admin.headers, b" " * (limit + 1)),
    ]
    for path in (DECODE, f"{PATH}/encode"):
        for status, headers, body in asked:
            origin = {"Origin": ui_origin(api_server)}
            answer = await api_server.client.post(path, content=body, headers={**headers, **origin})
            assert (answer.status_code, answer.json()["status"]) == (status, status)
            assert answer.headers["access-control-allow-origin"] == origin["Origin"]
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["vary"] == "origin"


async def test_the_temporal_ui_decodes_with_the_administrators_session(api_server: ApiServer, admin: Person) -> None:
    origin = {"Origin": ui_origin(api_server)}
    async with await api_server.browser(admin) as browser:
        preflight = await browser.options(
            DECODE,
            headers={
                **origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,x-namespace",
            },
        )
        assert preflight.status_code == 204
        assert "x-namespace" in preflight.headers["access-control-allow-headers"]
        answer = await browser.post(
            DECODE,
            json=await encrypted(api_server, PLAIN, PLAIN),
            headers={**origin, "X-Namespace": api_server.services.namespace},
        )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["cache-control"] == "no-store"
    assert payloads_of(answer) == [PLAIN, PLAIN]


async def test_what_is_encoded_here_is_decoded_here(api_server: ApiServer, admin: Person) -> None:
    body = MessageToDict(Payloads(payloads=[PLAIN]))
    encoded = await api_server.client.post(f"{PATH}/encode", json=body, headers=admin.headers)
    assert payloads_of(encoded)[0].metadata["encoding"] == b"binary/perdure-encrypted"
    decoded = await api_server.client.post(DECODE, content=encoded.content, headers=admin.headers)
    assert payloads_of(decoded) == [PLAIN]


async def test_payloads_that_are_not_ours_come_back_as_they_are(api_server: ApiServer, admin: Person) -> None:
    body = MessageToDict(Payloads(payloads=[PLAIN]))
    answer = await api_server.client.post(DECODE, json=body, headers=admin.headers)
    assert payloads_of(answer) == [PLAIN]
