"""What must be in the database before anybody can sign in; made when it is missing, at every start."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api.passwords import Passwords
from database.engine import Database
from database.store.access.admins import admin_exists
from database.store.bootstrap import ensure_admin, ensure_vocabulary
from domain.access.passwords import WeakPassword
from domain.errors import InvalidInput, Unavailable

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The administrator that is made when there is none.

    Attributes:
        password_file: Holds the first password in its first line; read only when the administrator is made.
    """

    name: str
    email: str
    password_file: Path | None


async def bootstrap(database: Database, passwords: Passwords, admin: FirstAdmin) -> bool:
    """Makes the permissions, the system roles and, if there is no administrator, the first one.

    Returns:
        Whether an administrator was made.

    Raises:
        Unavailable: The database does not answer; try again.
        InvalidInput: There is no administrator and no usable password for one.
    """
    async with database.transaction() as session:
        await ensure_vocabulary(session)
        if await admin_exists(session):
            return False
    # The hash takes long, so no transaction is open meanwhile; ``ensure_admin`` looks again under its lock.
    password_hash = await _first_password_hash(passwords, admin)
    async with database.transaction() as session:
        made = await ensure_admin(session, name=admin.name, email=admin.email, password_hash=password_hash)
    return made is not None


async def bootstrap_when_possible(
    database: Database, passwords: Passwords, admin: FirstAdmin, say: Callable[[str], None]
) -> None:
    """``bootstrap``, as soon as the database answers.

    Raises:
        InvalidInput: See ``bootstrap``.
    """
    told = False
    while True:
        try:
            if await bootstrap(database, passwords, admin):
                say(f"Made the administrator {admin.name!r}; the first password is in {admin.password_file}.")
            return
        except Unavailable:
            if not told:
                say("The database does not answer; sign-in and everything else waits for it.")
                told = True
        await asyncio.sleep(RETRY_SECONDS)


async def _first_password_hash(passwords: Passwords, admin: FirstAdmin) -> str:
    try:
        return await passwords.hash_new(_first_password(admin), about=(admin.name, admin.email))
    except WeakPassword as error:
        raise InvalidInput(
            f"The first line of {admin.password_file} cannot be the first administrator's password. {error.message}"
        ) from error


def _first_password(admin: FirstAdmin) -> str:
    if admin.password_file is None:
        raise InvalidInput(
            "There is no administrator and access.admin_password_file is not set. Write a password into a file with "
            "mode 0600, name it there, and start again."
        )
    try:
        lines = admin.password_file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(
            f"The first administrator's password cannot be read from {admin.password_file}: {error.strerror}."
        ) from error
    return lines[0].strip() if lines else ""
