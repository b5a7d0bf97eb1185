from collections.abc import AsyncIterator

import httpx
import pytest

from api.pages.access.visit import local_path
from tests.support.api import ApiServer
from tests.support.factories import PASSWORD


async def test_an_unknown_address_answers_a_problem_document(api_server: ApiServer) -> None:
    answer = await api_server.client.get("/api/v1/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "not_found"
    assert body["type"] == "urn:perdure:problem:not_found"
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_a_wrong_method_names_those_that_work(api_server: ApiServer) -> None:
    answer = await api_server.client.put("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(("sent", "kept"), [("abcd-1234", True), ("a b", False), ("x" * 65, False), ("short", False)])
async def test_a_request_id_is_kept_if_it_is_sane(api_server: ApiServer, sent: str, kept: bool) -> None:
    answer = await api_server.client.get("/healthz", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept


async def test_a_body_over_the_limit_is_413_by_length_and_by_count(api_server: ApiServer) -> None:
    person = await api_server.user()
    size_bytes = api_server.services.limits.body_size_bytes_max + 1
    headers = {**person.headers, "content-type": "application/json"}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size_bytes // 65536 + 1):
            yield b" " * 65536

    for content in (b" " * size_bytes, chunks()):
        answer = await api_server.client.post("/api/v1/projects", headers=headers, content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_what_nobody_foresaw_is_a_500_without_a_trace(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(api_server.services.metrics, "render", broken)
    answer = await api_server.client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret inside" not in answer.text
    assert "secret inside" in caplog.text
    assert answer.json()["request_id"] in caplog.text


async def test_a_person_with_a_browser_gets_pages(api_server: ApiServer) -> None:
    headers = {"Accept": "text/html"}
    sent_to_login = await api_server.client.get("/owner/project?x=1", headers=headers)
    assert sent_to_login.status_code == 303
    assert sent_to_login.headers["location"] == "/login?next=%2Fowner%2Fproject%3Fx%3D1"
    person = await api_server.user()
    missing = await api_server.client.get("/owner/project", headers={**headers, **person.headers})
    assert missing.status_code == 404
    assert missing.headers["content-type"].startswith("text/html")
    assert missing.headers["x-request-id"] in missing.text
    assert "script-src 'self'" in missing.headers["content-security-policy"]
    assert missing.headers["x-content-type-options"] == "nosniff"
    assert missing.headers["cache-control"] == "no-store"


def _field(page: str, name: str) -> str:
    return page.split(f'name="{name}" value="')[1].split('"', maxsplit=1)[0]


async def test_the_login_page_signs_in_and_leads_back(api_server: ApiServer) -> None:
    person = await api_server.user()
    async with httpx.AsyncClient(base_url=api_server.base_url, trust_env=False) as browser:
        page = await browser.get("/login?next=/api/v1/me")
        assert page.status_code == 200
        form = {"csrf_token": _field(page.text, "csrf_token"), "next": _field(page.text, "next"), "name": person.name}
        wrong = await browser.post("/login", data={**form, "password": "wrong"})
        assert wrong.status_code == 401
        assert "The name or the password is not right." in wrong.text
        foreign = await browser.post("/login", data={**form, "password": PASSWORD, "csrf_token": "0" * 64})
        assert foreign.status_code == 403
        right = await browser.post("/login", data={**form, "password": PASSWORD})
        assert (right.status_code, right.headers["location"]) == (303, "/api/v1/me")
        me = (await browser.get("/api/v1/me")).json()
        assert me["name"] == person.name
        out = await browser.post("/logout", data={"csrf_token": me["csrf_token"]})
        assert out.status_code == 303
        assert (await browser.get("/api/v1/me")).status_code == 401


@pytest.mark.parametrize(
    "text", ["", "https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "x", "/" + "a" * 2001]
)
def test_a_login_leads_nowhere_else(text: str) -> None:
    assert local_path(text) == "/"


def test_a_login_leads_back_to_local_paths() -> None:
    assert local_path("/a/b?c=1#d") == "/a/b?c=1#d"
