"""A file of `perdure audit export` in the hands of somebody who would like it to say something else."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result

from adapters.signing.ed25519 import SigningKey
from cli.main import main
from database.store.audit import record
from database.store.audit_people import erase_person
from domain.actors import SYSTEM, Actor, Origin
from domain.audit.actions import AuditAction
from domain.audit.canonical import canonical
from domain.audit.export_file import end_line, row_line
from domain.audit.rows import Row
from tests.cli.audit_scene import OTHER_KEY, Scene, scene_on
from tests.support.audit import SIGNING_KEY
from tests.support.stack import Stack, TestDatabase

HEAD = 4
"""The header and three checkpoints; row n is line ``HEAD + n - 1``."""


def row(seq: int) -> int:
    return HEAD + seq - 1


def content_of(line: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.loads(line)["content"])
    return found


def id_of(line: str) -> str:
    return str(content_of(line)["act"]["id"])  # type: ignore[index]  # JSON


def saying(line: str, **changed: object) -> str:
    """The row with something else in its act, and a hash that fits."""
    facts = content_of(line)
    facts["act"] = {**facts["act"], **changed}  # type: ignore[dict-item]  # JSON
    return written(facts)


def written(facts: dict[str, object]) -> str:
    content = canonical(facts)
    return row_line(Row(content, Row(content, "").computed_hash)) + "\n"


def computed_anew(lines: list[str], begin: int) -> list[str]:
    """Numbers and hashes of the rows from a line on, so that the chain is whole in itself."""
    made = lines[:begin]
    for line in lines[begin:]:
        if '"type":"row"' in line:
            before = json.loads(made[-1])
            prev, seq = "0" * 64, 1
            if before["type"] == "row":
                prev, seq = before["hash"], int(json.loads(before["content"])["seq"]) + 1
            line = written(content_of(line) | {"prev": prev, "seq": seq})  # noqa: PLW2901  # the line as it goes out
        made.append(line)
    return made


@dataclass
class Files:
    """What one log was exported to: every row signed, and with rows after the last checkpoint."""

    log: int
    signed: list[str]
    unsigned: list[str]
    place: Path

    def verify_text(self, text: str, *more: str, key: SigningKey = SIGNING_KEY) -> Result:
        """The real command, which has nothing but the file and the key."""
        self.place.write_text(text)
        command = ["audit", "verify", str(self.place), "--public-key", key.public.text, *more]
        return CliRunner().invoke(main, command)

    def verify(self, lines: list[str], *more: str) -> Result:
        """The same of a file whose last line was put right after it was changed by hand."""
        counts = [sum(f'"type":"{kind}"' in line for line in lines) for kind in ("row", "checkpoint")]
        return self.verify_text("".join([*lines[:-1], end_line(*counts) + "\n"]), *more)


@pytest.fixture(scope="module")
async def files(
    idle_stack: Stack, template_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Files]:
    directory = tmp_path_factory.mktemp("files")
    made = await idle_stack.create_database(template=template_database.name)
    async with scene_on(made, directory) as scene:
        await scene.exported()
        unsigned = scene.lines()
        signed = await scene.exported_signed()
        yield Files(scene.log, signed, unsigned, directory / "changed.jsonl")
    await idle_stack.drop_database(made)


def noted_of(result: Result) -> str:
    return result.output.split("it ends at checkpoint ")[1].strip()


def told(result: Result, what: str, text: str) -> None:
    assert result.exit_code == 1, result.output
    [first] = [line for line in result.output.splitlines() if line.startswith("FIRST ")]
    assert first.startswith(f"FIRST {what}: ")
    assert text in first


async def test_every_row_of_a_file_is_signed(files: Files) -> None:
    lines = files.signed
    assert len(lines) == HEAD + 27 + 1
    result = files.verify(lines)
    assert result.exit_code == 0, result.output
    assert "27 rows from the beginning, 3 checkpoints" in result.output
    assert "whole and unchanged; 27 rows are signed" in result.output
    noted = noted_of(result)
    assert noted.startswith("3:")
    assert files.verify(lines, "--noted", noted).exit_code == 0
    assert files.verify_text("".join(lines), key=OTHER_KEY).exit_code == 1


@pytest.mark.parametrize("seq", [1, 10, 15, 27])
@pytest.mark.parametrize("is_rehashed", [False, True])
async def test_a_changed_row_is_named(files: Files, seq: int, *, is_rehashed: bool) -> None:
    lines = list(files.signed)
    line = lines[row(seq)]
    lines[row(seq)] = saying(line, outcome="denied") if is_rehashed else line.replace('success\\"', 'failure\\"')
    assert lines[row(seq)] != line
    result = files.verify(lines)
    told(result, "CHANGED", f"row {seq} was changed")
    assert f"row id {id_of(line)}" in result.output


@pytest.mark.parametrize("seq", [1, 12, 27])
async def test_a_row_that_was_changed_with_every_hash_after_it_is_named(files: Files, seq: int) -> None:
    lines = list(files.signed)
    lines[row(seq)] = saying(lines[row(seq)], outcome="denied")
    told(files.verify(computed_anew(lines, row(seq))), "CHANGED", f"row {seq} was changed, or one was inserted")


@pytest.mark.parametrize("seq", [1, 10, 25])
async def test_a_removed_row_is_named(files: Files, seq: int) -> None:
    lines = list(files.signed)
    del lines[row(seq)]
    told(files.verify(lines), "REMOVED", f"row {seq} was removed")
    told(files.verify(computed_anew(lines, row(seq))), "CHANGED", f"row {seq} was changed, or one was inserted or")


@pytest.mark.parametrize("seq", [1, 11, 27])
async def test_an_inserted_row_is_named(files: Files, seq: int) -> None:
    lines = list(files.signed)
    forged = saying(lines[row(seq)], id=str(UUID(int=99)), action="role:update")
    lines.insert(row(seq), forged)
    result = files.verify(lines)
    told(result, "INSERTED", f"row {seq}")
    assert f"row id {UUID(int=99)}" in result.output
    told(files.verify(computed_anew(lines, row(seq))), "CHANGED", f"row {seq} was changed, or one was inserted")


@pytest.mark.parametrize("seq", [1, 10, 25])
async def test_reordered_rows_are_named(files: Files, seq: int) -> None:
    lines = list(files.signed)
    lines[row(seq)], lines[row(seq + 1)] = lines[row(seq + 1)], lines[row(seq)]
    told(files.verify(lines), "REORDERED", f"row {seq + 1} stands before row {seq}")


async def test_forged_and_exchanged_checkpoints_are_told(files: Files) -> None:
    lines = list(files.signed)
    found = json.loads(lines[2])
    for statement in (found["statement"], found["statement"].replace('"rows":10', '"rows":11')):
        signature = OTHER_KEY.sign(statement.encode()).hex()
        forged = canonical({**found, "statement": statement, "signature": signature}) + "\n"
        told(files.verify([*lines[:2], forged, *lines[3:]]), "CHECKPOINT", "checkpoint 2 is forged")
    changed = canonical({**found, "statement": found["statement"].replace('"rows":10', '"rows":11')}) + "\n"
    told(files.verify([*lines[:2], changed, *lines[3:]]), "CHECKPOINT", "checkpoint 2 is forged")
    told(files.verify([*lines[:2], *lines[3:]]), "CHECKPOINT", "checkpoint 3 follows checkpoint 1")
    told(files.verify([lines[0], lines[2], lines[1], *lines[3:]]), "CHECKPOINT", "follows")


async def test_checkpoints_that_come_after_rewritten_rows_do_not_vouch_for_them(files: Files) -> None:
    lines = list(files.signed)
    lines[row(4)] = saying(lines[row(4)], outcome="denied")
    lines = computed_anew(lines, row(4))
    moved = [lines[0], *lines[HEAD:-1], *lines[1:HEAD], lines[-1]]
    told(files.verify(moved, "--unsigned"), "CHECKPOINT", "checkpoint 1 stands after rows")


async def test_a_file_that_was_cut_off_is_told(files: Files) -> None:
    lines = files.signed
    for left in (row(1), row(15), row(24), len(lines) - 1):
        result = files.verify_text("".join(lines[:left]))
        assert result.exit_code == 1
        assert "the file was cut off" in result.output
    for seq in (1, 9, 20, 26):
        gone = f"the rows {seq} to 27 of log {files.log} were removed"
        told(files.verify([*lines[: row(seq)], lines[-1]]), "REMOVED", gone)
    assert "cannot be checked" in files.verify_text("".join(lines[:3]) + lines[3][:100]).output
    assert "more or less than its last line says" in files.verify_text("".join([*lines[:-3], lines[-1]])).output


async def test_an_end_that_was_cut_off_with_its_checkpoint_is_told_to_who_noted_it(files: Files) -> None:
    lines = files.signed
    noted = noted_of(files.verify(lines))
    cut = [*lines[:3], *lines[HEAD : row(21)], lines[-1]]
    result = files.verify(cut)
    assert result.exit_code == 0
    assert noted_of(result).startswith("2:")
    told(files.verify(cut, "--noted", noted), "REMOVED", "ends at checkpoint 2, and checkpoint 3 was noted")
    assert "another log" in files.verify(lines, "--noted", f"3:{'0' * 64}").output


async def test_rows_after_the_last_checkpoint_prove_nothing_and_that_is_told(files: Files) -> None:
    lines = files.unsigned
    result = files.verify(lines)
    told(result, "UNSIGNED", "6 rows are signed by no checkpoint")
    assert "not what was written" not in result.output
    assert files.verify(lines, "--unsigned").exit_code == 0
    told(files.verify([*lines[:-3], lines[-1]]), "UNSIGNED", "4 rows are signed by no checkpoint")
    unsigned_and_rewritten = [line for line in lines if '"type":"checkpoint"' not in line]
    told(files.verify(unsigned_and_rewritten), "UNSIGNED", "26 rows are signed by no checkpoint")


@pytest.mark.parametrize(
    "noted", ["3", "three:00", f":{'0' * 64}", f"3:{'0' * 63}", f"3:{'g' * 64}", f"\u0663:{'0' * 64}"]
)
async def test_what_was_not_noted_so_is_refused(files: Files, noted: str) -> None:
    result = files.verify(files.signed, "--noted", noted)
    assert result.exit_code == 2
    assert "is no checkpoint" in result.output


async def test_an_erased_person_changes_no_hash(scene: Scene) -> None:
    person = Actor(user_id=uuid4(), name="telltale", origin=Origin(ip="192.0.2.44", user_agent="telltale/1"))
    async with scene.database.transaction() as session:
        await record(session, person, AuditAction.USER_UPDATE, "user", person.user_id, after={"email": "t@example.org"})
    before = await scene.exported_signed()
    assert scene.offline().exit_code == 0
    async with scene.database.transaction() as session:
        assert await erase_person(session, SYSTEM, person.user_id)
    scene.database.audit_keys.forget(person.user_id)
    after = await scene.exported_signed()
    result = scene.offline()
    assert result.exit_code == 0, result.output
    assert set(before[HEAD:-1]) <= set(after)
    assert (await scene.report()).problems == ()
    assert not any(clear in "".join(after) for clear in ("telltale", "192.0.2.44", "t@example.org"))
