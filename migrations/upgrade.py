"""``python -m migrations.upgrade``: brings the database to the newest schema.

Run by ``perdure up`` and by a job before each rollout in production. Migrations expand, migrate, then contract, so
the running version and the next both work on one schema; each runs under a lock timeout, so that it gives up instead
of queueing every query behind itself.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from database.store.audit_keys import AuditKeys
from domain.errors import InvalidInput
from settings.program import run_program
from settings.values import Settings

ADVISORY_LOCK = 0x7065_7264  # one migrator at a time; the number is "perd"


def _config(connection: Connection, audit_keys: AuditKeys | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    config.attributes["audit_keys"] = audit_keys
    return config


def _upgrade(connection: Connection, audit_keys: AuditKeys | None, revision: str) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    command.upgrade(_config(connection, audit_keys), revision)
    connection.commit()


async def upgrade(owner_url: str, *, audit_keys: AuditKeys | None = None, revision: str = "head") -> None:
    """Runs all missing migrations as the owner of the schema.

    Args:
        owner_url: ``postgresql+asyncpg://...`` of the role that owns the tables.
        audit_keys: Encrypt the personal data of audit rows from before migration 0004; an installation that never had
            such rows needs none.
        revision: Where to stop.
    """
    engine = create_async_engine(owner_url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, audit_keys, revision)
    finally:
        await engine.dispose()


async def _upgrade_from(settings: Settings) -> None:
    url = settings.database.owner_url
    if url is None:
        raise InvalidInput("Set database.owner_url: the role that owns the schema runs the migrations.")
    await upgrade(url.get_secret_value(), audit_keys=AuditKeys(settings.audit.secret()))


if __name__ == "__main__":
    sys.exit(run_program("The migration", _upgrade_from))
