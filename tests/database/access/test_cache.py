"""What identities hold is remembered by version: nothing old is ever believed, whoever forgets to tell."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.cache.memory import MemoryCache
from database.engine import Database
from database.store.access.cache import HeldCache, Rights, SharedHeld, changes_of_rights
from database.store.access.requests import Credential, Grant, authorize
from database.store.access.rights import held_by
from domain.access.held import Held, Path, Version
from domain.access.tokens import hash_secret
from domain.actors import Origin
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import (
    TestToken,
    TestUser,
    give_role,
    make_project,
    make_session,
    make_token,
    make_user,
)
from tests.support.stack import TestDatabase

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"k" * 32


def held(number: int, *, until: datetime | None = None, **paths: str) -> Held:
    return Held({name: Path(path) for name, path in paths.items()}, until, Version(1, number))


class CountingDatabase(Database):
    """Counts the SELECTs of requests."""

    reads = 0

    async def read(self, statement: str, *parameters: object) -> list[Mapping[str, Any]]:
        self.reads += 1
        return await super().read(statement, *parameters)


@pytest.fixture
async def counting(migrated: TestDatabase) -> AsyncIterator[CountingDatabase]:
    async with CountingDatabase(migrated.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database


@dataclass
class Person:
    """Somebody who asks with a token, through caches of their own."""

    database: Database
    user: TestUser
    token: TestToken
    rights: Rights = field(default_factory=Rights)

    async def grant(self, rights: Rights | None = None) -> Grant:
        credential = Credential("token", hash_secret(self.token.secret))
        found = await authorize(self.database, credential, rights=rights or self.rights, origin=Origin())
        assert found is not None
        return found


async def a_person(database: Database, *, role: str | None = "developer") -> Person:
    async with database.transaction() as session:
        user = await make_user(session, role=role)
        return Person(database, user, await make_token(session, user))


def test_another_version_is_not_used_and_neither_is_what_has_ended() -> None:
    cache, subject = HeldCache(), uuid4()
    kept = held(7, until=NOW)
    cache.put(subject, None, kept)
    before = NOW - timedelta(seconds=1)
    assert cache.get(subject, None, version=kept.version, moment=before) is kept
    assert cache.get(subject, None, version=kept.version, moment=NOW) is None
    assert cache.get(subject, None, version=Version(1, 8), moment=before) is None
    assert cache.get(subject, None, version=Version(2, 7), moment=before) is None
    assert cache.get(subject, uuid4(), version=kept.version, moment=before) is None
    assert cache.get(uuid4(), None, version=kept.version, moment=before) is None


def test_a_slow_reader_does_not_put_old_content_over_new() -> None:
    cache, subject = HeldCache(), uuid4()
    cache.put(subject, None, held(8))
    cache.put(subject, None, held(7))
    assert cache.get(subject, None, version=Version(1, 8), moment=NOW) == held(8)


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    cache = HeldCache(entries_max=2)
    first, second, third = uuid4(), uuid4(), uuid4()
    cache.put(first, None, held(1))
    cache.put(second, None, held(1))
    assert cache.get(first, None, version=Version(1, 1), moment=NOW)
    cache.put(third, None, held(1))
    assert len(cache) == 2
    assert cache.get(second, None, version=Version(1, 1), moment=NOW) is None
    assert cache.get(first, None, version=Version(1, 1), moment=NOW)


async def test_what_somebody_else_wrote_into_the_shared_cache_is_not_believed() -> None:
    cache, subject, other = MemoryCache(), uuid4(), uuid4()
    shared = SharedHeld(cache, KEY)
    await shared.put(subject, None, held(1, a="owner"))
    ((key, (ends, sealed)),) = cache.content.items()
    assert await shared.get(subject, None) == held(1, a="owner")
    for forged in (b"", sealed[:-1], sealed + b" ", sealed.replace(b"owner", b"admin"), held(1).to_json()):
        cache.content[key] = (ends, forged)
        assert await shared.get(subject, None) is None
    cache.content[key.replace(str(subject), str(other))] = (ends, sealed)
    assert await shared.get(other, None) is None, "a value is sealed for one subject"
    cache.content[key] = (ends, sealed)
    assert await SharedHeld(cache, b"another key".ljust(32)).get(subject, None) is None


async def test_a_request_is_one_select_once_the_rights_are_known(counting: CountingDatabase) -> None:
    person = await a_person(counting)
    reads = []
    for _ in range(3):
        before = counting.reads
        assert (await person.grant()).held.path_to("project:create") is not None
        reads.append(counting.reads - before)
    assert reads == [2, 1, 1]


async def test_processes_share_what_they_know_and_do_without_when_the_cache_is_away(counting: CountingDatabase) -> None:
    person, cache = await a_person(counting), MemoryCache()
    first, second, third = (Rights(SharedHeld(cache, KEY)) for _ in range(3))
    known = await person.grant(first)
    before = counting.reads
    assert (await person.grant(second)).held == known.held
    assert counting.reads == before + 1
    cache.is_away = True
    assert (await person.grant(third)).held == known.held
    assert counting.reads == before + 3


async def test_old_content_that_a_cache_brings_back_is_not_used(counting: CountingDatabase) -> None:
    person, cache = await a_person(counting), MemoryCache()
    await person.grant(Rights(SharedHeld(cache, KEY)))
    old = dict(cache.content)
    async with counting.transaction() as session:
        await session.execute(text("DELETE FROM user_roles WHERE user_id = :user"), {"user": person.user.id})
    cache.content = old
    assert (await person.grant(Rights(SharedHeld(cache, KEY)))).held.permissions == set()


async def test_a_grant_tells_how_long_it_lasts(database: Database) -> None:
    person = await a_person(database)
    lasts = (await person.grant()).lasts
    assert lasts is not None
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1), "the token's"
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE user_roles SET expires_at = now() + interval '1 minute' WHERE user_id = :user"),
            {"user": person.user.id},
        )
    for _ in range(2):
        lasts = (await person.grant()).lasts
        assert lasts is not None
        assert timedelta() < lasts <= timedelta(minutes=1), "the role's"


async def test_a_version_that_was_seen_never_comes_back(database: Database) -> None:
    person = await a_person(database)
    seen = (await person.grant()).held.version
    async with database.transaction() as session:  # As after a restore of an older backup.
        await session.execute(text("DELETE FROM rights_versions"))
        await session.execute(text("UPDATE rights_epoch SET version = 0"))
        await session.execute(text("DELETE FROM user_roles WHERE user_id = :user"), {"user": person.user.id})
    now = (await person.grant()).held
    assert now.version.number > seen.number
    assert not now.permissions


ENDS = {
    "a token is revoked": "UPDATE api_tokens SET revoked_at = now() WHERE user_id = :user",
    "a token is deleted": "DELETE FROM api_tokens WHERE user_id = :user",
    "a token is narrowed": "UPDATE api_tokens SET scopes = '{}' WHERE user_id = :user",
    "a session ends": "DELETE FROM auth_sessions WHERE user_id = :user",
    "a session gets a new secret": "UPDATE auth_sessions SET token_hash = 'x' WHERE user_id = :user",
    "a session is narrowed": "UPDATE auth_sessions SET scopes = '{}' WHERE user_id = :user",
    "a session is narrowed to a project": "UPDATE auth_sessions SET project_id = (SELECT min(id::text)::uuid "
    "FROM projects) WHERE user_id = :user",
    "an identity elsewhere is unlinked": "DELETE FROM external_identities WHERE user_id = :user",
    "an identity elsewhere becomes another": "UPDATE external_identities SET subject = 'x' WHERE user_id = :user",
    "a role is taken": "DELETE FROM user_roles WHERE user_id = :user",
    "a user is deactivated": "UPDATE users SET is_active = false WHERE id = :user",
    "a role changes": "DELETE FROM role_permissions WHERE :user IS NOT NULL",
    "a project is hidden": "UPDATE projects SET visibility = 'private' WHERE owner_id = :user",
    "a project is deleted": "UPDATE projects SET is_active = false WHERE owner_id = :user",
}


async def link_elsewhere(session: AsyncSession, user: TestUser) -> None:
    await session.execute(
        text("INSERT INTO external_identities (user_id, issuer, subject) VALUES (:user, 'https://i.example', :name)"),
        {"user": user.id, "name": user.name},
    )


@pytest.mark.parametrize("what", ENDS)
async def test_whatever_may_end_an_open_answer_is_counted_once_committed(database: Database, what: str) -> None:
    person = await a_person(database)
    async with database.transaction() as session:
        await make_session(session, person.user)
        await make_project(session, person.user, visibility="public")
        await link_elsewhere(session, person.user)
    before = await changes_of_rights(database)
    async with database.transaction() as session:
        await session.execute(text(ENDS[what].replace(":user IS", "CAST(:user AS uuid) IS")), {"user": person.user.id})
        assert await changes_of_rights(database) == before
    assert await changes_of_rights(database) > before


async def test_uses_of_credentials_are_not_counted(database: Database) -> None:
    person = await a_person(database)
    async with database.transaction() as session:
        await make_session(session, person.user)
        await link_elsewhere(session, person.user)
    before = await changes_of_rights(database)
    async with database.transaction() as session:
        await session.execute(text("UPDATE external_identities SET last_used_at = now()"))
        await session.execute(text("UPDATE api_tokens SET last_used_at = now()"))
        await session.execute(text("UPDATE auth_sessions SET last_seen_at = now(), expires_at = now()"))
        await session.execute(text("UPDATE users SET display_name = 'x'"))
    assert await changes_of_rights(database) == before


@asynccontextmanager
async def begun(database: Database, statement: str, **values: object) -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        await session.execute(text(statement), values)
        yield session


async def a_team(session: AsyncSession) -> UUID:
    organization = await make_user(session, role=None, kind="organization")
    made = await session.execute(
        text("INSERT INTO teams (organization_id, name) VALUES (:organization, 'crew') RETURNING id"),
        {"organization": organization.id},
    )
    team_id: UUID = made.scalar_one()
    await session.execute(
        text("INSERT INTO user_roles (team_id, role_id) SELECT :team, id FROM roles WHERE name = 'admin'"),
        {"team": team_id},
    )
    return team_id


JOIN = "INSERT INTO team_members (team_id, user_id) VALUES (:team, :user)"
LEAVE = "DELETE FROM team_members WHERE team_id = :team AND user_id = :user"
DISBAND = "DELETE FROM user_roles WHERE team_id = :team"
EQUIP = """INSERT INTO user_roles (team_id, role_id) SELECT :team, id FROM roles WHERE name = 'viewer'
    ON CONFLICT DO NOTHING"""
LEND = """INSERT INTO delegations (grant_id, delegator_id, delegate_id, permission_id)
    SELECT gen_random_uuid(), :user, :other, id FROM permissions WHERE name = 'project:read' ON CONFLICT DO NOTHING"""
TAKE_BACK = "DELETE FROM delegations WHERE delegator_id = :user"


async def test_who_joins_a_team_while_it_loses_its_role_is_not_forgotten(database: Database) -> None:
    """Neither transaction sees the other's row; whoever commits last must all the same count up for the newcomer."""
    for joins_first in (True, False):
        person = await a_person(database, role=None)
        async with database.transaction() as session:
            team = await a_team(session)
        rights = Rights()
        joining = begun(database, JOIN, team=team, user=person.user.id)
        disbanding = begun(database, DISBAND, team=team)
        first, second = (joining, disbanding) if joins_first else (disbanding, joining)
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        between = await person.grant(rights)
        assert bool(between.held.permissions) is joins_first
        await second.__aexit__(None, None, None)
        assert (await person.grant(rights)).held.permissions == set(), "a stale right was believed"


async def test_who_is_lent_to_while_the_lender_loses_it_is_not_forgotten(database: Database) -> None:
    lender, person = await a_person(database, role="admin"), await a_person(database, role=None)
    lend = (
        "INSERT INTO delegations (grant_id, delegator_id, delegate_id, permission_id) "
        "SELECT gen_random_uuid(), :lender, :user, id FROM permissions WHERE name = 'admin:users'"
    )
    lending = begun(database, lend, lender=lender.user.id, user=person.user.id)
    losing = begun(database, "DELETE FROM user_roles WHERE user_id = :lender", lender=lender.user.id)
    await lending.__aenter__()
    await losing.__aenter__()
    await lending.__aexit__(None, None, None)
    assert (await person.grant()).held.permissions == {"admin:users"}
    await losing.__aexit__(None, None, None)
    assert (await person.grant()).held.permissions == set()


async def test_changes_at_once_in_any_order_neither_deadlock_nor_leave_anything_stale(database: Database) -> None:
    """Teams, roles and delegations change from many sides while everybody asks; in the end memory equals the truth."""
    draw = random.Random(20261121)  # noqa: S311  # reproducible, not secret
    people = [await a_person(database, role=None) for _ in range(4)]
    async with database.transaction() as session:
        teams = [await a_team(session) for _ in range(2)]

    async def change() -> None:
        team, user, other = draw.choice(teams), *draw.sample(people, 2)
        values = {"team": team, "user": user.user.id, "other": other.user.id}
        statement = draw.choice([f"{JOIN} ON CONFLICT DO NOTHING", LEAVE, DISBAND, EQUIP, LEND, TAKE_BACK])
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        async with begun(database, statement, **used):
            await asyncio.sleep(draw.random() / 200)

    async def keep_asking(until: asyncio.Event) -> None:
        while not until.is_set():
            await draw.choice(people).grant()

    done = asyncio.Event()
    asking = asyncio.create_task(keep_asking(done))
    for _ in range(30):
        await asyncio.gather(*(change() for _ in range(4)))
    done.set()
    await asking
    for person in people:
        async with database.transaction() as session:
            truth = await held_by(session, person.user.id)
        assert (await person.grant()).held == truth


async def test_a_role_that_is_given_on_a_project_is_found_there_only(database: Database) -> None:
    person = await a_person(database, role=None)
    async with database.transaction() as session:
        owner = await make_user(session)
        project = await make_project(session, owner)
        await give_role(session, person.user, "viewer", project_id=project.id)
    credential = Credential("token", hash_secret(person.token.secret))
    for _ in range(2):
        there = await authorize(
            database, credential, rights=person.rights, origin=Origin(), owner=owner.name, name=project.name
        )
        assert there is not None
        assert there.held.permissions
        assert not (await person.grant()).held.permissions
