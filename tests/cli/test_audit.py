"""The audit log of a real database, damaged as only its owner could, and what `perdure audit verify` says of it."""

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner
from temporalio.testing import ActivityEnvironment

from activities.audit import AuditActivities
from adapters.objects.base import checkpoint_key
from adapters.objects.memory import MemoryObjects
from cli.audit_live import verify_live
from cli.main import main
from database.engine import Database
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.audit.canonical import canonical, moment
from domain.audit.chain import Problem, Tampering
from domain.audit.rows import Row
from domain.errors import Conflict
from tests.cli.audit_scene import OTHER_KEY, Scene
from tests.support.audit import AUDIT_KEYS, SIGNING_KEY
from tests.support.stack import TestDatabase


async def first(scene: Scene) -> Problem:
    problem = (await scene.report()).first
    assert problem is not None
    return problem


async def test_a_log_that_nobody_touched_is_whole_live_and_as_a_file(scene: Scene) -> None:
    report = await scene.report()
    assert report.problems == ()
    assert (report.rows, report.signed_rows, report.checkpoints) == (25, 20, 2)
    result = await scene.exported()
    assert result.exit_code == 0, result.output
    assert "whole and unchanged; 20 rows are signed" in result.output
    # The export is an act itself.
    assert (await scene.report()).rows == 26


@pytest.mark.parametrize(("seq", "what"), [(3, "changed"), (15, "changed"), (23, "changed")])
async def test_a_changed_row_is_named(scene: Scene, seq: int, what: str) -> None:
    await scene.as_owner(
        "UPDATE audit_log SET content = replace(content, 'team:update', 'team:delete'), action = 'team:delete' "
        "WHERE log = $1 AND seq = $2",
        scene.log,
        seq,
    )
    problem = await first(scene)
    assert (problem.what.value, problem.seq) == (what, seq)
    assert problem.row_id == str(
        await scene.owner.fetchval("SELECT id FROM audit_log WHERE log = $1 AND seq = $2", scene.log, seq)
    )
    result = await scene.exported()
    assert result.exit_code == 1
    assert f"FIRST CHANGED: log {scene.log}: row {seq} was changed" in result.output
    assert str(problem.row_id) in result.output


async def test_a_changed_column_is_named_though_the_content_is_whole(scene: Scene) -> None:
    await scene.as_owner("UPDATE audit_log SET outcome = 'denied' WHERE log = $1 AND seq = 4", scene.log)
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.CHANGED, 4)
    assert "column outcome" in problem.text


@pytest.mark.parametrize("seq", [1, 10, 20, 24])
async def test_a_removed_row_is_named(scene: Scene, seq: int) -> None:
    await scene.as_owner("DELETE FROM audit_log WHERE log = $1 AND seq = $2", scene.log, seq)
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.REMOVED, seq)
    result = await scene.exported()
    assert f"FIRST REMOVED: log {scene.log}: row {seq} was removed" in result.output


async def test_an_inserted_row_is_named(scene: Scene) -> None:
    row = await scene.owner.fetchrow("SELECT * FROM audit_log WHERE log = $1 AND seq = 6", scene.log)
    facts = json.loads(row["content"])
    facts["act"] |= {"id": str(UUID(int=99)), "action": "test:forged"}
    content = canonical(facts)
    await scene.as_owner("ALTER TABLE audit_log DROP CONSTRAINT uq_audit_log_log_seq")
    await scene.as_owner(
        "INSERT INTO audit_log (id, log, seq, actor_id, action, resource, content, prev_hash, hash, created_at) "
        "VALUES ($1, $2, 6, $3, 'test:forged', 'test', $4, $5, $6, $7)",
        UUID(int=99),
        scene.log,
        UUID(int=7),
        content,
        row["prev_hash"],
        bytes.fromhex(Row(content, "").computed_hash),
        moment(facts["time"]),
    )
    problem = await first(scene)
    assert (problem.what, problem.seq, problem.row_id) == (Tampering.INSERTED, 6, str(UUID(int=99)))
    result = await scene.exported()
    assert f"FIRST INSERTED: log {scene.log}: a row was inserted" in result.output


async def test_reordered_rows_are_named(scene: Scene) -> None:
    await scene.as_owner("ALTER TABLE audit_log DROP CONSTRAINT uq_audit_log_log_seq")
    await scene.as_owner(
        "UPDATE audit_log SET seq = CASE seq WHEN 8 THEN 9 ELSE 8 END WHERE log = $1 AND seq IN (8, 9)", scene.log
    )
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.REORDERED, 9)
    result = await scene.exported()
    assert f"FIRST REORDERED: log {scene.log}: row 9 stands before row 8" in result.output


async def test_reordered_lines_of_a_file_are_named(scene: Scene) -> None:
    await scene.exported()
    lines = scene.file.read_text().splitlines(keepends=True)
    lines[12], lines[13] = lines[13], lines[12]
    scene.file.write_text("".join(lines))
    assert "FIRST REORDERED" in scene.offline("--unsigned").output


@pytest.mark.parametrize("seq", [1, 7, 11, 20])
async def test_rows_rewritten_with_every_hash_anew_are_found_by_what_was_signed(scene: Scene, seq: int) -> None:
    await scene.as_owner(
        "UPDATE audit_log SET content = replace(content, 'team:update', 'team:delete') WHERE log = $1 AND seq = $2",
        scene.log,
        seq,
    )
    await scene.rewrite(seq)
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.CHANGED, seq)
    assert "computed anew" in problem.text
    with pytest.raises(Conflict, match="tampered"):
        await ActivityEnvironment().run(scene.activities.make_checkpoint)


async def test_a_cut_off_end_is_found_once_it_was_signed(scene: Scene) -> None:
    await scene.as_owner("DELETE FROM audit_log WHERE log = $1 AND seq > 17", scene.log)
    assert (await first(scene)).seq == 18
    await scene.rewrite(17)
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.REMOVED, 18)
    result = await scene.exported()
    assert result.exit_code == 1
    with pytest.raises(Conflict, match="tampered"):
        await ActivityEnvironment().run(scene.activities.make_checkpoint)


async def test_an_end_that_was_cut_off_before_it_was_signed_is_only_noted_by_the_database(scene: Scene) -> None:
    await scene.as_owner("DELETE FROM audit_log WHERE log = $1 AND seq > 23", scene.log)
    assert (await first(scene)).seq == 24
    with pytest.raises(Conflict, match="missing"):
        await ActivityEnvironment().run(scene.activities.make_checkpoint)


async def test_a_row_that_was_put_past_the_end_is_told(scene: Scene) -> None:
    await scene.owner.execute("UPDATE audit_heads SET seq = 24 WHERE log = $1", scene.log)
    assert "outside of the chain" in (await first(scene)).text


@pytest.mark.parametrize("place", ["seq = 0", "seq = -5", "log = -1", "log = 16"])
async def test_a_row_that_no_reader_of_a_chain_would_meet_is_told(scene: Scene, place: str) -> None:
    """It would stand on the page of the log all the same."""
    await scene.as_owner(
        "INSERT INTO audit_log (id, log, seq, actor_id, action, resource, content, prev_hash, hash) "
        "SELECT gen_random_uuid(), log, 99, actor_id, action, resource, content, prev_hash, hash FROM audit_log "
        "WHERE seq = 7"
    )
    await scene.as_owner(f"UPDATE audit_log SET {place} WHERE seq = 99")  # noqa: S608  # a parameter of the test
    problem = await first(scene)
    assert (problem.what, problem.seq) == (Tampering.INSERTED, 7)


async def test_rows_of_a_log_whose_end_is_gone_are_told(scene: Scene) -> None:
    await scene.owner.execute("DELETE FROM audit_heads WHERE log = $1", scene.log)
    assert (await first(scene)).text


async def test_a_checkpoint_that_only_the_database_has_and_nobody_signed_is_told(scene: Scene) -> None:
    """The serving role can put it there."""
    await scene.owner.execute(
        "INSERT INTO audit_checkpoints SELECT 3, replace(statement, '\"number\":2', '\"number\":3'), signature "
        "FROM audit_checkpoints WHERE number = 2"
    )
    assert "checkpoint 3 is forged" in (await first(scene)).text
    with pytest.raises(Conflict, match="checkpoint 3 in the database is forged"):
        await ActivityEnvironment().run(scene.activities.make_checkpoint)
    await scene.owner.execute("INSERT INTO audit_checkpoints VALUES (4, 'nonsense', '')")
    with pytest.raises(Conflict, match="what the database has as checkpoint 4 is none"):
        await ActivityEnvironment().run(scene.activities.make_checkpoint)
    with pytest.raises(Conflict, match="tampered"):
        await ActivityEnvironment().run(scene.activities.publish_checkpoints)


async def test_forged_checkpoints_are_told(scene: Scene) -> None:
    forged = json.loads(await scene.objects.get(checkpoint_key(2)))
    forged["signature"] = OTHER_KEY.sign(forged["statement"].encode()).hex()
    await scene.objects.put(checkpoint_key(2), canonical(forged).encode())
    assert "checkpoint 2 is forged" in (await first(scene)).text
    result = await scene.exported()
    assert "FIRST CHECKPOINT: checkpoint 2 is forged" in result.output


async def test_a_whole_log_of_somebody_elses_making_does_not_fit_the_key(scene: Scene) -> None:
    await scene.exported()
    result = scene.offline(key=OTHER_KEY)
    assert result.exit_code == 1
    assert "checkpoint 1 is forged" in result.output


async def test_checkpoints_that_are_gone_from_either_place_are_told(scene: Scene) -> None:
    await scene.owner.execute("ALTER TABLE audit_checkpoints DISABLE TRIGGER USER")
    await scene.owner.execute("DELETE FROM audit_checkpoints WHERE number = 2")
    assert "checkpoint 2 is missing in the database" in (await first(scene)).text
    await scene.objects.delete([checkpoint_key(1)])
    texts = [problem.text for problem in (await scene.report()).problems]
    assert "checkpoint 1 is missing in the object store" in texts


async def test_a_part_is_widened_to_checkpoints_and_whole(scene: Scene) -> None:
    at = await scene.owner.fetchval("SELECT created_at FROM audit_log WHERE log = $1 AND seq = 15", scene.log)
    result = await scene.exported(since=at, until=at)
    assert result.exit_code == 0, result.output
    assert "10 rows after" in result.output
    lines = scene.file.read_text().splitlines(keepends=True)
    scene.file.write_text("".join(line for number, line in enumerate(lines) if number != 5))
    assert "FIRST REMOVED" in scene.offline("--unsigned").output
    everything = await scene.exported(since=at - timedelta(days=1), until=at + timedelta(days=1))
    assert "27 rows" in everything.output


async def test_checkpoints_that_could_not_be_kept_are_kept_by_the_next_round(scene: Scene) -> None:
    await ActivityEnvironment().run(scene.activities.make_checkpoint)
    await ActivityEnvironment().run(scene.activities.make_checkpoint)
    assert (await ActivityEnvironment().run(scene.activities.publish_checkpoints)).numbers == (3, 4)
    assert (await ActivityEnvironment().run(scene.activities.publish_checkpoints)).numbers == ()
    report = await scene.report()
    assert (report.problems, report.checkpoints, report.signed_rows) == ((), 4, 25)


async def test_many_checkpoints_at_once_follow_one_another(migrated: TestDatabase) -> None:
    objects = MemoryObjects()
    async with Database(migrated.url, pool_size=8, audit_keys=AUDIT_KEYS) as database:
        activities = AuditActivities(database, objects, SIGNING_KEY)

        async def write() -> None:
            async with database.transaction() as session:
                await record(session, Actor(user_id=UUID(int=3), name="eve"), AuditAction.TEAM_UPDATE, "test", None)

        await asyncio.gather(
            *(write() for _ in range(20)), *(ActivityEnvironment().run(activities.make_checkpoint) for _ in range(4))
        )
        await ActivityEnvironment().run(activities.publish_checkpoints)
        report = await verify_live(database, objects, SIGNING_KEY.public.is_signed)
    assert (report.problems, report.checkpoints, report.rows) == ((), 4, 20)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verify", "FILE"], "with --public-key"),
        (["verify", "FILE", "--public-key", "nonsense"], "base64 of 32 bytes"),
        (["verify", "FILE", "--public-key", SIGNING_KEY.public.text], "cannot be checked"),
        (["verify", "nowhere.jsonl", "--public-key", SIGNING_KEY.public.text], "does not exist"),
        (["export", "FILE", "--since", "yesterday"], "is no time"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text("hello\n")
    result = CliRunner().invoke(main, ["audit", *(str(file) if one == "FILE" else one for one in arguments)])
    assert result.exit_code != 0
    assert told in result.output


async def test_a_file_is_checked_without_database_network_or_settings(scene: Scene) -> None:
    await scene.exported_signed()
    code = (
        "import socket, sys\n"
        "socket.socket = None\n"
        "sys.argv = ['audit', 'verify', sys.argv[1], '--public-key', sys.argv[2]]\n"
        "from cli.audit import audit\n"
        "try:\n    audit()\n"
        "except SystemExit as end:\n"
        "    heavy = {'database', 'sqlalchemy', 'asyncpg', 'settings', 'temporalio', 'httpx', 'minio', 'api'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "    sys.exit(end.code)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, str(scene.file), SIGNING_KEY.public.text],
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "whole and unchanged" in done.stdout
