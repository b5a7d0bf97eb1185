"""Lists that are longer than a page: each leads on to the next, to its end, with nothing twice and nothing left out."""

import html
import re
import secrets
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from api.pages.more import more_url
from database.store.access.bindings import bind, holder_by_name
from database.store.access.delegations import lend
from database.store.access.roles import role_by_name
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from domain.actors import SYSTEM
from tests.api.pages.test_account import HTML, csrf
from tests.support.api import ApiServer, Person
from tests.support.factories import TestUser

SHOWN = 2
ROLES = ("agent", "developer", "ops", "viewer", "admin")
LENT = (Permission.PROJECT_READ, Permission.PROJECT_WRITE, Permission.PIPELINE_RUN)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "people.BINDINGS_SHOWN_MAX",
        "people.SHOWN_MAX",
        "organizations.SHOWN_MAX",
        "organizations.TEAMS_SHOWN_MAX",
        "teams.MEMBERS_SHOWN_MAX",
        "delegations.SHOWN_MAX",
        "why.BINDINGS_SHOWN_MAX",
        "why.HOLDERS_SHOWN_MAX",
    ):
        monkeypatch.setattr(f"api.pages.access.{name}", SHOWN)


@pytest.fixture
async def reader(api_server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with await api_server.browser(person) as client:
        client.headers.update(HTML)
        yield client


@pytest.fixture
async def admin(api_server: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    async with await api_server.browser(await api_server.user(role="admin")) as client:
        client.headers.update(HTML)
        yield client


async def all_of(browser: httpx.AsyncClient, path: str, item: str, *, cursor: str = "cursor") -> list[str]:
    """What ``item`` finds on all pages; ``cursor`` tells which of the links of a page to follow."""
    found: list[str] = []
    while True:
        page = await browser.get(path)
        assert page.status_code == 200, page.text
        here = re.findall(item, page.text)
        assert len(here) <= SHOWN
        found += here
        links = [html.unescape(link) for link in re.findall(r'class="button" href="([^"]+)">More<', page.text)]
        following = [link for link in links if httpx.URL(link).params.get(cursor) != httpx.URL(path).params.get(cursor)]
        if not following:
            return found
        path = following[0]


async def bind_all(server: ApiServer, holders: Sequence[str], roles: Sequence[str], project: object = None) -> None:
    async with server.transaction() as session:
        for holder in holders:
            found = await holder_by_name(session, holder)
            for role in roles:
                known = await role_by_name(session, role)
                await bind(session, SYSTEM, known, found, project_id=project, expires_at=None)  # type: ignore[arg-type]  # an id


def test_a_list_that_ends_leads_nowhere_and_empty_parameters_are_left_out() -> None:
    assert more_url("/people", None, kind="agent") is None
    assert more_url("/people", "c&d", parameter="given", kind="agent", prefix="", other=None) == (
        "/people?kind=agent&given=c%26d"
    )


async def test_a_cursor_of_another_list_is_refused(reader: httpx.AsyncClient, person: Person) -> None:
    for path in ("/me/delegations?given=x", f"/people/{person.name}?cursor=x", "/organizations?cursor=x"):
        assert (await reader.get(path)).status_code == 400


async def test_roles_of_a_person(api_server: ApiServer, admin: httpx.AsyncClient) -> None:
    somebody = await api_server.user(role=None)
    await bind_all(api_server, [somebody.name], ROLES)
    found = await all_of(admin, f"/people/{somebody.name}", r'<span class="title">(\w+)</span>')
    assert sorted(found) == sorted(ROLES)


async def test_roles_and_holders_on_a_project(api_server: ApiServer, reader: httpx.AsyncClient, person: Person) -> None:
    project = await api_server.project(person)
    people = [(await api_server.user(role=None)).name for _ in range(5)]
    await bind_all(api_server, people, ["viewer"], project.id)
    here = f"/{project.full_name}/access"
    found = await all_of(reader, here, r'<span class="title">([\w-]+): viewer</span>', cursor="bound")
    assert sorted(found) == sorted(people)
    held = await all_of(reader, f"{here}?permission=project:manage", r'class="title" href="/people/([^"]+)"')
    assert person.name in held
    assert len(held) == len(set(held))
    form = {"csrf_token": await csrf(reader, here), "role": "viewer", "holder": "nobody-is-called-so"}
    refused = await reader.post(f"{here}/roles", data=form)
    assert refused.status_code == 404
    for link in re.findall(r'class="button" href="([^"]+)">More<', refused.text):
        assert (await reader.get(html.unescape(link))).status_code == 200


async def test_what_is_lent_and_received(api_server: ApiServer, reader: httpx.AsyncClient, person: Person) -> None:
    lender = await api_server.user()
    others = [await api_server.user(role=None) for _ in range(3)]
    async with api_server.transaction() as session:
        for permission in LENT:
            await lend(session, lender.user.actor, person.name, Offer(frozenset({permission})))
        for other in others:
            await lend(session, person.user.actor, other.name, Offer(frozenset({Permission.PROJECT_READ})))
    given = await all_of(reader, "/me/delegations", r'<span class="title">to ([\w-]+) ', cursor="given")
    assert sorted(given) == sorted(other.name for other in others)
    received = await all_of(
        reader, "/me/delegations", rf"from {lender.name} (?s:.*?)<code>([\w:]+)</code>", cursor="received"
    )
    assert sorted(received) == sorted(LENT)


async def test_teams_of_an_organisation_and_who_is_in_one(
    api_server: ApiServer, reader: httpx.AsyncClient, person: Person
) -> None:
    name = f"org-{secrets.token_hex(4)}"
    token = await csrf(reader, "/organizations")
    await reader.post("/organizations", data={"csrf_token": token, "name": name})
    here = f"/organizations/{name}"
    for team in ("a", "b", "c", "d"):
        await reader.post(f"{here}/teams", data={"csrf_token": token, "name": team})
    found = await all_of(reader, here, rf'class="title" href="{here}/teams/([^"]+)"')
    assert found == ["a", "b", "c", "d", "owners"]
    people: list[TestUser] = [(await api_server.user(role=None)).user for _ in range(4)]
    for one in people:
        await reader.post(f"{here}/teams/owners/members", data={"csrf_token": token, "member": one.name})
    members = await all_of(reader, f"{here}/teams/owners", r'class="title" href="/people/([^"]+)"')
    assert members == sorted([person.name, *(one.name for one in people)])


async def test_people_and_organisations(api_server: ApiServer, admin: httpx.AsyncClient) -> None:
    prefix = f"many-{secrets.token_hex(4)}"
    people = [(await api_server.user(f"{prefix}-{number}", role=None)).name for number in range(5)]
    assert await all_of(admin, f"/people?prefix={prefix}", r'class="title" href="/people/([^"]+)"') == people
    token = await csrf(admin, "/organizations")
    for number in range(3):
        await admin.post("/organizations", data={"csrf_token": token, "name": f"{prefix}-org-{number}"})
    found = await all_of(admin, "/organizations", r'class="title" href="/organizations/([^"]+)"')
    assert [one for one in found if one.startswith(prefix)] == [f"{prefix}-org-{number}" for number in range(3)]
