"""The account page: tokens and sessions; and the page of lent rights."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from domain.access.tokens import TOKEN_PATTERN, is_token
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.factories import PASSWORD

HTML = {"accept": "text/html"}


@pytest.fixture
async def browser(api_server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with await api_server.browser(person) as client:
        client.headers.update(HTML)
        yield client


async def csrf(browser: httpx.AsyncClient, path: str) -> str:
    page = await browser.get(path)
    assert page.status_code == 200, page.text
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


def token_form(**changes: object) -> dict[str, object]:
    return {"name": "laptop", "scopes": ["project:read"], "project": "", "expires_in_days": "7", **changes}


class TestTokens:
    async def test_a_new_token_is_shown_once_and_works(self, api_server: ApiServer, browser: httpx.AsyncClient) -> None:
        form = token_form(csrf_token=await csrf(browser, "/me"))
        page = await browser.post("/me/tokens", data=form)
        found = TOKEN_PATTERN.search(page.text)
        assert found
        assert is_token(found[0])
        assert page.headers["cache-control"] == "no-store"
        again = await browser.get("/me")
        assert not TOKEN_PATTERN.search(again.text)
        assert "laptop" in again.text
        me = await api_server.client.get("/api/v1/me", headers={"authorization": f"Bearer {found[0]}"})
        assert me.json()["scopes"] == ["project:read"]

    @pytest.mark.parametrize(
        ("changes", "status", "said"),
        [
            ({"name": " "}, 422, "No token was made"),
            ({"expires_in_days": "100000"}, 422, "No token was made"),
            ({"project": "nobody/nothing"}, 404, "There is no project"),
        ],
    )
    async def test_what_is_refused_says_why(
        self, browser: httpx.AsyncClient, changes: dict[str, object], status: int, said: str
    ) -> None:
        form = token_form(csrf_token=await csrf(browser, "/me"), **changes)
        page = await browser.post("/me/tokens", data=form)
        assert page.status_code == status
        assert said in page.text
        assert not TOKEN_PATTERN.search(page.text)

    async def test_a_revoked_one_is_gone_at_once(self, api_server: ApiServer, browser: httpx.AsyncClient) -> None:
        form = token_form(csrf_token=await csrf(browser, "/me"))
        made = TOKEN_PATTERN.search((await browser.post("/me/tokens", data=form)).text)
        assert made
        page = (await browser.get("/me")).text
        revoke = re.search(r'action="(/me/tokens/[0-9a-f-]+/revoke)"[^>]*>.{0,200}?Revoke laptop', page, re.DOTALL)
        assert revoke
        await browser.post(revoke[1], data={"csrf_token": form["csrf_token"]})
        refused = await api_server.client.get("/api/v1/me", headers={"authorization": f"Bearer {made[0]}"})
        assert refused.status_code == 401

    async def test_an_old_proof_leads_to_a_new_one(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person
    ) -> None:
        form = token_form(csrf_token=await csrf(browser, "/me"))
        async with api_server.services.database.transaction() as session:
            await session.execute(
                text("UPDATE auth_sessions SET proved_at = proved_at - CAST(:age AS interval) WHERE user_id = :user"),
                {"age": timedelta(days=1), "user": person.user.id},
            )
        page = await browser.post("/me/tokens", data=form)
        assert page.status_code == 307
        assert page.headers["location"].startswith("/me/proof")


class TestSessions:
    async def test_the_others_are_ended_and_this_one_stays(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person
    ) -> None:
        async with await api_server.browser(person) as other:
            token = await csrf(browser, "/me")
            assert (await browser.get("/me")).text.count("this browser") == 1
            await browser.post("/me/sessions/end-others", data={"csrf_token": token})
            assert (await other.get("/api/v1/me")).status_code == 401
        assert (await browser.get("/me")).status_code == 200

    async def test_nobody_ends_a_session_of_somebody_else(
        self, api_server: ApiServer, browser: httpx.AsyncClient
    ) -> None:
        stranger = await api_server.user()
        async with await api_server.browser(stranger) as other:
            async with api_server.services.database.transaction() as session:
                found = await session.execute(
                    text("SELECT id FROM auth_sessions WHERE user_id = :user"), {"user": stranger.user.id}
                )
                theirs = found.scalar_one()
            token = await csrf(browser, "/me")
            await browser.post(f"/me/sessions/{theirs}/end", data={"csrf_token": token})
            assert (await other.get("/api/v1/me")).status_code == 200


class TestPassword:
    @pytest.mark.parametrize(
        ("changes", "status", "said"),
        [
            ({"again": "another thing entirely"}, 400, "not the same"),
            ({"present": "wrong"}, 401, "password"),
            ({"new": "short", "again": "short"}, 400, "at least"),
        ],
    )
    async def test_what_is_refused_says_why_and_changes_nothing(
        self,
        *,
        api_server: ApiServer,
        browser: httpx.AsyncClient,
        person: Person,
        changes: dict[str, str],
        status: int,
        said: str,
    ) -> None:
        page = await browser.post("/me/password", data=await _new_password(browser) | changes)
        assert page.status_code == status
        assert said in page.text
        assert 'role="alert"' in page.text
        body = {"name": person.name, "password": PASSWORD}
        assert (await api_server.client.post("/api/v1/sessions", json=body)).status_code == 201

    async def test_a_new_one_signs_the_other_browsers_out(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person
    ) -> None:
        async with await api_server.browser(person) as other:
            page = await browser.post("/me/password", data=await _new_password(browser))
            assert "Your password is changed" in page.text
            assert (await other.get("/api/v1/me")).status_code == 401
        assert (await browser.get("/me")).status_code == 200


async def _new_password(browser: httpx.AsyncClient) -> dict[str, str]:
    new = "three new camels drink"
    return {"csrf_token": await csrf(browser, "/me"), "present": PASSWORD, "new": new, "again": new}


class TestLentRights:
    async def test_lent_seen_by_both_and_taken_back(
        self, api_server: ApiServer, browser: httpx.AsyncClient, project: ProjectView
    ) -> None:
        borrower = await api_server.user(role=None)
        form = {
            "to": borrower.name,
            "permissions": ["project:read"],
            "project": project.full_name,
            "hours": "8",
            "reason": "shift of tonight",
            "csrf_token": await csrf(browser, "/me/delegations"),
        }
        address = f"/api/v1/projects/{project.full_name}"
        assert (await api_server.client.get(address, headers=borrower.headers)).status_code == 404
        assert (await browser.post("/me/delegations", data=form)).status_code == 303
        page = (await browser.get("/me/delegations")).text
        assert f"to {borrower.name}" in page
        assert "shift of tonight" in page
        assert re.search(r"7 h 5\d min left", page)
        assert (await api_server.client.get(address, headers=borrower.headers)).status_code == 200
        async with await api_server.browser(borrower) as theirs:
            received = (await theirs.get("/me/delegations", headers=HTML)).text
            assert "shift of tonight" in received
            assert "Take back" not in received
        end = re.search(r'action="(/me/delegations/[0-9a-f-]+/take-back)"', page)
        assert end
        await browser.post(end[1], data={"csrf_token": form["csrf_token"]})
        assert (await api_server.client.get(address, headers=borrower.headers)).status_code == 404
        assert "shift of tonight" not in (await browser.get("/me/delegations")).text

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"to": "nobody-is-called-so"}, 404),
            ({"permissions": ["admin:users"]}, 403),
            ({"project": "no/such"}, 404),
            ({"permissions": []}, 400),
        ],
    )
    async def test_what_is_refused_says_why_and_lends_nothing(
        self, api_server: ApiServer, browser: httpx.AsyncClient, changes: dict[str, object], status: int
    ) -> None:
        form: dict[str, Any] = {
            "to": (await api_server.user(role=None)).name,
            "permissions": ["project:read"],
            "hours": "1",
            "csrf_token": await csrf(browser, "/me/delegations"),
            **changes,
        }
        page = await browser.post("/me/delegations", data=form)
        assert page.status_code == status
        assert 'role="alert"' in page.text
        assert "Nothing at present" in page.text
        assert f'name="to" value="{form["to"]}"' in page.text
        assert page.text.count(" checked>") == len(form["permissions"])
