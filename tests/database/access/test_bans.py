import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from database.engine import Database
from database.store.access.bans import (
    Banned,
    CountedAttempt,
    count_attempt,
    count_failure,
    forgive,
    lift_bans,
    present_bans,
    withdraw,
)
from database.store.access.expiry import expire_access
from domain.access.bans import BanPolicy, Subject, address_subject
from domain.actors import NOBODY, SYSTEM

POLICY = BanPolicy(failures_of_name_max=3, failures_of_address_max=5)
ADA, BOB = Subject("name", "a" * 64), Subject("name", "b" * 64)
HERE, THERE = address_subject("192.0.2.1"), address_subject("2001:db8::1")


async def _begin(database: Database, name: Subject = ADA, address: Subject | None = None) -> CountedAttempt:
    async with database.transaction() as session:
        return await count_attempt(session, name, address, POLICY)


async def _fail(database: Database, name: Subject = ADA, address: Subject | None = None) -> None:
    attempt = await _begin(database, name, address)
    async with database.transaction() as session:
        await count_failure(session, NOBODY, attempt, POLICY)


async def _is_banned(database: Database, name: Subject = ADA, address: Subject | None = None) -> int:
    """Seconds; 0 if not. Leaves no trace."""
    try:
        attempt = await _begin(database, name, address)
    except Banned as banned:
        return banned.retry_after_seconds
    async with database.transaction() as session:
        await withdraw(session, attempt)
    return 0


async def _later(database: Database, by: timedelta) -> None:
    """Moves the past away: the same as waiting."""
    async with database.transaction() as session:
        await session.execute(
            text(
                "UPDATE sign_in_bans SET last_failure_at = last_failure_at - CAST(:by AS interval), "
                "banned_until = banned_until - CAST(:by AS interval)"
            ),
            {"by": by},
        )


async def _audited(database: Database, action: str = "ban:create") -> list[tuple[str, int]]:
    async with database.transaction() as session:
        rows = await session.execute(
            text("SELECT detail FROM audit_log WHERE action = :action ORDER BY created_at"), {"action": action}
        )
        return [(detail["by"], detail.get("seconds", 0)) for detail in rows.scalars()]


async def test_the_failure_that_is_one_too_many_bans_the_name_and_no_other(database: Database) -> None:
    for _ in range(2):
        await _fail(database)
    assert await _is_banned(database) == 0
    await _fail(database)
    assert 55 <= await _is_banned(database) <= 60
    assert await _is_banned(database, BOB) == 0
    assert await _audited(database) == [("name", 60)]


async def test_a_hundred_guesses_at_the_same_time_are_no_more_than_one_after_the_other(database: Database) -> None:
    answers = await asyncio.gather(*(_begin(database) for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(answer, CountedAttempt) for answer in answers) == POLICY.failures_of_name_max
    assert {type(answer) for answer in answers} == {CountedAttempt, Banned}


async def test_bans_grow_and_begin_with_the_shortest_again_after_a_day(database: Database) -> None:
    lengths = []
    for _ in range(8):
        for _ in range(3):
            await _fail(database)
        lengths.append(await _is_banned(database))
        await _later(database, timedelta(hours=1, minutes=1))
    assert [round(seconds / 60) for seconds in lengths] == [1, 2, 4, 8, 16, 32, 60, 60]
    await _later(database, timedelta(days=1))
    for _ in range(3):
        await _fail(database)
    assert await _is_banned(database) <= 60


async def test_failures_far_apart_do_not_add_up(database: Database) -> None:
    for _ in range(10):
        await _fail(database)
        await _later(database, timedelta(minutes=11))
    assert await _is_banned(database) == 0


async def test_success_forgives_the_name_but_not_the_address(database: Database) -> None:
    for _ in range(4):
        await _fail(database, BOB if await _is_banned(database) else ADA, HERE)
    attempt = await _begin(database, Subject("name", "own account"), HERE)
    async with database.transaction() as session:
        await forgive(session, attempt)
    await _fail(database, Subject("name", "c"), HERE)
    assert await _is_banned(database, Subject("name", "d"), HERE) > 0
    assert await _is_banned(database, Subject("name", "d"), THERE) == 0
    assert ("address", 60) in await _audited(database)


async def test_the_last_try_may_be_the_right_one(database: Database) -> None:
    for _ in range(2):
        await _fail(database)
    attempt = await _begin(database)
    assert attempt.ban_seconds == 60
    assert await _is_banned(database) > 0, "while it is looked at, nobody else may try"
    async with database.transaction() as session:
        await forgive(session, attempt)
    assert await _is_banned(database) == 0
    assert await _audited(database) == []


async def test_an_attempt_that_was_not_looked_at_does_not_count(database: Database) -> None:
    for _ in range(10):
        attempt = await _begin(database)
        async with database.transaction() as session:
            await withdraw(session, attempt)
    assert await _is_banned(database) == 0


async def test_an_admin_lifts_a_ban_and_it_is_audited(database: Database) -> None:
    for _ in range(3):
        await _fail(database, address=HERE)
    async with database.transaction() as session:
        [ban] = await present_bans(session, limit=10)
        assert (ban.kind, ban.address, ban.bans) == ("name", None, 1)
        assert await lift_bans(session, SYSTEM, [ADA], {"by": "name"}) == 1
        assert await lift_bans(session, SYSTEM, [ADA], {"by": "name"}) == 0
        assert await present_bans(session, limit=10) == []
    assert await _audited(database, "ban:delete") == [("name", 0)]
    assert await _is_banned(database) == 0


async def test_what_means_nothing_any_more_is_removed(database: Database) -> None:
    await _fail(database, address=HERE)
    await _later(database, timedelta(days=29))
    async with database.transaction() as session:
        assert await expire_access(session) == 0
    await _later(database, timedelta(days=2))
    async with database.transaction() as session:
        assert await expire_access(session) == 2


@pytest.mark.parametrize("address", [None, HERE])
async def test_an_address_that_is_not_known_is_no_obstacle(database: Database, address: Subject | None) -> None:
    assert await _is_banned(database, address=address) == 0
