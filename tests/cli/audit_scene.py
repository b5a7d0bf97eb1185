"""A log of a real database, and what somebody who owns the database, or a file of it, could do to them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
from click.testing import CliRunner, Result
from temporalio.testing import ActivityEnvironment

from activities.audit import AuditActivities
from adapters.objects.memory import MemoryObjects
from adapters.signing.ed25519 import SigningKey
from cli.audit_live import export_live, verify_live
from cli.main import main
from database.engine import Database
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.audit.canonical import canonical
from domain.audit.rows import Row
from domain.audit.verification import Report
from tests.support.audit import AUDIT_KEYS, SIGNING_KEY
from tests.support.stack import TestDatabase

OTHER_KEY = SigningKey(b"another seed for tests, 32 bytes")


class Scene:
    """A log with two checkpoints, ten rows under each in one chain, and five rows that are not signed yet."""

    def __init__(self, database: Database, objects: MemoryObjects, owner: asyncpg.Connection, directory: Path) -> None:
        self.database, self.objects, self.owner = database, objects, owner
        self.activities = AuditActivities(database, objects, SIGNING_KEY)
        self.file = directory / "audit.jsonl"
        self.log = -1

    async def write(self, count: int = 1) -> None:
        async with self.database.transaction() as session:
            for number in range(count):
                actor = Actor(user_id=UUID(int=7), name="ada")
                await record(session, actor, AuditAction.TEAM_UPDATE, "test", None, detail={"number": number})

    async def checkpoint(self, key: SigningKey = SIGNING_KEY) -> None:
        activities = AuditActivities(self.database, self.objects, key)
        await ActivityEnvironment().run(activities.make_checkpoint)
        await ActivityEnvironment().run(activities.publish_checkpoints)

    async def report(self) -> Report:
        return await verify_live(self.database, self.objects, SIGNING_KEY.public.is_signed)

    async def exported(self, **part: object) -> Result:
        await export_live(self.database, self.objects, self.file, **part)  # type: ignore[arg-type]  # since, until
        return self.offline("--unsigned")

    async def exported_signed(self) -> list[str]:
        """The lines of a file as the command writes it: a checkpoint is made first."""
        await export_live(self.database, self.objects, self.file, make_checkpoint=self.checkpoint)
        return self.lines()

    def offline(self, *more: str, key: SigningKey = SIGNING_KEY) -> Result:
        """The real command, which has nothing but the file and the key."""
        command = ["audit", "verify", str(self.file), "--public-key", key.public.text, *more]
        return CliRunner().invoke(main, command)

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines(keepends=True)

    async def as_owner(self, statement: str, *values: object) -> None:
        """What the serving role and the triggers refuse."""
        async with self.owner.transaction():
            await self.owner.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
            await self.owner.execute(statement, *values)
            await self.owner.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")

    async def rewrite(self, begin: int) -> None:
        """Computes every hash anew from a row on, and moves the head: a chain that is whole in itself."""
        rows = await self.owner.fetch("SELECT * FROM audit_log WHERE log = $1 ORDER BY seq", self.log)
        before = rows[begin - 2]["hash"] if begin > 1 else bytes(32)
        for number, row in enumerate(rows[begin - 1 :], start=begin):
            facts = json.loads(row["content"]) | {"seq": number, "prev": before.hex()}
            content = canonical(facts)
            digest = bytes.fromhex(Row(content, "").computed_hash)
            await self.as_owner(
                "UPDATE audit_log SET content = $2, hash = $3, prev_hash = $4, seq = $5, action = $6 WHERE id = $1",
                row["id"],
                content,
                digest,
                before,
                number,
                facts["act"]["action"],
            )
            before = digest
        await self.owner.execute(
            "UPDATE audit_heads SET seq = $2, hash = $3 WHERE log = $1", self.log, len(rows), before
        )


@asynccontextmanager
async def scene_on(made: TestDatabase, directory: Path) -> AsyncIterator[Scene]:
    """The log, in a migrated database."""
    owner = await asyncpg.connect(made.owner_url.replace("+asyncpg", ""))
    # One connection, so one chain.
    async with Database(made.url, pool_size=1, audit_keys=AUDIT_KEYS) as database:
        scene = Scene(database, MemoryObjects(), owner, directory)
        for _ in range(2):
            await scene.write(10)
            await scene.checkpoint()
        await scene.write(5)
        scene.log = await owner.fetchval("SELECT log FROM audit_log LIMIT 1")
        yield scene
    await owner.close()
