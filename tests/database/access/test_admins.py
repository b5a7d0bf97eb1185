import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from database.engine import Database
from database.store.access.admins import admin_exists, keep_an_admin
from database.store.access.bindings import BindingFilter, bindings, unbind
from database.store.access.identities import deactivate, identity_by_name
from database.store.access.organizations import (
    OWNERS,
    add_member,
    create_organization,
    create_team,
    delete_team,
    remove_member,
    team_by_name,
)
from domain.actors import SYSTEM, Actor
from domain.errors import Conflict
from tests.support.factories import TestUser, make_user


async def _admin(database: Database) -> TestUser:
    async with database.transaction() as session:
        return await make_user(session, role="admin")


async def _deactivate(database: Database, actor: Actor, name: str) -> str:
    try:
        async with database.transaction() as session:
            identity = await identity_by_name(session, name)
            assert identity is not None
            await deactivate(session, actor, identity)
    except Conflict as refused:
        return refused.specific_code
    return "done"


async def _is_active(database: Database, name: str) -> bool:
    async with database.transaction() as session:
        identity = await identity_by_name(session, name)
        return identity is not None and identity.is_active


async def test_the_last_administrator_stays_in_use(database: Database) -> None:
    admin = await _admin(database)
    assert await _deactivate(database, SYSTEM, admin.name) == "last_admin"
    assert await _is_active(database, admin.name)


async def test_two_administrators_who_deactivate_each_other_at_once_leave_one(database: Database) -> None:
    for _ in range(5):
        first, second = await _admin(database), await _admin(database)
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE users SET is_active = false WHERE id NOT IN (:first, :second)"),
                {"first": first.id, "second": second.id},
            )
        outcomes = await asyncio.gather(
            _deactivate(database, first.actor, second.name), _deactivate(database, second.actor, first.name)
        )
        assert sorted(outcomes) == ["done", "last_admin"]


async def test_the_last_binding_of_an_administrator_stays(database: Database) -> None:
    admin = await _admin(database)
    async with database.transaction() as session:
        [binding] = await bindings(session, BindingFilter(holder=admin.name), limit=10)
    with pytest.raises(Conflict) as refused:
        async with database.transaction() as session:
            await unbind(session, SYSTEM, binding)
    assert refused.value.specific_code == "last_admin"
    async with database.transaction() as session:
        assert await admin_exists(session, lasting=True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET password_hash = NULL WHERE id = :id",
        "UPDATE users SET kind = 'service' WHERE id = :id",
        "UPDATE user_roles SET expires_at = now() + interval '1 day' WHERE user_id = :id",
    ],
)
async def test_who_cannot_sign_in_or_ceases_to_be_one_is_not_the_administrator_that_stays(
    database: Database, change: str
) -> None:
    first, second = await _admin(database), await _admin(database)
    async with database.transaction() as session:
        await session.execute(text(change), {"id": second.id})
    assert await _deactivate(database, SYSTEM, first.name) == "last_admin"


async def test_a_passkey_or_another_provider_is_a_way_to_sign_in(database: Database) -> None:
    admin = await _admin(database)
    for insert in (
        "INSERT INTO passkeys (user_id, name, credential_id, public_key) VALUES (:id, 'key', '\\x01', '\\x02')",
        "INSERT INTO external_identities (user_id, issuer, subject) VALUES (:id, 'https://idp.example', 'a')",
    ):
        async with database.transaction() as session:
            await session.execute(text("UPDATE users SET password_hash = NULL WHERE id = :id"), {"id": admin.id})
            assert not await admin_exists(session)
            await session.execute(text(insert), {"id": admin.id})
            await keep_an_admin(session)
            await session.execute(text("DELETE FROM passkeys"))
            await session.execute(text("DELETE FROM external_identities"))


async def test_an_administrator_through_a_team_counts_and_is_not_taken_out_of_it(database: Database) -> None:
    founder, member = await _admin(database), await _admin(database)
    async with database.transaction() as session:
        await create_organization(session, founder.actor, "acme", None)
        acme = await identity_by_name(session, "acme")
        person = await identity_by_name(session, member.name)
        assert acme is not None
        assert person is not None
        crew = await create_team(session, founder.actor, acme, "crew", None)
        await add_member(session, founder.actor, crew, person)
        await session.execute(text("DELETE FROM user_roles"))
        await session.execute(
            text("INSERT INTO user_roles (team_id, role_id) SELECT :team, id FROM roles WHERE name = 'admin'"),
            {"team": crew.id},
        )
        await keep_an_admin(session)
    for refuse in (_remove_member, _delete_team, _deactivate_organization):
        with pytest.raises(Conflict) as refused:
            await refuse(database, member.name)
        assert refused.value.specific_code == "last_admin", refuse.__name__
    async with database.transaction() as session:
        await add_member(session, founder.actor, await team_by_name(session, acme.id, OWNERS), person)
        await remove_member(session, founder.actor, await team_by_name(session, acme.id, OWNERS), person)


async def _remove_member(database: Database, name: str) -> None:
    async with database.transaction() as session:
        acme, person = await identity_by_name(session, "acme"), await identity_by_name(session, name)
        assert acme is not None
        assert person is not None
        await remove_member(session, SYSTEM, await team_by_name(session, acme.id, "crew"), person)


async def _delete_team(database: Database, _: str) -> None:
    async with database.transaction() as session:
        acme = await identity_by_name(session, "acme")
        assert acme is not None
        await delete_team(session, SYSTEM, await team_by_name(session, acme.id, "crew"))


async def _deactivate_organization(database: Database, _: str) -> None:
    async with database.transaction() as session:
        acme = await identity_by_name(session, "acme")
        assert acme is not None
        await deactivate(session, SYSTEM, acme)


async def test_a_role_of_a_day_is_enough_to_start_with_but_not_to_stay_alone(database: Database) -> None:
    admin = await _admin(database)
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE user_roles SET expires_at = now() + CAST(:day AS interval) WHERE user_id = :id"),
            {"id": admin.id, "day": timedelta(days=1)},
        )
        assert await admin_exists(session)
        assert not await admin_exists(session, lasting=True)
