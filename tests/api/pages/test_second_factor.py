"""Signing in step by step, and forms that wait for a proof, without JavaScript."""

import base64
import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest
from sqlalchemy import text

from deploy.local.loopback import PLAIN_HTTP_ONLY
from domain.access.factors import hash_recovery_code
from tests.support.api import ApiServer, Person
from tests.support.factories import PASSWORD, make_session
from tests.support.second_factor import code_now, desk, site_origin

HTML = {"accept": "text/html"}


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


@pytest.fixture
async def browser(api_server: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=api_server.base_url, headers=HTML, trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=30
    ) as client:
        yield client


@pytest.fixture
async def signed_in(api_server: ApiServer, person: Person, browser: httpx.AsyncClient) -> httpx.AsyncClient:
    async with api_server.transaction() as session:
        _, secret = await make_session(session, person.user)
    browser.cookies.set("perdure_session", secret, domain="127.0.0.1", path="/")
    return browser


def hidden(page: httpx.Response, *, action: str = "") -> dict[str, str]:
    """The hidden fields of the page's form, or of the one that is sent to ``action``."""
    forms = re.findall(r'<form method="post" action="([^"]*)".*?>(.*?)</form>', page.text, re.DOTALL)
    body = next(body for to, body in forms if unescape(to).startswith(action))
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', body)
    return {unescape(name): unescape(value) for name, value in fields}


async def _password_step(browser: httpx.AsyncClient, person: Person, next_path: str = "/me/factors") -> httpx.Response:
    login = await browser.get("/login", params={"next": next_path})
    form = hidden(login, action="/login") | {"name": person.name, "password": PASSWORD}
    return await browser.post("/login", data=form)


async def _age_proofs(server: ApiServer, person: Person) -> None:
    async with server.transaction() as session:
        await session.execute(
            text("UPDATE auth_sessions SET proved_at = now() - interval '16 min' WHERE user_id = :id"),
            {"id": person.user.id},
        )


async def test_without_a_password_before_it_there_is_no_second_step(browser: httpx.AsyncClient) -> None:
    asked = await browser.get("/login/second-factor?next=/me/factors")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Fme%2Ffactors")
    await browser.get("/login")
    again = await browser.get("/login/second-factor")
    assert (again.status_code, again.headers["location"]) == (303, "/login?next=%2F")


async def test_a_pending_sign_in_is_no_session_and_belongs_to_its_browser(
    api_server: ApiServer, person: Person, browser: httpx.AsyncClient
) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
    asked = await _password_step(browser, person)
    assert asked.headers["location"] == "/login/second-factor?next=%2Fme%2Ffactors"
    assert "perdure_session" not in browser.cookies
    cookie = next(value for value in asked.headers.get_list("set-cookie") if value.startswith("perdure_pending"))
    assert {"HttpOnly", "SameSite=strict", "Max-Age=600"} <= set(cookie.split("; "))
    assert (await browser.get("/api/v1/me")).status_code == 401
    async with httpx.AsyncClient(
        base_url=api_server.base_url, headers=HTML, trust_env=False, verify=PLAIN_HTTP_ONLY
    ) as thief:
        await thief.get("/login")
        thief.cookies.set("perdure_pending", browser.cookies["perdure_pending"], domain="127.0.0.1", path="/")
        stolen = await thief.get("/login/second-factor")
        assert stolen.headers["location"] == "/login?next=%2F"
    page = await browser.get("/login/second-factor?next=/me/factors")
    form = hidden(page, action="/login/second-factor")
    forged = await browser.post("/login/second-factor", data=form | {"csrf_token": "0" * 64, "code": "1"})
    assert forged.status_code == 403
    wrong = await browser.post("/login/second-factor", data=form | {"code": "000000"})
    assert wrong.status_code == 401
    assert "The code is not right" in wrong.text
    right = await browser.post("/login/second-factor", data=form | {"code": code_now(secret)})
    assert (right.status_code, right.headers["location"]) == (303, "/me/factors")
    assert "perdure_pending" not in browser.cookies
    assert (await browser.get("/api/v1/me")).json()["name"] == person.name


async def test_who_was_deactivated_between_the_steps_does_not_get_in(
    api_server: ApiServer, person: Person, browser: httpx.AsyncClient
) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
        await _password_step(browser, person)
        page = await browser.get("/login/second-factor")
        await at.change("UPDATE users SET is_active = false WHERE id = :user")
    form = hidden(page, action="/login/second-factor") | {"code": code_now(secret)}
    answer = await browser.post("/login/second-factor", data=form)
    assert answer.headers["location"].startswith("/login?")


async def test_a_sign_in_leads_to_no_other_site(
    api_server: ApiServer, person: Person, browser: httpx.AsyncClient
) -> None:
    async with desk(api_server, person) as at:
        secret, _ = await at.set_up_totp()
    asked = await _password_step(browser, person, "//evil.example")
    assert asked.headers["location"] == "/login/second-factor?next=%2F"
    page = await browser.get("/login/second-factor?next=//evil.example")
    form = hidden(page, action="/login/second-factor") | {"code": code_now(secret), "next": "//evil.example"}
    assert (await browser.post("/login/second-factor", data=form)).headers["location"] == "/"


async def test_the_last_recovery_codes_lead_to_where_new_ones_are_made(
    api_server: ApiServer, person: Person, browser: httpx.AsyncClient
) -> None:
    async with desk(api_server, person) as at:
        _, codes = await at.set_up_totp()
        kept = [hash_recovery_code(person.user.id, code.replace("-", "")) for code in codes[:3]]
        await at.change("DELETE FROM recovery_codes WHERE user_id = :user AND code_hash <> ALL(:kept)", kept=kept)
    await _password_step(browser, person, "/somewhere")
    form = hidden(await browser.get("/login/second-factor?next=/somewhere"), action="/login/second-factor")
    used = await browser.post("/login/second-factor", data=form | {"code": codes[0]})
    assert used.headers["location"] == "/me/factors?next=%2Fsomewhere"
    page = await browser.get(used.headers["location"])
    assert "Only 2 recovery codes left." in page.text
    assert '<a class="button" href="/somewhere">Go on</a>' in page.text


async def test_a_form_waits_for_the_proof_and_then_goes_on(
    api_server: ApiServer, person: Person, signed_in: httpx.AsyncClient
) -> None:
    csrf = hidden(await signed_in.get("/me/factors"), action="/me/factors/totp")["csrf_token"]
    await _age_proofs(api_server, person)
    form = {"csrf_token": csrf, "extra": '<b>"kept"</b>'}
    sent_on = await signed_in.post("/me/factors/totp", data=form)
    assert (sent_on.status_code, sent_on.headers["location"]) == (307, "/me/proof?next=%2Fme%2Ffactors%2Ftotp")
    page = await signed_in.post(sent_on.headers["location"], data=form)
    assert page.status_code == 200
    kept = hidden(page, action="/me/proof")
    assert kept["extra"] == '<b>"kept"</b>'
    action = "/me/proof?next=/me/factors/totp&resend=true"
    assert action in unescape(page.text)
    wrong = await signed_in.post(action, data=kept | {"proof_password": "wrong"})
    assert wrong.status_code == 401
    assert hidden(wrong, action="/me/proof")["extra"] == form["extra"]
    right = await signed_in.post(action, data=hidden(wrong, action="/me/proof") | {"proof_password": PASSWORD})
    assert (right.status_code, right.headers["location"]) == (307, "/me/factors/totp")
    done = await signed_in.post(right.headers["location"], data=kept | {"proof_password": PASSWORD})
    assert done.status_code == 200
    assert "QR code for an authenticator app" in done.text


async def test_a_page_that_needs_a_proof_is_come_back_to(signed_in: httpx.AsyncClient) -> None:
    page = await signed_in.get("/me/proof?next=/me/factors")
    form = hidden(page, action="/me/proof") | {"proof_password": PASSWORD}
    done = await signed_in.post("/me/proof?next=/me/factors", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/me/factors")


async def test_a_link_makes_the_proof_page_send_nothing_anywhere(signed_in: httpx.AsyncClient) -> None:
    for link in (
        "/me/proof?next=/me/factors/totp/remove&resend=true",
        "/me/proof?next=%2Fme%2Ffactors%2Ftotp%2Fremove%26resend%3Dtrue",
        "/me/proof?next=//evil.example&resend=true",
    ):
        page = await signed_in.get(link)
        actions = [unescape(one) for one in re.findall(r'action="(/me/proof[^"]*)"', page.text)]
        assert actions
        assert not [one for one in actions if "&resend" in one or "evil" in one]
        form = hidden(page, action="/me/proof") | {"proof_password": PASSWORD}
        assert (await signed_in.post(actions[0], data=form)).status_code == 303


async def test_a_proof_from_another_site_is_refused(signed_in: httpx.AsyncClient) -> None:
    form = {"proof_shown": "1", "proof_password": PASSWORD}
    assert (await signed_in.post("/me/proof?next=/", data=form)).status_code == 403


async def test_a_file_cannot_wait(signed_in: httpx.AsyncClient) -> None:
    csrf = hidden(await signed_in.get("/me/factors"), action="/me/factors/totp")["csrf_token"]
    answer = await signed_in.post(
        "/me/proof?next=/x", data={"csrf_token": csrf}, files={"file": ("a.txt", b"text", "text/plain")}
    )
    assert answer.status_code == 400
    assert "A file cannot wait" in answer.text


async def test_the_pages_of_a_token_have_no_factors(api_server: ApiServer, person: Person) -> None:
    for path in ("/me/factors", "/me/proof"):
        answer = await api_server.client.get(path, headers={**person.headers, **HTML})
        assert answer.status_code == 403


async def test_all_of_it_by_hand(api_server: ApiServer, signed_in: httpx.AsyncClient) -> None:
    page = await signed_in.get("/me/factors")
    assert "Set up an app" in page.text
    assert "Recovery codes" not in page.text
    assert f'Passkeys of this installation work at <a href="{site_origin(api_server)}' in page.text
    csrf = {"csrf_token": hidden(page, action="/me/factors/totp")["csrf_token"]}
    made = await signed_in.post("/me/factors/totp", data=csrf)
    key = re.search(r'<code class="key">([A-Z2-7]+)</code>', made.text)
    assert key
    wrong = await signed_in.post("/me/factors/totp/confirm", data=csrf | {"code": "1"})
    assert wrong.status_code == 400
    assert key[1] not in wrong.text, "the key is shown once"
    assert 'name="code"' in wrong.text
    secret = base64.b32decode(key[1])
    done = await signed_in.post("/me/factors/totp/confirm", data=csrf | {"code": code_now(secret)})
    codes = re.findall(r"<li><code>([a-z2-7-]{19})</code></li>", done.text)
    assert len(codes) == 10
    assert not [code for code in codes if code in (await signed_in.get("/me/factors")).text]
    fresh = await signed_in.post("/me/factors/recovery-codes", data=csrf)
    assert len(re.findall(r"<li><code>", fresh.text)) == 10
    assert codes[0] not in fresh.text
    gone = await signed_in.post("/me/factors/totp/remove", data=csrf)
    assert (gone.status_code, gone.headers["location"]) == (303, "/me/factors")
    assert "Set up an app" in (await signed_in.get("/me/factors")).text
