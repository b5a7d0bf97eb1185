"""Role x way of holding it x resource: what each role gives, however somebody comes to hold it, and where it ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.engine import Database
from database.store.access.bindings import bind, holder_by_name
from database.store.access.identities import NewIdentity, create_identity, deactivate, identity_by_name
from database.store.access.organizations import (
    add_member,
    create_organization,
    create_team,
    delete_team,
    remove_member,
    team_by_name,
)
from database.store.access.rights import held_by
from database.store.access.roles import create_role, own_rights, role_by_name
from domain.access.decide import PLATFORM, decide
from domain.access.permissions import EVERYTHING, PLATFORM_PERMISSIONS, SYSTEM_ROLES, Permission
from domain.actors import SYSTEM, Actor
from domain.projects import ProjectView
from tests.support.factories import TestUser, make_project, make_user

ROLES = {**SYSTEM_ROLES, "custom": frozenset({Permission.SECRET_WRITE, Permission.ADMIN_ROLES})}
HOLDERS = ("oneself", "team", "organisation")
TEAM = "acme/crew"


@dataclass(frozen=True)
class Scene:
    """Somebody in a team who holds nothing yet, and two projects of somebody else."""

    database: Database
    person: TestUser
    here: ProjectView
    there: ProjectView

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        async with self.database.transaction() as session:
            yield session

    async def give(self, role: str, holder: str, project_id: UUID | None) -> UUID:
        name = {"oneself": self.person.name, "team": TEAM, "organisation": "acme"}[holder]
        async with self.transaction() as session:
            made = await bind(
                session,
                SYSTEM,
                await role_by_name(session, role),
                await holder_by_name(session, name),
                project_id=project_id,
                expires_at=None,
            )
        return made.id

    async def allowed(self, project: ProjectView | None) -> set[Permission]:
        """What the person may do on a project, or on the platform."""
        async with self.transaction() as session:
            held = await held_by(session, self.person.id, project.id if project else None)
            own = await own_rights(session, self.person.id, project.id if project else None)
        assert set(own) == set(held.permissions)
        resource = project.resource if project else PLATFORM
        actor = Actor(user_id=self.person.id, name=self.person.name)
        asked = {one for one in Permission if (one in PLATFORM_PERMISSIONS) == (project is None)}
        return {one for one in asked if decide(actor, one, resource, held=held).allowed}


@pytest.fixture
async def scene(database: Database) -> Scene:
    async with database.transaction() as session:
        await make_user(session, role="admin")  # somebody always is
        person, owner = await make_user(session, role=None), await make_user(session, role=None)
        await create_organization(session, owner.actor, "acme", None)
        acme = await identity_by_name(session, "acme")
        member = await identity_by_name(session, person.name)
        assert acme is not None
        assert member is not None
        await add_member(session, owner.actor, await create_team(session, owner.actor, acme, "crew", None), member)
        await create_role(session, SYSTEM, "custom", None, frozenset(ROLES["custom"]))
        here, there = await make_project(session, owner), await make_project(session, owner)
    return Scene(database, person, here, there)


def expected(role: str, *, on_project: bool, asked_on_platform: bool) -> set[Permission]:
    bundled = ROLES[role]
    everything = set(Permission) if EVERYTHING in bundled else {Permission(one) for one in bundled}
    of_kind = {one for one in everything if (one in PLATFORM_PERMISSIONS) == asked_on_platform}
    return set() if asked_on_platform and on_project else of_kind


@pytest.mark.parametrize("holder", HOLDERS)
async def test_a_role_gives_what_it_bundles_where_it_is_good_and_nothing_elsewhere(scene: Scene, holder: str) -> None:
    nobody = set[Permission]()
    for role in ROLES:
        for project in (None, scene.here):
            binding_id = await scene.give(role, holder, project.id if project else None)
            bound = {"on_project": project is not None}
            assert await scene.allowed(scene.here) == expected(role, asked_on_platform=False, **bound), role
            elsewhere = nobody if project else expected(role, asked_on_platform=False, **bound)
            assert await scene.allowed(scene.there) == elsewhere, role
            assert await scene.allowed(None) == expected(role, asked_on_platform=True, **bound), role
            async with scene.transaction() as session:
                await session.execute(text("DELETE FROM user_roles WHERE id = :id"), {"id": binding_id})
    assert await scene.allowed(scene.here) == nobody


async def _end_binding(session: AsyncSession, _: Scene) -> None:
    await session.execute(
        text("UPDATE user_roles SET expires_at = now() - interval '1 s' WHERE project_id IS NOT NULL")
    )


async def _leave_team(session: AsyncSession, scene: Scene) -> None:
    acme, person = await identity_by_name(session, "acme"), await identity_by_name(session, scene.person.name)
    assert acme is not None
    assert person is not None
    await remove_member(session, SYSTEM, await team_by_name(session, acme.id, "crew"), person)


async def _delete_team(session: AsyncSession, _: Scene) -> None:
    acme = await identity_by_name(session, "acme")
    assert acme is not None
    await delete_team(session, SYSTEM, await team_by_name(session, acme.id, "crew"))


async def _close_organisation(session: AsyncSession, _: Scene) -> None:
    acme = await identity_by_name(session, "acme")
    assert acme is not None
    await deactivate(session, SYSTEM, acme)


@pytest.mark.parametrize(
    ("holder", "end"),
    [
        ("oneself", _end_binding),
        ("team", _end_binding),
        ("team", _leave_team),
        ("team", _delete_team),
        ("team", _close_organisation),
        ("organisation", _leave_team),
        ("organisation", _close_organisation),
    ],
)
async def test_whatever_ends_the_way_ends_the_right_at_once_and_tells_the_caches(
    scene: Scene, holder: str, end: Callable[[AsyncSession, Scene], Awaitable[None]]
) -> None:
    await scene.give("viewer", holder, scene.here.id)
    assert Permission.PROJECT_READ in await scene.allowed(scene.here)
    async with scene.transaction() as session:
        before = (await held_by(session, scene.person.id, scene.here.id)).version
        await end(session, scene)
    assert await scene.allowed(scene.here) == set()
    async with scene.transaction() as session:
        assert (await held_by(session, scene.person.id, scene.here.id)).version != before


async def test_nobody_holds_anything_by_being_made(database: Database) -> None:
    async with database.transaction() as session:
        for kind in ("user", "agent", "service", "organization"):
            made = await create_identity(session, SYSTEM, NewIdentity(name=f"new-{kind}", kind=kind))
            assert (await held_by(session, made.id)).permissions == frozenset()
