"""The page of the audit log: what it shows to whom, and that a filter which makes no sense is told."""

from uuid import uuid4

import pytest

from database.store.audit import record
from domain.actors import Origin
from domain.audit.actions import AuditAction
from tests.support.api import ApiServer, Person


async def page(server: ApiServer, person: Person, query: str = "", *, status: int = 200) -> str:
    browser = await server.browser(person)
    async with browser:
        answer = await browser.get(f"/audit{query}", headers={"accept": "text/html"})
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?address=nowhere", "is no IP address"),
        ("?target=nobody", "is no id"),
        ("?since=yesterday", "is no time"),
        ("?until=%3Cscript%3E", "is no time"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_told_and_kept(api_server: ApiServer, query: str, told: str) -> None:
    ada = await api_server.user()
    text = await page(api_server, ada, query, status=400)
    assert told in text
    assert "<script>" not in text


async def test_a_project_that_may_not_be_seen_is_none(api_server: ApiServer) -> None:
    owner, stranger = await api_server.user(), await api_server.user(role=None)
    project = await api_server.project(owner)
    await page(api_server, stranger, f"?project={project.full_name}", status=404)
    await page(api_server, stranger, "?project=nonsense", status=404)
    viewer = await api_server.user(role="viewer")
    refused = await page(api_server, viewer, f"?project={project.full_name}", status=403)
    assert "audit:read" in refused
    shown = await page(api_server, owner, f"?project={project.full_name}")
    assert "project:create" in shown
    assert f"/api/v1/projects/{project.full_name}/audit/export" in shown


async def test_an_act_shows_who_for_whom_what_and_what_changed(api_server: ApiServer) -> None:
    admin, ada, bob = await api_server.user(role="admin"), await api_server.user(), await api_server.user()
    actor = bob.user.actor.model_copy(
        update={"on_behalf_of": (ada.user.id,), "origin": Origin(ip="192.0.2.5", user_agent="<b>agent</b>")}
    )
    target = uuid4()
    async with api_server.transaction() as session:
        await record(
            session,
            actor,
            AuditAction.ROLE_UPDATE,
            "role",
            target,
            before={"name": "old <i>"},
            after={"name": "new", "n": 2},
        )
    text = await page(api_server, admin, f"?target={target}")
    for shown in (bob.name, ada.name, "192.0.2.5", "old &lt;i&gt;", "new", "&lt;b&gt;agent&lt;/b&gt;", "role:update"):
        assert shown in text, shown
    assert "Everything that was done" in text
    assert "form=csv" in text
    assert str(target) in await page(api_server, ada)
    own = await page(api_server, ada)
    assert "What you did" in own
    assert "form=csv" not in own
    assert "Nothing was found" in await page(api_server, ada, "?action=nothing:like")
    today = await page(api_server, admin, f"?since=2026-01-01&until=2100-01-01&target={target}")
    assert "role:update" in today
