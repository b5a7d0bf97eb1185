"""Changes of rights at the same time: none waits for another in a ring, which PostgreSQL would break with an error."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.engine import Database
from database.store.access.bindings import BindingFilter, bind, bindings, holder_by_name, unbind
from database.store.access.delegations import lend
from database.store.access.identities import deactivate, identity_by_name, reactivate
from database.store.access.organizations import (
    add_member,
    create_organization,
    create_team,
    remove_member,
    team_by_name,
)
from database.store.access.rights import held_by
from database.store.access.roles import role_by_name
from domain.access.delegations import Offer
from domain.access.identities import Identity
from domain.access.permissions import Permission
from domain.actors import SYSTEM, Actor
from domain.errors import PerdureError
from tests.support.factories import make_user

ROUNDS = 25
NAMES = [f"user-{number}" for number in range(4)]

Change = Callable[[AsyncSession, random.Random], Awaitable[object]]


async def _somebody(session: AsyncSession, chance: random.Random) -> Identity:
    found = await identity_by_name(session, chance.choice(NAMES))
    assert found is not None
    return found


async def _deactivate(session: AsyncSession, chance: random.Random) -> None:
    await deactivate(session, SYSTEM, await _somebody(session, chance))


async def _reactivate(session: AsyncSession, chance: random.Random) -> None:
    await reactivate(session, SYSTEM, await _somebody(session, chance))


async def _join(session: AsyncSession, chance: random.Random) -> None:
    acme = await identity_by_name(session, "acme")
    assert acme is not None
    await add_member(session, SYSTEM, await team_by_name(session, acme.id, "crew"), await _somebody(session, chance))


async def _leave(session: AsyncSession, chance: random.Random) -> None:
    acme = await identity_by_name(session, "acme")
    assert acme is not None
    await remove_member(session, SYSTEM, await team_by_name(session, acme.id, "crew"), await _somebody(session, chance))


async def _bind(session: AsyncSession, chance: random.Random) -> None:
    holder = await holder_by_name(session, chance.choice(["acme", "acme/crew", *NAMES]))
    role = await role_by_name(session, chance.choice(["viewer", "ops"]))
    await bind(session, SYSTEM, role, holder, project_id=None, expires_at=None)


async def _unbind(session: AsyncSession, chance: random.Random) -> None:
    found = await bindings(session, BindingFilter(role=chance.choice(["viewer", "ops"])), limit=20)
    if found:
        await unbind(session, SYSTEM, chance.choice(found))


async def _lend(session: AsyncSession, chance: random.Random) -> None:
    lender = await _somebody(session, chance)
    offer = Offer(permissions=frozenset({Permission.PROJECT_READ}), redelegations=2)
    await lend(session, Actor(user_id=lender.id, name=lender.name), chance.choice(NAMES), offer)


CHANGES: list[Change] = [
    _deactivate,
    _reactivate,
    _reactivate,
    _join,
    _join,
    _leave,
    _bind,
    _bind,
    _unbind,
    _lend,
    _lend,
]


async def test_changes_of_rights_at_once_are_made_or_refused_and_never_break(database: Database) -> None:
    async with database.transaction() as session:
        admin = await make_user(session, role="admin")
        for name in NAMES:
            await make_user(session, name, role="developer")
        await create_organization(session, admin.actor, "acme", None)
        acme = await identity_by_name(session, "acme")
        assert acme is not None
        await create_team(session, admin.actor, acme, "crew", None)

    async def act(seed: int) -> int:
        chance = random.Random(seed)  # noqa: S311  # which change comes next is no secret
        made = 0
        for _ in range(ROUNDS):
            with suppress(PerdureError):
                async with database.transaction() as session:
                    await chance.choice(CHANGES)(session, chance)
                made += 1
        return made

    assert min(await asyncio.gather(*(act(seed) for seed in range(4)))) > 0
    # Whoever is out of use holds nothing that others could still use.
    async with database.transaction() as session:
        for name in NAMES:
            identity = await identity_by_name(session, name)
            assert identity is not None
            if not identity.is_active:
                statement = (
                    "SELECT count(*) FROM delegations WHERE :id IN (delegator_id, delegate_id) AND revoked_at IS NULL"
                )
                live = await session.execute(text(statement), {"id": identity.id})
                assert live.scalar_one() == 0, name
        assert (await held_by(session, admin.id)).path_to("project:read") is not None
