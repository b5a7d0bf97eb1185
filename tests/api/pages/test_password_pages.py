from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.api.access.test_mailed_links import NEW
from tests.support.api import ApiServer, Person
from tests.support.mails import Mailbox

HTML = {"Accept": "text/html"}


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    person = await api_server.user()
    async with api_server.transaction() as session:
        await session.execute(text("UPDATE users SET email_verified_at = now() WHERE id = :id"), {"id": person.user.id})
    return person


@pytest.fixture
async def token(api_server: ApiServer, person: Person, tmp_path: Path) -> str:
    """Of a link that was mailed because somebody filled in the form."""
    address = f"{person.name}@example.org"
    mailbox = Mailbox(tmp_path / "outbox", api_server.services)
    shown = await _post(api_server, "/password/reset", email=address)
    assert shown.status_code == 200
    assert "a mail is on its way" in shown.text
    await mailbox.deliver()
    [token] = mailbox.tokens_to(address)
    return token


async def _post(server: ApiServer, path: str, **form: str) -> httpx.Response:
    return await server.client.post(path, data=form, headers=HTML)


async def _get(server: ApiServer, path: str) -> httpx.Response:
    return await server.client.get(path, headers=HTML)


async def test_what_is_no_address_shows_the_form_again_with_what_was_typed(api_server: ApiServer) -> None:
    shown = await _post(api_server, "/password/reset", email='"><script>@')
    assert shown.status_code == 400
    assert "is no e-mail address" in shown.text
    assert 'value="&#34;&gt;&lt;script&gt;@"' in shown.text


@pytest.mark.parametrize("path", ["/password/new?token=x", "/password/new", f"/password/new?token={'a' * 43}"])
async def test_a_link_that_is_not_good_is_told_before_anything_is_typed(api_server: ApiServer, path: str) -> None:
    shown = await _get(api_server, path)
    assert shown.status_code == 400
    assert "This link is not good" in shown.text


@pytest.mark.parametrize(
    ("password", "again", "reason"),
    [
        ("short", "short", "at least 12 characters"),
        ("password2026!", "password2026!", "everybody tries first"),
        (NEW, f"{NEW}!", "not the same"),
    ],
)
async def test_a_refused_password_says_why_and_the_form_can_be_sent_again(
    api_server: ApiServer, token: str, password: str, again: str, reason: str
) -> None:
    shown = await _post(api_server, "/password/new", token=token, password=password, again=again)
    assert shown.status_code == 400
    assert reason in shown.text
    assert password not in shown.text
    assert (await _post(api_server, "/password/new", token=token, password=NEW, again=NEW)).status_code == 200


async def test_opening_a_link_changes_nothing(api_server: ApiServer, person: Person, token: str) -> None:
    for _ in range(3):
        shown = await _get(api_server, f"/password/new?token={token}")
        assert person.name in shown.text
        assert shown.headers["referrer-policy"] == "same-origin"
        assert shown.headers["cache-control"] == "no-store"
    set_now = await _post(api_server, "/password/new", token=token, password=NEW, again=NEW)
    assert "Your password is set" in set_now.text
    assert "set-cookie" not in set_now.headers, "reading somebody's mail does not sign in past a second factor"
    assert (await _get(api_server, f"/password/new?token={token}")).status_code == 400


async def test_an_address_is_verified_by_a_button_not_by_opening_the_link(
    api_server: ApiServer, tmp_path: Path
) -> None:
    newcomer = await api_server.user()
    mailbox = Mailbox(tmp_path / "verify", api_server.services)
    asked = await api_server.client.post("/api/v1/me/email/verification", headers=newcomer.headers)
    assert asked.status_code == 202
    await mailbox.deliver()
    [link] = mailbox.tokens_to(f"{newcomer.name}@example.org")
    for _ in range(2):
        assert "This is my address" in (await _get(api_server, f"/verify?token={link}")).text
    confirmed = await _post(api_server, "/verify", token=link)
    assert f"{newcomer.name}@example.org is the verified e-mail address" in confirmed.text
    assert (await _post(api_server, "/verify", token=link)).status_code == 400
