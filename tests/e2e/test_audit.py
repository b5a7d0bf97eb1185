"""The audit log of a whole installation, checked by somebody who trusts neither the server nor its database."""

import asyncio
import json
import os
import sys
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.support.platform import Platform

REFUSED_TO_THE_SERVING_ROLE = (
    "UPDATE audit_log SET outcome = 'failure'",
    "DELETE FROM audit_log",
    "TRUNCATE audit_log",
    "DROP TRIGGER trg_audit_log_append ON audit_log",
    "DROP TRIGGER trg_audit_log_append_only ON audit_log",
    "ALTER TABLE audit_log DISABLE TRIGGER ALL",
    "DROP TABLE audit_log",
    "UPDATE audit_heads SET seq = 0",
    "DELETE FROM audit_checkpoints",
    "SET ROLE perdure_owner",
    "SET session_replication_role = replica",
)


@dataclass
class Ran:
    """What a command said, and its exit status."""

    status: int
    text: str


async def perdure(*arguments: str, home: Path | None = None) -> Ran:
    """The real command; without a ``home`` it knows of no installation."""
    known = {} if home is None else {"PERDURE_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "audit", *arguments,
        env={"PATH": os.environ["PATH"], **known},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return Ran(process.returncode or 0, output.decode())


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("audit") / "home")
    made.home.mkdir(mode=0o700)
    await made.up()
    yield made
    await made.down()


async def connected(platform: Platform, role: str) -> asyncpg.Connection:
    settings = tomllib.loads((platform.home / "settings.toml").read_text())["database"]
    return await asyncpg.connect(settings[role].replace("+asyncpg", ""))


async def test_a_log_is_written_and_kept_and_what_is_done_to_it_is_found(platform: Platform, tmp_path: Path) -> None:
    home, file = platform.home, tmp_path / "audit.jsonl"
    key = (await perdure("key", home=home)).text.strip()
    work = await platform.repository(tmp_path / "work", {"README.md": "hello"})
    await platform.push(work, "checked")

    # Its serving role can add to it, and nothing else.
    connection = await connected(platform, "url")
    for statement in REFUSED_TO_THE_SERVING_ROLE:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()

    exported = await perdure("export", str(file), home=home)
    assert exported.status == 0, exported.text
    good = await perdure("verify", str(file), "--public-key", key)
    assert good.status == 0, good.text
    noted = good.text.split("it ends at checkpoint ")[1].strip()
    live = await perdure("verify", "--noted", noted, home=home)
    assert live.status == 0, live.text

    # Somebody with the file.
    lines = file.read_text().splitlines(keepends=True)
    push = next(number for number, line in enumerate(lines) if "git:push" in line)
    row_id = json.loads(json.loads(lines[push])["content"])["act"]["id"]
    file.write_text("".join([*lines[:push], lines[push].replace("git:push", "git:pull"), *lines[push + 1 :]]))
    changed = await perdure("verify", str(file), "--public-key", key)
    assert changed.status == 1
    assert "FIRST CHANGED" in changed.text
    assert row_id in changed.text

    # Somebody with the database.
    owner = await connected(platform, "owner_url")
    await owner.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await owner.execute("DELETE FROM audit_log WHERE id = CAST($1 AS text)::uuid", row_id)
    await owner.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")
    await owner.close()
    removed = await perdure("verify", home=home)
    assert removed.status == 1
    assert "FIRST REMOVED" in removed.text
    unsigned = await perdure("export", "--unsigned", str(file), home=home)
    assert unsigned.status == 0, unsigned.text
    assert "FIRST REMOVED" in (await perdure("verify", str(file), "--public-key", key, "--unsigned")).text
