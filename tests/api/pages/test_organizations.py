"""The pages of organisations with their teams, and of roles."""

import re
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

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


class TestOrganizations:
    async def test_one_that_cannot_be_made_says_why(self, reader: httpx.AsyncClient, person: Person) -> None:
        form = {"csrf_token": await csrf(reader, "/organizations"), "name": person.name}
        page = await reader.post("/organizations", data=form)
        assert page.status_code == 409
        assert "is taken" in page.text
        assert f'value="{person.name}"' in page.text

    @pytest.mark.usefixtures("admin")
    async def test_its_owner_makes_teams_and_takes_people_in_and_out(
        self, api_server: ApiServer, reader: httpx.AsyncClient, person: Person
    ) -> None:
        token, name = await csrf(reader, "/organizations"), f"org-{secrets.token_hex(4)}"
        made = await reader.post("/organizations", data={"csrf_token": token, "name": name})
        here = f"/organizations/{name}"
        assert (made.status_code, made.headers["location"]) == (303, here)
        assert f'href="{here}"' in (await reader.get("/organizations")).text
        await reader.post(f"{here}/teams", data={"csrf_token": token, "name": "backend"})
        somebody = await api_server.user(role=None)
        members = f"{here}/teams/backend/members"
        assert (await reader.post(members, data={"csrf_token": token, "member": somebody.name})).status_code == 303
        assert f'href="/people/{somebody.name}"' in (await reader.get(here)).text
        async with await api_server.browser(somebody) as theirs:
            assert "you are in it" in (await theirs.get(here, headers=HTML)).text
            seen = await theirs.get(f"{here}/teams/backend", headers=HTML)
            assert somebody.name in seen.text
            assert "Take out" not in seen.text
            theirs_token = await csrf(theirs, "/organizations")
            refused = await theirs.post(
                f"{here}/teams", data={"csrf_token": theirs_token, "name": "mine"}, headers=HTML
            )
            assert refused.status_code == 403
            assert "Only the owners" in refused.text
        assert (await reader.post(f"{members}/{somebody.name}/remove", data={"csrf_token": token})).status_code == 303
        assert somebody.name not in (await reader.get(here)).text
        last = await reader.post(f"{here}/teams/owners/members/{person.name}/remove", data={"csrf_token": token})
        assert last.status_code == 409
        assert 'role="alert"' in last.text
        assert "Take out" in last.text
        assert (await reader.post(f"{here}/teams/backend/delete", data={"csrf_token": token})).status_code == 303
        assert "/backend" not in (await reader.get(here)).text

    async def test_a_team_is_called_and_described_differently_and_keeps_who_is_in_it(
        self, api_server: ApiServer, reader: httpx.AsyncClient
    ) -> None:
        token, name = await csrf(reader, "/organizations"), f"org-{secrets.token_hex(4)}"
        here = f"/organizations/{name}"
        await reader.post("/organizations", data={"csrf_token": token, "name": name})
        for team in ("backend", "frontend"):
            await reader.post(f"{here}/teams", data={"csrf_token": token, "name": team})
        somebody = await api_server.user(role=None)
        await reader.post(f"{here}/teams/backend/members", data={"csrf_token": token, "member": somebody.name})
        for called, status, said in (("frontend", 409, "already"), ("Not A Name", 400, "cannot be called")):
            form = {"csrf_token": token, "name": called}
            refused = await reader.post(f"{here}/teams/backend/change", data=form)
            assert (refused.status_code, said in refused.text) == (status, True)
        form = {"csrf_token": token, "name": "platform", "description": "keeps it running"}
        changed = await reader.post(f"{here}/teams/backend/change", data=form)
        assert (changed.status_code, changed.headers["location"]) == (303, f"{here}/teams/platform")
        page = (await reader.get(f"{here}/teams/platform")).text
        assert "keeps it running" in page
        assert somebody.name in page
        assert (await reader.get(f"{here}/teams/backend")).status_code == 404
        described = await reader.post(
            f"{here}/teams/owners/change", data={"csrf_token": token, "description": "in charge"}
        )
        assert described.status_code == 303
        assert "in charge" in (await reader.get(f"{here}/teams/owners")).text

    async def test_only_administrators_take_one_out_of_use_and_back(
        self, reader: httpx.AsyncClient, admin: httpx.AsyncClient
    ) -> None:
        token, name = await csrf(reader, "/organizations"), f"org-{secrets.token_hex(4)}"
        here = f"/organizations/{name}"
        await reader.post("/organizations", data={"csrf_token": token, "name": name})
        assert "Deactivate" not in (await reader.get(here)).text
        refused = await reader.post(f"{here}/deactivate", data={"csrf_token": token})
        assert (refused.status_code, "admin:users" in refused.text) == (403, True)
        form = {"csrf_token": await csrf(admin, "/organizations")}
        assert (await admin.post(f"{here}/deactivate", data=form)).status_code == 303
        page = (await admin.get(here)).text
        assert "<strong>deactivated</strong>" in page
        assert "Reactivate" in page
        assert (await reader.get(here)).status_code == 404
        assert (await admin.post(f"{here}/reactivate", data=form)).status_code == 303
        assert (await reader.get(here)).status_code == 200

    async def test_nobody_else_finds_it(self, api_server: ApiServer, reader: httpx.AsyncClient) -> None:
        token, name = await csrf(reader, "/organizations"), f"org-{secrets.token_hex(4)}"
        await reader.post("/organizations", data={"csrf_token": token, "name": name})
        async with await api_server.browser(await api_server.user()) as other:
            assert (await other.get(f"/organizations/{name}", headers=HTML)).status_code == 404
            token = await csrf(other, "/organizations")
            form = {"csrf_token": token, "name": "mine"}
            assert (await other.post(f"/organizations/{name}/teams", data=form, headers=HTML)).status_code == 404


class TestRoles:
    async def test_everybody_reads_them_and_only_administrators_change_them(self, reader: httpx.AsyncClient) -> None:
        page = (await reader.get("/roles")).text
        assert "<code>*:*</code>" in page
        assert "Make a role" not in page
        form = {"csrf_token": await csrf(reader, "/roles"), "name": "mine"}
        assert (await reader.post("/roles", data=form)).status_code == 403

    async def test_a_custom_one_is_made_changed_and_deleted(self, admin: httpx.AsyncClient) -> None:
        token, name = await csrf(admin, "/roles"), f"role-{secrets.token_hex(4)}"
        form: dict[str, object] = {"csrf_token": token, "name": name, "permissions": ["project:read", "deploy:read"]}
        assert (await admin.post("/roles", data=form)).status_code == 303
        assert _bundled((await admin.get("/roles")).text, name) == ["deploy:read", "project:read"]
        again = await admin.post("/roles", data=form)
        assert again.status_code == 409
        assert "already" in again.text
        change = {"csrf_token": token, "description": "of the night", "permissions": ["project:read"]}
        assert (await admin.post(f"/roles/{name}/change", data=change)).status_code == 303
        page = (await admin.get("/roles")).text
        assert _bundled(page, name) == ["project:read"]
        assert "of the night" in page
        assert (await admin.post(f"/roles/{name}/delete", data={"csrf_token": token})).status_code == 303
        assert name not in (await admin.get("/roles")).text

    async def test_those_of_the_platform_stay_as_they_are(self, admin: httpx.AsyncClient) -> None:
        form = {"csrf_token": await csrf(admin, "/roles")}
        page = await admin.post("/roles/viewer/delete", data=form)
        assert page.status_code == 409
        assert "system role" in page.text


def _bundled(page: str, role: str) -> list[str]:
    row = page.partition(f'<span class="title">{role}</span>')[2].partition("<details>")[0]
    return re.findall(r"<code>([^<]+)</code>", row)
