"""Why somebody may or may not, and who may, over HTTP."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from database.models.access import Team, TeamMember, User, UserRole
from database.store.access.organizations import create_organization, teams
from domain.access.exchange import ACCESS_TOKEN, GRANT_TYPE
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.factories import TestUser, give_role, make_project, make_token


async def all_holders(server: ApiServer, person: Person, first: str) -> dict[str, list[str]]:
    """Of all pages: who holds a role everywhere because of other tests is told too."""
    found: dict[str, list[str]] = {}
    url: str | None = first
    while url is not None:
        answer = await server.client.get(url, headers=person.headers)
        assert answer.status_code == 200, answer.text
        found |= {one["user"]: [path["path"] for path in one["paths"]] for one in answer.json()["items"]}
        url = answer.json()["next"]
    return found


class Scene:
    """A private project of ann's; each person asks with a token of all scopes."""

    def __init__(self, server: ApiServer, ann: Person, project: ProjectView) -> None:
        self.server, self.ann, self.project = server, ann, project

    async def get(self, person: Person, what: str, **query: str) -> httpx.Response:
        path = f"/api/v1/projects/{self.project.full_name}/access/{what}"
        return await self.server.client.get(path, params=query, headers=person.headers)

    async def explained(self, person: Person, permission: str, **query: str) -> dict[str, Any]:
        answer = await self.get(person, "explain", permission=permission, **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def who(self, permission: str) -> dict[str, list[str]]:
        path = f"/api/v1/projects/{self.project.full_name}/access/who"
        return await all_holders(self.server, self.ann, f"{path}?permission={permission}&limit=200")

    async def lend(self, lender: Person, borrower: Person, permission: str, **more: object) -> None:
        body = {"to": borrower.name, "permissions": [permission], "project": self.project.full_name, **more}
        answer = await self.server.client.post("/api/v1/delegations", headers=lender.headers, json=body)
        assert answer.status_code == 201, answer.text

    async def people(self, count: int) -> list[Person]:
        return [await self.server.user(role=None) for _ in range(count)]


@pytest.fixture
async def scene(api_server: ApiServer) -> Scene:
    ann = await api_server.user(role=None)
    return Scene(api_server, ann, await api_server.project(ann))


async def test_what_cannot_be_asked(scene: Scene) -> None:
    for what in ("explain", "who"):
        assert (await scene.get(scene.ann, what)).status_code == 400
        assert (await scene.get(scene.ann, what, permission="no:such")).status_code == 400
        misplaced = await scene.get(scene.ann, what, permission="project:create")
        assert (misplaced.status_code, misplaced.json()["code"]) == (400, "not_of_a_project")
    unknown = await scene.get(scene.ann, "explain", permission="project:read", user="nobody-is-called-so")
    assert unknown.status_code == 404
    forged = await scene.get(scene.ann, "who", permission="project:read", cursor="forged")
    assert (forged.status_code, forged.json()["code"]) == (400, "invalid_cursor")


async def test_about_others_asks_who_manages_the_project(scene: Scene) -> None:
    [bob] = await scene.people(1)
    async with scene.server.transaction() as session:
        await give_role(session, bob.user, "viewer", project_id=scene.project.id)
    refused = await scene.get(bob, "explain", permission="project:read", user=scene.ann.name)
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "project:manage")
    assert (await scene.get(bob, "who", permission="project:read")).status_code == 403
    assert (await scene.explained(bob, "project:read"))["reason"] == "role viewer on the project"
    assert (await scene.explained(scene.ann, "project:read", user=bob.name))["allowed"]


async def test_an_owner_and_a_stranger(scene: Scene) -> None:
    [bob] = await scene.people(1)
    own = await scene.explained(scene.ann, "project:delete")
    assert (own["user"], own["allowed"], own["reason"], own["missing"]) == (scene.ann.name, True, "owner", [])
    assert own["with_this_credential"] == {"allowed": True, "reason": "owner", "rights_of": None}
    assert own["project"] == scene.project.full_name
    other = await scene.explained(scene.ann, "pipeline:run", user=bob.name)
    assert (other["allowed"], other["paths"], other["with_this_credential"]) == (False, [], None)
    assert other["reason"] == f"{bob.name} does not hold pipeline:run here"
    assert "a role that bundles pipeline:run (admin, developer, ops" in other["missing"][0]
    assert (await scene.get(bob, "explain", permission="project:read")).status_code == 404


async def test_a_narrow_credential_is_told_apart_from_what_one_holds(scene: Scene) -> None:
    async with scene.server.transaction() as session:
        reading = await make_token(session, scene.ann.user, scopes=frozenset({"project:read"}))
    answer = await scene.explained(Person(scene.server, scene.ann.user, reading), "project:write")
    assert answer["allowed"]
    assert answer["with_this_credential"] == {
        "allowed": False,
        "reason": "the scopes of the credential do not include project:write",
        "rights_of": None,
    }


async def test_every_path_is_named_one_s_own_first(scene: Scene) -> None:
    bob, eve = await scene.people(2)
    async with scene.server.transaction() as session:
        organization = User(name=f"org-{bob.name}", kind="organization")
        session.add(organization)
        await session.flush()
        team = Team(organization_id=organization.id, name="crew")
        session.add(team)
        await session.flush()
        session.add(TeamMember(team_id=team.id, user_id=bob.user.id))
        viewer = (await session.execute(text("SELECT id FROM roles WHERE name = 'viewer'"))).scalar_one()
        session.add(UserRole(team_id=team.id, role_id=viewer, project_id=scene.project.id))
        await session.flush()
    await scene.lend(scene.ann, eve, "project:read", redelegations=1)
    await scene.lend(eve, bob, "project:read")
    through = f"role viewer on the project through team {organization.name}/crew"
    lent = f"lent by {eve.name}, from {scene.ann.name}, who holds it as owner"
    answer = await scene.explained(bob, "project:read")
    assert [(path["path"], path["lenders"]) for path in answer["paths"]] == [
        (through, []),
        (lent, [eve.name, scene.ann.name]),
    ]
    assert await scene.who("project:read") == {
        bob.name: [through, lent],
        eve.name: [f"lent by {scene.ann.name}, who holds it as owner"],
        **await _admins_and_readers(scene, "project:read"),
        scene.ann.name: ["owner"],
    }


async def _admins_and_readers(scene: Scene, permission: str) -> dict[str, list[str]]:
    """Whom other tests of this server gave a role everywhere that bundles the permission."""
    async with scene.server.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT u.name, 'role ' || r.name AS path FROM users u JOIN user_roles ur ON ur.user_id = u.id "
                "JOIN roles r ON r.id = ur.role_id JOIN role_permissions rp ON rp.role_id = r.id "
                "JOIN permissions p ON p.id = rp.permission_id "
                "WHERE ur.project_id IS NULL AND u.is_active AND p.name IN (:permission, '*:*')"
            ),
            {"permission": permission},
        )
        return {row.name: [row.path] for row in rows}


async def test_what_is_broken_says_why(scene: Scene) -> None:
    [bob] = await scene.people(1)
    await scene.lend(scene.ann, bob, "project:write")
    async with scene.server.transaction() as session:
        await give_role(session, bob.user, "developer", project_id=scene.project.id)
        await session.execute(
            text("UPDATE user_roles SET expires_at = '2020-01-02 03:04Z' WHERE user_id = :id"), {"id": bob.user.id}
        )
        await session.execute(
            text("UPDATE delegations SET revoked_at = now(), revoked_by = :ann WHERE delegate_id = :bob"),
            {"ann": scene.ann.user.id, "bob": bob.user.id},
        )
    answer = await scene.explained(scene.ann, "project:write", user=bob.name)
    assert not answer["allowed"]
    assert answer["missing"][:2] == [
        f"lent by {scene.ann.name}: taken back by {scene.ann.name}",
        "role developer: ended on 2020-01-02 03:04 UTC",
    ]
    async with scene.server.transaction() as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": bob.user.id})
    assert (await scene.explained(scene.ann, "project:write", user=bob.name))["reason"] == f"{bob.name} is deactivated"
    assert bob.name not in await scene.who("project:write")


async def test_what_a_deactivated_organisation_would_give_is_told(scene: Scene) -> None:
    [bob] = await scene.people(1)
    async with scene.server.transaction() as session:
        name = f"org-{bob.name}"
        made = await create_organization(session, bob.user.actor, name, None)
        [owners] = await teams(session, made.id, limit=1)
        viewer = (await session.execute(text("SELECT id FROM roles WHERE name = 'viewer'"))).scalar_one()
        session.add(UserRole(team_id=owners.id, role_id=viewer, project_id=scene.project.id))
        session.add(UserRole(user_id=made.id, role_id=viewer, project_id=scene.project.id))
        owned = await make_project(session, TestUser(made.id, name))
        await session.flush()
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": made.id})
    answer = await scene.explained(scene.ann, "project:read", user=bob.name)
    assert not answer["allowed"]
    assert answer["missing"][:2] == [
        f"role viewer through organisation {name}, which is deactivated",
        f"role viewer through team {name}/owners: {name} is deactivated",
    ]
    admin = await scene.server.user(role="admin")
    path = f"/api/v1/projects/{owned.full_name}/access/explain?permission=project:delete&user={bob.name}"
    told = (await scene.server.client.get(path, headers=admin.headers)).json()
    assert told["missing"][0] == f"owner through organisation {name}, which is deactivated"


async def test_an_exchanged_token_is_told_whose_rights_it_gives(scene: Scene) -> None:
    [bot] = await scene.people(1)
    fields = {"grant_type": GRANT_TYPE, "subject_token_type": ACCESS_TOKEN, "actor_token_type": ACCESS_TOKEN}
    fields |= {"subject_token": scene.ann.token.secret, "actor_token": bot.token.secret, "scope": "project:read"}
    exchanged = (await scene.server.client.post("/api/v1/oauth/token", data=fields)).json()["access_token"]
    path = f"/api/v1/projects/{scene.project.full_name}"
    headers = {"Authorization": f"Bearer {exchanged}"}
    answer = await scene.server.client.get(f"{path}/access/explain?permission=project:read", headers=headers)
    assert (answer.json()["user"], answer.json()["allowed"]) == (bot.name, False)
    assert answer.json()["with_this_credential"] == {
        "allowed": True,
        "reason": "owner",
        "rights_of": scene.ann.name,
    }


async def test_visibility_lets_read_but_is_nobodys_path(scene: Scene) -> None:
    [bob] = await scene.people(1)
    async with scene.server.transaction() as session:
        await session.execute(
            text("UPDATE projects SET visibility = 'internal' WHERE id = :id"), {"id": scene.project.id}
        )
    answer = await scene.explained(bob, "project:read")
    assert (answer["allowed"], answer["reason"], answer["paths"]) == (True, "internal project", [])
    assert bob.name not in await scene.who("project:read")


async def test_the_list_of_who_may_is_paged_by_name(scene: Scene) -> None:
    people = await scene.people(3)
    for person in people:
        await scene.lend(scene.ann, person, "secret:write")
    path = f"/api/v1/projects/{scene.project.full_name}/access/who"
    url, seen = f"{path}?permission=secret:write&limit=2", []
    while url:
        answer = (await scene.server.client.get(url, headers=scene.ann.headers)).json()
        seen += [one["user"] for one in answer["items"]]
        url = answer["next"]
    ours = {scene.ann.name, *(person.name for person in people)}
    assert seen == sorted(seen)
    assert ours <= set(seen)


async def test_on_the_platform(scene: Scene) -> None:
    admin = await scene.server.user(role="admin")
    get = scene.server.client.get
    query = {"permission": "project:create", "user": scene.ann.name}
    refused = await get("/api/v1/access/explain", params=query, headers=(await scene.people(1))[0].headers)
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "admin:users")
    answer = (await get("/api/v1/access/explain", params=query, headers=admin.headers)).json()
    assert (answer["allowed"], answer["project"]) == (False, None)
    assert answer["reason"] == f"{scene.ann.name} does not hold project:create"
    elsewhere = (await get("/api/v1/access/explain?permission=project:read", headers=scene.ann.headers)).json()
    assert elsewhere["reason"] == f"{scene.ann.name} does not hold project:read everywhere"
    mine = (await get("/api/v1/access/explain", params={"permission": "project:create"}, headers=admin.headers)).json()
    assert (mine["allowed"], mine["reason"]) == (True, "role admin")


async def test_who_may_everywhere_is_for_administrators_and_leaves_out_who_may_on_a_project_only(scene: Scene) -> None:
    admin, [ops, here] = await scene.server.user(role="admin"), await scene.people(2)
    async with scene.server.transaction() as session:
        await give_role(session, ops.user, "ops")
        await give_role(session, here.user, "ops", project_id=scene.project.id)
    first = "/api/v1/access/who?permission=alert:manage&limit=2"
    assert (await scene.server.client.get(first, headers=ops.headers)).status_code == 403
    seen = await all_holders(scene.server, admin, first)
    assert seen[ops.name] == ["role ops"]
    assert seen[admin.name] == ["role admin"]
    assert not {here.name, scene.ann.name} & set(seen)
