"""Which projects somebody sees: page by page what the verdict says one by one, for what the page itself costs."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import event, text

from database.engine import Database, Session
from database.store.access.bindings import bind, holder_by_name
from database.store.access.delegations import lend
from database.store.access.identities import identity_by_name
from database.store.access.organizations import add_member, create_organization, create_team, team_by_name
from database.store.access.rights import held_by
from database.store.access.roles import role_by_name
from database.store.access.visible import STEPS_PER_ROW, visible_projects
from database.store.projects import project_by_id
from domain.access.decide import decide
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from domain.actors import SYSTEM, Actor
from domain.projects import ProjectView
from migrations.upgrade import upgrade
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import TestUser, give_role, make_project, make_user
from tests.support.stack import Stack, TestDatabase

READ = Permission.PROJECT_READ
OTHERS = 60
BEFORE = "0004"


@dataclass
class Scene:
    """People who come to read projects in every way that there is, among projects that they may not read."""

    database: Database
    people: dict[str, TestUser]
    project_ids: list[UUID]

    async def seen(self, actor: Actor, *, limit: int, owner: str | None = None) -> list[ProjectView]:
        """All pages, one after the other."""
        found: list[ProjectView] = []
        after = None
        while True:
            async with self.database.transaction() as session:
                page = await visible_projects(session, actor, after=after, limit=limit, owner=owner)
            found += page
            if len(page) < limit:
                return found
            after = (page[-1].owner_name, page[-1].name)

    async def readable(self, actor: Actor) -> list[ProjectView]:
        """What the verdict function says, asked one by one."""
        found = []
        async with self.database.transaction() as session:
            for project_id in self.project_ids:
                project = await project_by_id(session, project_id)
                if project is None:
                    continue
                held = await held_by(session, actor.subject_id, project_id)
                if decide(actor, READ, project.resource, held=held).allowed:
                    found.append(project)
        return sorted(found, key=lambda one: (one.owner_name, one.name))


async def _organization(session: Session, owner: TestUser, name: str, member: TestUser) -> None:
    """``member`` is in its team ``readers``."""
    await create_organization(session, owner.actor, name, None)
    organization, joining = await identity_by_name(session, name), await identity_by_name(session, member.name)
    assert organization is not None
    assert joining is not None
    await create_team(session, owner.actor, organization, "readers", None)
    await add_member(session, owner.actor, await team_by_name(session, organization.id, "readers"), joining)


async def _bind(session: Session, holder: str, project_id: UUID | None, role: str = "viewer") -> None:
    found = await holder_by_name(session, holder)
    await bind(session, SYSTEM, await role_by_name(session, role), found, project_id=project_id, expires_at=None)


@pytest.fixture(scope="module")
async def scene(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Scene]:
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=2, audit_keys=AUDIT_KEYS) as database:
        names = ("boss", "member", "bound", "global", "lent", "lent-two", "chained", "nobody", "taken")
        async with database.transaction() as session:
            people = {name: await make_user(session, name, role=None) for name in names}
            crowd = await make_user(session, "crowd", role=None)
            projects = [await make_project(session, crowd, f"p{number:03}") for number in range(OTHERS)]
            await _organization(session, people["boss"], "acme", people["member"])
            owned = [
                await make_project(session, TestUser(projects[0].owner_id, "acme"), "shop"),
                await make_project(session, people["bound"], "own"),
                await make_project(session, crowd, "aaa-deleted"),
                await make_project(session, crowd, "open", visibility="internal"),
            ]
            await give_role(session, people["bound"], "viewer", project_id=projects[7].id)
            await give_role(session, people["bound"], "agent", project_id=projects[8].id)
            await give_role(session, people["bound"], "viewer", project_id=projects[9].id)
            await give_role(session, people["bound"], "viewer", project_id=owned[2].id)
            await give_role(session, people["global"], "viewer")
            await _bind(session, "acme/readers", projects[20].id)
            await _bind(session, "acme", projects[21].id)
            on_50 = Offer(frozenset({READ}), projects[50].id, redelegations=1)
            await lend(session, people["global"].actor, "lent", on_50)
            await lend(session, people["bound"].actor, "lent-two", Offer(frozenset({READ}), projects[7].id))
            await lend(session, people["boss"].actor, "lent-two", Offer(frozenset({READ}), owned[0].id))
            await lend(session, people["lent"].actor, "chained", Offer(frozenset({READ}), projects[50].id))
            await lend(session, people["global"].actor, "taken", Offer(frozenset({READ})))
            await session.execute(
                text("UPDATE delegations SET revoked_at = now() WHERE delegate_id = :id"), {"id": people["taken"].id}
            )
            await session.execute(
                text("UPDATE user_roles SET expires_at = now() WHERE project_id = :id"), {"id": projects[9].id}
            )
            await session.execute(text("UPDATE projects SET is_active = false WHERE id = :id"), {"id": owned[2].id})
        yield Scene(database, people, [one.id for one in (*projects, *owned)])
    await idle_stack.drop_database(made)


SEEN = {
    "boss": ["acme/shop", "crowd/open", "crowd/p021"],
    "member": ["crowd/open", "crowd/p020", "crowd/p021"],
    "bound": ["bound/own", "crowd/open", "crowd/p007"],
    "lent": ["crowd/open", "crowd/p050"],
    "lent-two": ["acme/shop", "crowd/open", "crowd/p007"],
    "chained": ["crowd/open", "crowd/p050"],
    "nobody": ["crowd/open"],
    "taken": ["crowd/open"],
}


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("who", [*SEEN, "global"])
async def test_pages_of_any_length_show_what_the_verdict_lets_read(scene: Scene, who: str, limit: int) -> None:
    actor = scene.people[who].actor
    seen = await scene.seen(actor, limit=limit)
    assert seen == await scene.readable(actor)
    names = [project.full_name for project in seen]
    assert names == SEEN[who] if who in SEEN else len(names) == OTHERS + 3


@pytest.mark.parametrize("limit", [1, 100])
async def test_a_narrowed_credential_and_one_owner_show_less(scene: Scene, limit: int) -> None:
    bound = scene.people["bound"].actor
    shop = bound.model_copy(update={"project_id": scene.project_ids[OTHERS]})
    seventh = bound.model_copy(update={"project_id": scene.project_ids[7]})
    assert await scene.seen(shop, limit=limit) == []
    assert [one.full_name for one in await scene.seen(seventh, limit=limit)] == ["crowd/p007"]
    assert await scene.seen(bound.model_copy(update={"scopes": frozenset({"pipeline:run"})}), limit=limit) == []
    assert [one.full_name for one in await scene.seen(bound, limit=limit, owner="bound")] == ["bound/own"]
    assert await scene.seen(bound, limit=limit, owner="acme") == []


async def test_the_place_of_a_project_follows_its_owner(database: Database, migrated: TestDatabase) -> None:
    async with database.transaction() as session:
        first, second = await make_user(session, "first"), await make_user(session, "second")
        project = await make_project(session, first, "tool")
    connection = await asyncpg.connect(migrated.owner_url.replace("+asyncpg", ""))
    try:
        place = "SELECT owner_name FROM projects WHERE id = $1"
        assert await connection.fetchval(place, project.id) == "first"
        await connection.execute("UPDATE projects SET owner_id = $2 WHERE id = $1", project.id, second.id)
        assert await connection.fetchval(place, project.id) == "second"
        await connection.execute("UPDATE users SET name = 'zweite' WHERE id = $1", second.id)
        assert await connection.fetchval(place, project.id) == "zweite"
    finally:
        await connection.close()


async def test_projects_from_before_get_their_place_and_are_not_changed(empty_database: TestDatabase) -> None:
    await upgrade(empty_database.owner_url, revision=BEFORE)
    connection = await asyncpg.connect(empty_database.owner_url.replace("+asyncpg", ""))
    try:
        await connection.execute("INSERT INTO users (name) VALUES ('ann')")
        await connection.execute(
            "INSERT INTO projects (owner_id, name, updated_at) SELECT id, 'old', '2020-01-01Z' FROM users"
        )
        await upgrade(empty_database.owner_url)
        rows = await connection.fetch("SELECT owner_name, updated_at FROM projects")
    finally:
        await connection.close()
    assert [(row["owner_name"], row["updated_at"].year) for row in rows] == [("ann", 2020)]


PROJECTS = """
    INSERT INTO projects (owner_id, name, visibility) SELECT $1, 'p' || n, 'private' FROM generate_series(1, 20000) n"""
CROWD = """
    WITH crowd AS (INSERT INTO users (name) SELECT 'other-' || n FROM generate_series(1, 2000) n RETURNING id)
    INSERT INTO user_roles (user_id, role_id, project_id)
    SELECT u.id, r.id, p.id FROM (SELECT id, row_number() OVER () AS n FROM crowd) u
    JOIN (SELECT id, row_number() OVER () AS n FROM projects) p ON p.n % 2000 = u.n - 1
    CROSS JOIN (SELECT id FROM roles WHERE name = 'developer') r"""
EVERY_PROJECT = """
    INSERT INTO user_roles (user_id, role_id, project_id)
    SELECT $1, r.id, p.id FROM projects p, roles r WHERE r.name = 'viewer'"""
PAGE = 50
ROWS_MAX = 8 * STEPS_PER_ROW * PAGE


async def _rows_read(connection: asyncpg.Connection, statement: str, values: Sequence[object], mode: str) -> int:
    """How many rows of the large tables a statement looks at, planned for its values or for any."""
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE page AS {statement}")
    written = ", ".join(f"'{value}'" for value in values)
    plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page({written})"))
    await connection.execute("DEALLOCATE page")
    nodes, rows = [plan[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") in ("projects", "user_roles"):
            looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows += round(looked_at * node["Actual Loops"])
    return rows


async def test_a_page_costs_what_is_on_it_and_not_what_there_is(database: Database, migrated: TestDatabase) -> None:
    connection = await asyncpg.connect(migrated.owner_url.replace("+asyncpg", ""))
    asked: list[tuple[str, Sequence[object]]] = []
    try:
        async with database.transaction() as session:
            owner, bound, reader, few, nobody = [await make_user(session, role=None) for _ in range(5)]
            await give_role(session, reader, "viewer")
        await connection.execute("ALTER TABLE user_roles DISABLE TRIGGER USER")
        await connection.execute(PROJECTS, owner.id)
        await connection.execute(CROWD)
        await connection.execute(EVERY_PROJECT, bound.id)
        await connection.execute(f"{EVERY_PROJECT} AND p.name LIKE 'p1777%'", few.id)
        await connection.execute("ALTER TABLE user_roles ENABLE TRIGGER USER")
        await connection.execute("ANALYZE")
        async with database.transaction() as session:
            used = await session.connection()
            event.listen(
                used.sync_connection,
                "before_cursor_execute",
                lambda _, __, statement, values, *___: asked.append((statement, values)),
            )
            for user, shown in ((owner, PAGE), (bound, PAGE), (reader, PAGE), (few, 11), (nobody, 0)):
                for after in (None, (owner.name, "p1776")):
                    found = await visible_projects(session, user.actor, after=after, limit=PAGE)
                    assert len(found) == shown
        assert len(asked) == 10
        for statement, values in asked:
            for mode in ("force_custom_plan", "force_generic_plan"):
                assert await _rows_read(connection, statement, values, mode) <= ROWS_MAX
    finally:
        await connection.close()
