"""The pages that say why somebody may do something, and who may."""

import html
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from domain.projects import ProjectView
from tests.api.pages.test_account import HTML, csrf
from tests.support.api import ApiServer, Person


@pytest.fixture
async def owner(api_server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """The owner of ``project`` at a browser."""
    async with await api_server.browser(person) as client:
        client.headers.update(HTML)
        yield client


class TestWhy:
    async def test_the_form_alone_asks_nothing(self, owner: httpx.AsyncClient) -> None:
        page = await owner.get("/access/why")
        assert page.status_code == 200
        assert "answer-title" not in page.text

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"permission": "project:read", "project": "no/such"}, 404),
            ({"permission": "admin:users", "project": "{project}"}, 400),
            ({"permission": "project:read", "user": "nobody-is-called-so", "project": "{project}"}, 404),
            ({"permission": "project:read", "user": "somebody-else"}, 403),
        ],
    )
    async def test_what_is_refused_says_why(
        self, owner: httpx.AsyncClient, project: ProjectView, query: dict[str, str], status: int
    ) -> None:
        asked = {key: value.format(project=project.full_name) for key, value in query.items()}
        page = await owner.get("/access/why", params=asked)
        assert page.status_code == status
        assert 'role="alert"' in page.text
        assert "answer-title" not in page.text

    async def test_shows_the_path_or_what_is_missing(
        self, api_server: ApiServer, owner: httpx.AsyncClient, project: ProjectView
    ) -> None:
        asked = {"permission": "project:write", "project": project.full_name, "user": ""}
        page = (await owner.get("/access/why", params=asked)).text
        assert "allowed" in page
        assert '<span class="title">owner</span>' in page
        stranger = await api_server.user(role=None)
        page = (await owner.get("/access/why", params=asked | {"user": stranger.name})).text
        assert "refused" in page
        assert "a role that bundles project:write" in page


class TestWhoMayEverywhere:
    async def test_is_for_administrators_only(self, api_server: ApiServer, owner: httpx.AsyncClient) -> None:
        assert (await owner.get("/access/who")).status_code == 403
        assert 'href="/access/who' not in (await owner.get("/access/why")).text
        admin = await api_server.user(role="admin")
        async with await api_server.browser(admin) as client:
            assert 'href="/access/who"' in (await client.get("/access/why", headers=HTML)).text
            assert 'href="/people/' in await _all_who(client, "/access/who", "admin:users")
            assert admin.name in await _all_who(client, "/access/who", "project:create")


class TestWhoMay:
    async def test_is_linked_from_the_project_for_whoever_manages_it_only(
        self, api_server: ApiServer, owner: httpx.AsyncClient
    ) -> None:
        project = await api_server.project(await api_server.user(), visibility="public")
        here = f"/{project.full_name}"
        assert f'href="{here}/access"' not in (await owner.get(here)).text
        assert (await owner.get(f"{here}/access")).status_code == 403

    async def test_shows_who_may_and_gives_and_takes_roles(
        self, api_server: ApiServer, owner: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        here = f"/{project.full_name}/access"
        assert f'href="{here}"' in (await owner.get(f"/{project.full_name}")).text
        somebody = await api_server.user(role=None)
        form = {"csrf_token": await csrf(owner, here), "role": "viewer", "holder": somebody.name}
        assert (await owner.post(f"{here}/roles", data=form)).status_code == 303
        page = await _all_who(owner, here, "project:read")
        assert f'href="/people/{somebody.name}"' in page
        assert f'href="/people/{person.name}"' in page
        assert "role viewer on the project" in page
        assert somebody.name not in await _all_who(owner, here, "project:write")
        page = (await owner.get(here)).text
        take = re.search(rf'action="({here}/roles/[0-9a-f-]+/take)"', page)
        assert take
        assert (await owner.post(take[1], data={"csrf_token": form["csrf_token"]})).status_code == 303
        assert somebody.name not in (await owner.get(here)).text

    @pytest.mark.parametrize(
        ("changes", "status"), [({"holder": "nobody-is-called-so"}, 404), ({"role": "ops"}, 303), ({"role": "x"}, 404)]
    )
    async def test_what_is_refused_says_why(
        self,
        api_server: ApiServer,
        owner: httpx.AsyncClient,
        project: ProjectView,
        changes: dict[str, str],
        status: int,
    ) -> None:
        here = f"/{project.full_name}/access"
        somebody = await api_server.user(role=None)
        form = {"csrf_token": await csrf(owner, here), "role": "viewer", "holder": somebody.name, **changes}
        page = await owner.post(f"{here}/roles", data=form)
        assert page.status_code == status
        assert ('role="alert"' in page.text) == (status != 303)


async def _all_who(client: httpx.AsyncClient, here: str, permission: str) -> str:
    """Every page of who holds a permission: others' tests leave people with roles that are good everywhere."""
    url, shown = f"{here}?permission={permission}", ""
    while url:
        page = (await client.get(url)).text
        shown += page.partition('id="who-title"')[2].partition('id="bound-title"')[0]
        more = re.search(r'class="button" href="([^"]+)">More<', page)
        url = html.unescape(more[1]) if more else ""
    assert f'<option value="{permission}" selected>' in shown
    return shown
