"""A person, a role, a token, an agent: rights given, used, lent, narrowed and taken back, by HTTP and real git clients.

Item 1 of the verification plan of the seed: create user -> assign role -> get API token -> verify permission
enforcement -> delegate to agent -> verify scoped access.
"""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from activities.git import GitActivities
from cli.audit_live import verify_live
from domain.access.exchange import ACCESS_TOKEN, GRANT_TYPE
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.audit import SIGNING_KEY
from tests.support.browsers import by_browser
from tests.support.git import Git, Ran, new_clone
from tests.support.git_server import api_without_temporal, settle
from tests.support.stack import Stack, TestDatabase

REASON = "reads the code for the weekly report"


@dataclass(frozen=True)
class Bearer:
    """Somebody with a token."""

    server: ApiServer
    name: str
    id: str
    token: str

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """A request to ``/api/v1``."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.server.client.request(method, f"/api/v1{path}", json=body, headers=headers)

    async def clone(self, project: ProjectView, directory: Path) -> Ran:
        """A fresh clone in a directory of its own, if they may."""
        git = Git(directory, self.token)
        return await git.try_to("clone", "-q", f"{self.server.base_url}/{project.full_name}", secrets.token_hex(5))


async def made(answer: httpx.Response, status: int = 201) -> dict[str, Any]:
    """What was answered, as expected."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


class Story:
    """The administrator with two projects, and the steps that others take."""

    def __init__(self, server: ApiServer, admin: Person, project: ProjectView, other: ProjectView, here: Path) -> None:
        self.server, self.admin, self.project, self.other, self.here = server, admin, project, other, here

    @property
    def bindings(self) -> str:
        """Where roles on the project are given."""
        return f"/api/v1/projects/{self.project.full_name}/access/bindings"

    def url(self, project: ProjectView) -> str:
        """What git clones."""
        return f"{self.server.base_url}/{project.full_name}.git"

    async def by_admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        """What the administrator does in the browser, having just signed in."""
        return await by_browser(self.server, self.admin, method, path, body)

    async def make_person(self, name: str) -> Bearer:
        """Made by the administrator; signs in and makes a token."""
        password = "a clerk counts purple geese"
        body = {"name": name, "email": f"{name}@example.org", "password": password}
        user = await made(await self.by_admin("POST", "/api/v1/users", body))
        scopes = ["project:create", "project:read", "project:write"]
        wanted = {"name": "laptop", "scopes": scopes, "expires_in_days": 1}
        token = await self.server.client.post("/api/v1/tokens", auth=(name, password), json=wanted)
        return Bearer(self.server, name, user["id"], (await made(token))["token"])

    async def make_agent(self, name: str, responsible: Bearer) -> Bearer:
        """Made by the administrator; its token by who answers for it."""
        body = {"name": name, "kind": "agent", "responsible": responsible.name}
        user = await made(await self.by_admin("POST", "/api/v1/users", body))
        wanted = {"name": "runtime", "scopes": ["project:read", "project:write"], "expires_in_days": 1}
        token = await made(await self.by_admin("POST", f"/api/v1/users/{name}/tokens", wanted))
        return Bearer(self.server, name, user["id"], token["token"])

    async def give_role(self, person: Bearer) -> str:
        """``developer`` on the project; returns the binding."""
        body = {"role": "developer", "holder": person.name}
        return str((await made(await self.by_admin("POST", self.bindings, body)))["id"])

    async def exchange(self, subject: Bearer, acting: Bearer, **more: str) -> httpx.Response:
        """A token of ``subject`` is asked to become one that ``acting`` acts with."""
        fields = {
            "grant_type": GRANT_TYPE,
            "subject_token": subject.token,
            "subject_token_type": ACCESS_TOKEN,
            "actor_token": acting.token,
            "actor_token_type": ACCESS_TOKEN,
            **more,
        }
        return await self.server.client.post("/api/v1/oauth/token", data=fields)

    async def settle(self) -> None:
        """What a worker does with each push soon after."""
        services = self.server.services
        activities = GitActivities(services.database, services.repositories, services.bus)
        async with self.server.transaction() as session:
            pushes = (await session.execute(text("SELECT id FROM pushes WHERE status = 'open'"))).scalars().all()
        for push_id in pushes:
            await settle(activities, push_id)

    async def audited(self, who: Bearer, **query: str) -> list[tuple[str, str, list[str]]]:
        """What somebody did, oldest first: action, outcome, and the names of those on whose behalf."""
        path = "/api/v1/audit"
        answer = await self.server.client.get(
            path, params={"actor": who.name, "limit": "100", **query}, headers=self.admin.headers
        )
        acts = (await made(answer, 200))["items"]
        return [(act["action"], act["outcome"], [one["name"] for one in act["on_behalf_of"]]) for act in reversed(acts)]


@pytest.fixture
async def story(idle_stack: Stack, migrated: TestDatabase, tmp_path: Path) -> AsyncIterator[Story]:
    """An installation of its own, so that its whole log can be checked."""
    async with api_without_temporal(idle_stack, migrated, tmp_path / "repositories") as server:
        admin = await server.user(role="admin")
        project, other = await server.project(admin), await server.project(admin)
        for one in (project, other):
            git = await new_clone(
                tmp_path / one.name, token=admin.token.secret, url=f"{server.base_url}/{one.full_name}"
            )
            await git.commit({"README.md": one.name})
            await git("push", "-q", "origin", "main")
        yield Story(server, admin, project, other, tmp_path)


async def test_rights_are_given_used_lent_narrowed_and_taken_back(story: Story) -> None:
    ann = await story.make_person("ann")
    await nothing_before_the_role(story, ann)
    binding = await story.give_role(ann)
    await pushes_and_clones(story, ann)
    await is_refused_what_it_lacks(story, ann)

    agent = await story.make_agent("reader", ann)
    assert "not found" in (await agent.clone(story.project, story.here)).text
    await lends(story, ann, agent)
    await reads_and_no_more(story, agent)

    helper = await exchanged_for_a_helper(story, agent, await story.make_agent("helper", ann))
    await taken_back_and_given_again(story, ann, binding, agent, helper)
    await ends_with_the_person(story, ann, agent, helper)

    report = await verify_live(
        story.server.services.database, story.server.services.objects, SIGNING_KEY.public.is_signed
    )
    assert report.problems == ()
    assert report.rows > 30


async def nothing_before_the_role(story: Story, ann: Bearer) -> None:
    refused = await ann.clone(story.project, story.here)
    assert refused.code != 0
    assert "not found" in refused.text
    assert (await ann.ask("GET", f"/projects/{story.project.full_name}")).status_code == 404
    assert ("git:fetch", "success", []) not in await story.audited(ann)


async def pushes_and_clones(story: Story, ann: Bearer) -> None:
    git = Git(story.here / "work", ann.token)
    await Git(story.here, ann.token)("clone", "-q", story.url(story.project), "work")
    sha = await git.commit({"feature.txt": "made by ann\n"}, "A feature")
    await git("push", "-q", "origin", "HEAD:refs/heads/feature")
    assert (await git("ls-remote", "origin", "refs/heads/feature")).stdout.split()[0] == sha
    await story.settle()
    done = await story.audited(ann)
    assert ("git:fetch", "success", []) in done
    assert ("git:push", "success", []) in done


async def is_refused_what_it_lacks(story: Story, ann: Bearer) -> None:
    # Another project is not even seen; on this one the missing permission is named.
    assert "not found" in (await ann.clone(story.other, story.here)).text
    for method, path, permission in (
        ("DELETE", f"/projects/{story.project.full_name}", "project:delete"),
        ("GET", f"/projects/{story.project.full_name}/access/bindings", "project:manage"),
        ("POST", "/projects", "project:create"),
    ):
        refused = await ann.ask(method, path, {"name": "mine"} if method == "POST" else None)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing"), path
        assert refused.json()["details"]["permission"] == permission
        assert permission in refused.json()["detail"]
    denied = [act for act in await story.audited(ann, outcome="denied") if act[0] != "project:read"]
    assert [act[0] for act in denied] == ["project:delete", "project:manage", "project:create"]


async def lends(story: Story, ann: Bearer, agent: Bearer) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    offer = {
        "to": agent.name,
        "permissions": ["project:read"],
        "project": story.project.full_name,
        "expires_at": until.isoformat(),
        "reason": REASON,
    }
    # Nobody lends what they do not hold.
    more = await ann.ask("POST", "/delegations", {**offer, "permissions": ["project:read", "project:manage"]})
    assert (more.status_code, more.json()["code"]) == (403, "permission_missing")
    grant = await made(await ann.ask("POST", "/delegations", offer))
    assert (grant["lender"], grant["borrower"], grant["reason"]) == (ann.name, agent.name, REASON)
    assert 3500 < grant["seconds_left"] <= 3600
    acts = [act for act in await story.audited(ann) if act[0] == "delegation:create"]
    assert acts == [("delegation:create", "denied", []), ("delegation:create", "success", [])]


async def reads_and_no_more(story: Story, agent: Bearer) -> None:
    cloned = await agent.clone(story.project, story.here)
    assert cloned.code == 0, cloned.text
    assert "not found" in (await agent.clone(story.other, story.here)).text
    refused = await Git(story.here / "work", agent.token).try_to("push", story.url(story.project), "HEAD:refs/heads/x")
    assert refused.code != 0
    assert "project:write" in refused.text
    await story.settle()
    done = await story.audited(agent)
    assert ("git:fetch", "success", ["ann"]) in done
    assert [act for act in done if act[:2] == ("git:push", "success")] == []
    assert any(outcome == "denied" for _, outcome, _ in done)


async def exchanged_for_a_helper(story: Story, agent: Bearer, helper: Bearer) -> Bearer:
    """The agent lets a helper act with less of what it was lent."""
    wide = await story.exchange(agent, helper, scope="project:read admin:users")
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")
    answer = await made(
        await story.exchange(agent, helper, scope="project:read", audience=story.project.full_name, expires_in="600"),
        200,
    )
    assert (answer["scope"], answer["expires_in"]) == ("project:read", 600)
    assert answer["act"]["name"] == helper.name
    acting = Bearer(story.server, helper.name, helper.id, answer["access_token"])
    me = await made(await acting.ask("GET", "/me"), 200)
    assert (me["name"], me["rights_of"], me["scopes"]) == (helper.name, agent.id, ["project:read"])
    assert (me["on_behalf_of"], me["project_id"]) == ([{"id": agent.id, "name": agent.name}], str(story.project.id))
    # With its own token the helper is nobody here.
    assert "not found" in (await helper.clone(story.project, story.here)).text
    cloned = await acting.clone(story.project, story.here)
    assert cloned.code == 0, cloned.text
    assert ("git:fetch", "success", [agent.name, "ann"]) in await story.audited(helper)
    exchanges = [act for act in await story.audited(agent) if act[0] == "token:exchange"]
    assert [act[1] for act in exchanges] == ["denied", "success"]
    return acting


async def taken_back_and_given_again(story: Story, ann: Bearer, binding: str, agent: Bearer, helper: Bearer) -> None:
    taken = await story.by_admin("DELETE", f"{story.bindings}/{binding}")
    assert taken.status_code == 204, taken.text
    # At once, down the whole chain: the rights of the lender are looked at with every use.
    for bearer in (helper, agent, ann):
        refused = await bearer.clone(story.project, story.here)
        assert refused.code != 0, bearer.name
        assert "not found" in refused.text
    await story.give_role(ann)
    for bearer in (ann, agent, helper):
        assert (await bearer.clone(story.project, story.here)).code == 0, bearer.name


async def ends_with_the_person(story: Story, ann: Bearer, agent: Bearer, helper: Bearer) -> None:
    ended = await made(await story.by_admin("POST", f"/api/v1/users/{ann.name}/deactivation"), 200)
    assert (ended["tokens"], ended["delegations"]) == (1, 1)
    assert sorted(ended["answers_for"]) == ["helper", "reader"]
    assert "Authentication failed" in (await ann.clone(story.project, story.here)).text
    for bearer in (agent, helper):
        refused = await bearer.clone(story.project, story.here)
        assert refused.code != 0, bearer.name
    assert (await ann.ask("GET", "/me")).status_code == 401
    # Coming back does not bring back what was lent.
    again = await story.by_admin("POST", f"/api/v1/users/{ann.name}/reactivation")
    assert again.status_code == 200, again.text
    assert (await agent.clone(story.project, story.here)).code != 0
    admin = Bearer(story.server, story.admin.name, str(story.admin.user.id), "")
    done = {action for action, outcome, _ in await story.audited(admin) if outcome == "success"}
    assert done >= {
        "user:create", "user:deactivate", "user:reactivate", "binding:create", "binding:delete", "token:create",
    }  # fmt: skip
