"""The pages of people, agents and services."""

import re
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text

from database.store.access.delegations import lend
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from tests.api.pages.test_account import HTML, csrf
from tests.support.api import ApiServer, Person


@pytest.fixture
async def reader(api_server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """A developer at a browser."""
    async with await api_server.browser(person) as client:
        client.headers.update(HTML)
        yield client


@pytest.fixture
async def admin(api_server: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator at a browser."""
    async with await api_server.browser(await api_server.user(role="admin")) as client:
        client.headers.update(HTML)
        yield client


def fresh(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(4)}"


class TestAPlainReader:
    async def test_sees_only_themselves_and_whom_they_answer_for(
        self, api_server: ApiServer, reader: httpx.AsyncClient, person: Person
    ) -> None:
        stranger = await api_server.user()
        token, name = await csrf(reader, "/people"), fresh("bot")
        made = await reader.post("/people", data={"csrf_token": token, "name": name, "kind": "agent"})
        assert (made.status_code, made.headers["location"]) == (303, f"/people/{name}")
        page = (await reader.get("/people")).text
        assert set(re.findall(r'class="title" href="/people/([^"]+)"', page)) == {name, person.name}
        assert stranger.name not in page
        assert f"{person.name} answers for it" in page
        assert 'value="user" required' not in page
        assert '<a href="/people" aria-current="page">People</a>' not in page

    async def test_knows_little_of_others_and_changes_nothing(
        self, api_server: ApiServer, reader: httpx.AsyncClient
    ) -> None:
        stranger = await api_server.user()
        token = await csrf(reader, "/people")
        page = (await reader.get(f"/people/{stranger.name}")).text
        assert f"{stranger.name}@example.org" not in page
        assert "Deactivate" not in page
        refused = await reader.post(f"/people/{stranger.name}/deactivate", data={"csrf_token": token})
        assert refused.status_code == 403
        assert "admin:users" in refused.text
        assert 'role="alert"' in refused.text
        assert (await api_server.client.get("/api/v1/me", headers=stranger.headers)).status_code == 200
        refused = await reader.post(f"/people/{stranger.name}/roles", data={"csrf_token": token, "role": "viewer"})
        assert refused.status_code == 403

    async def test_finds_nobody_where_nobody_is(self, reader: httpx.AsyncClient) -> None:
        assert (await reader.get("/people/nobody-is-called-so")).status_code == 404

    @pytest.mark.usefixtures("admin")
    async def test_deactivates_an_agent_of_their_own(self, reader: httpx.AsyncClient) -> None:
        token, name = await csrf(reader, "/people"), fresh("bot")
        await reader.post("/people", data={"csrf_token": token, "name": name, "kind": "agent"})
        assert (await reader.post(f"/people/{name}/deactivate", data={"csrf_token": token})).status_code == 303
        page = (await reader.get(f"/people/{name}")).text
        assert "<strong>deactivated</strong>" in page
        assert "Reactivate" not in page
        assert name not in (await reader.get("/people")).text
        assert name in (await reader.get("/people?active=no&kind=agent")).text


class TestAnAdministrator:
    @pytest.mark.parametrize(
        ("changes", "status", "said"),
        [
            ({"name": "Not A Name"}, 400, "cannot be called"),
            ({"kind": "user"}, 400, "needs an e-mail address"),
            ({"responsible": "nobody-is-called-so"}, 404, "nobody who is called so"),
        ],
    )
    async def test_is_told_why_nobody_was_made_and_keeps_what_was_typed(
        self, admin: httpx.AsyncClient, changes: dict[str, str], status: int, said: str
    ) -> None:
        form = {"csrf_token": await csrf(admin, "/people"), "name": fresh("one"), "kind": "agent", **changes}
        page = await admin.post("/people", data=form)
        assert page.status_code == status
        assert said in page.text
        assert f'value="{form["name"]}"' in page.text

    async def test_invites_a_person_and_may_do_it_again(self, admin: httpx.AsyncClient) -> None:
        token, name = await csrf(admin, "/people"), fresh("ann")
        form = {"csrf_token": token, "name": name, "kind": "user", "email": f"{name}@example.org"}
        assert (await admin.post("/people", data=form)).status_code == 303
        page = (await admin.get(f"/people/{name}")).text
        assert "no password yet" in page
        assert "Mail the invitation again" in page
        assert (await admin.post(f"/people/{name}/invite", data={"csrf_token": token})).status_code == 303

    async def test_gives_and_takes_a_role(self, api_server: ApiServer, admin: httpx.AsyncClient) -> None:
        somebody = await api_server.user(role=None)
        here = f"/people/{somebody.name}"
        token = await csrf(admin, here)
        form = {"csrf_token": token, "role": "developer", "days": "7"}
        assert (await admin.post(f"{here}/roles", data=form)).status_code == 303
        again = await admin.post(f"{here}/roles", data=form)
        assert (again.status_code, "already" in again.text) == (409, True)
        page = (await admin.get(here)).text
        take = re.search(rf'action="({here}/roles/[0-9a-f-]+/take)"', page)
        assert take
        assert (await admin.post(take[1], data={"csrf_token": token})).status_code == 303
        assert "/take" not in (await admin.get(here)).text

    async def test_sees_what_is_lent_to_somebody_and_takes_it_back(
        self, api_server: ApiServer, admin: httpx.AsyncClient, reader: httpx.AsyncClient, person: Person
    ) -> None:
        borrower = await api_server.user(role=None)
        async with api_server.transaction() as session:
            for permission in (Permission.PROJECT_READ, Permission.PROJECT_WRITE):
                await lend(session, person.user.actor, borrower.name, Offer(frozenset({permission})))
        here = f"/people/{borrower.name}/delegations"
        assert (await reader.get(here)).status_code == 403
        assert here not in (await reader.get(f"/people/{borrower.name}")).text
        assert f'href="{here}"' in (await admin.get(f"/people/{borrower.name}")).text
        page = (await admin.get(here)).text
        assert page.count(f"from {person.name}") == page.count("no end of its own") == 2
        first, second = re.findall(rf'action="({here}/[0-9a-f-]+/take-back)"', page)
        form = {"csrf_token": await csrf(admin, here)}
        assert (await admin.post(first, data=form)).status_code == 303
        again = await admin.post(first, data=form)
        assert (again.status_code, "taken back before" in again.text) == (404, True)
        assert (await admin.get(here)).text.count(f"from {person.name}") == 1
        async with api_server.transaction() as session:
            await session.execute(text("DELETE FROM user_roles WHERE user_id = :id"), {"id": person.user.id})
        page = (await admin.get(f"/people/{person.name}/delegations")).text
        assert f"not good now: {person.name} does not hold it there any more" in page
        assert "no end of its own" not in page
        assert second.replace(borrower.name, person.name) in page
        assert (await admin.get("/people/nobody-is-called-so/delegations")).status_code == 404

    async def test_gives_a_role_without_an_end(self, api_server: ApiServer, admin: httpx.AsyncClient) -> None:
        here = f"/people/{(await api_server.user(role=None)).name}"
        form = {"csrf_token": await csrf(admin, here), "role": "viewer", "days": ""}
        assert (await admin.post(f"{here}/roles", data=form)).status_code == 303
        assert "ends <time" not in (await admin.get(here)).text

    async def test_changes_what_is_known_and_takes_somebody_out_of_use_and_back(
        self, api_server: ApiServer, admin: httpx.AsyncClient
    ) -> None:
        somebody = await api_server.user()
        here = f"/people/{somebody.name}"
        form = {"csrf_token": await csrf(admin, here), "display_name": "Ann of Sales", "email": ""}
        assert (await admin.post(f"{here}/change", data=form)).status_code == 303
        page = (await admin.get(here)).text
        assert "Ann of Sales" in page
        assert f"{somebody.name}@example.org" in page
        assert (await admin.post(f"{here}/deactivate", data=form)).status_code == 303
        assert (await api_server.client.get("/api/v1/me", headers=somebody.headers)).status_code == 401
        assert "Reactivate" in (await admin.get(here)).text
        assert (await admin.post(f"{here}/reactivate", data=form)).status_code == 303
        assert "<strong>deactivated</strong>" not in (await admin.get(here)).text
