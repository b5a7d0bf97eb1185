import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.bootstrap import FirstAdmin, bootstrap
from api.passwords import Passwords
from database.engine import Database
from database.store.audit import record
from database.store.bootstrap import ensure_vocabulary
from domain.access.permissions import SYSTEM_ROLES
from domain.actors import SYSTEM
from domain.audit.actions import AuditAction
from domain.errors import InvalidInput
from tests.support.factories import CHEAP_HASHER


def _admin(tmp_path: Path, password: str | None) -> FirstAdmin:
    file = tmp_path / "admin-password"
    if password is not None:
        file.write_text(password + "\n")
    return FirstAdmin("admin", "admin@localhost", file)


async def _users(database: Database) -> list[str]:
    async with database.transaction() as session:
        return list((await session.execute(text("SELECT name FROM users ORDER BY name"))).scalars())


@pytest.mark.parametrize("password", [None, "", "short"])
async def test_without_a_usable_password_there_is_no_administrator(
    database: Database, tmp_path: Path, password: str | None
) -> None:
    with pytest.raises(InvalidInput, match="admin-password"):
        await bootstrap(database, Passwords(CHEAP_HASHER), _admin(tmp_path, password))
    assert await _users(database) == []


async def test_many_starts_at_once_make_one_administrator(database: Database, tmp_path: Path) -> None:
    admin = _admin(tmp_path, "first password")
    made = await asyncio.gather(*(bootstrap(database, Passwords(CHEAP_HASHER), admin) for _ in range(4)))
    assert sorted(made) == [False, False, False, True]
    assert await _users(database) == ["admin"]


async def test_a_later_start_changes_neither_name_nor_password(database: Database, tmp_path: Path) -> None:
    passwords = Passwords(CHEAP_HASHER)
    await bootstrap(database, passwords, _admin(tmp_path, "first password"))
    await bootstrap(database, passwords, _admin(tmp_path, "another password"))
    async with database.transaction() as session:
        password_hash = (await session.execute(text("SELECT password_hash FROM users"))).scalar_one()
    assert await passwords.matches("first password", password_hash)
    assert not await passwords.matches("another password", password_hash)


async def test_the_vocabulary_follows_the_code(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p "
                "WHERE r.name = 'viewer' AND p.name = 'project:delete'"
            )
        )
        await ensure_vocabulary(session)
        rows = await session.execute(
            text(
                "SELECT r.name, p.name FROM role_permissions rp JOIN roles r ON r.id = rp.role_id "
                "JOIN permissions p ON p.id = rp.permission_id"
            )
        )
        found = {(role, permission) for role, permission in rows}
    assert found == {(role, str(permission)) for role, held in SYSTEM_ROLES.items() for permission in held}


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"])
async def test_the_serving_role_cannot_change_the_audit_log(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await record(session, SYSTEM, AuditAction.TEAM_UPDATE, "test", None)
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.transaction() as session:
            await session.execute(text(statement))


async def test_an_audit_row_goes_with_its_transaction(database: Database) -> None:
    async def change_that_fails() -> None:
        async with database.transaction() as session:
            await record(session, SYSTEM, AuditAction.TEAM_UPDATE, "test", None)
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await change_that_fails()
    async with database.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM audit_log"))).scalar_one() == 0
