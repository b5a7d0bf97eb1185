"""The file of ``perdure audit export``: JSON Lines, each line canonical JSON.

First a header, then the checkpoints in order, then the rows by log and number, at last a line that says how much there
was. A file that covers a part begins with the checkpoint that the part begins after, and ends at one: whole intervals
between checkpoints, so that nothing can be missing from them unseen.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from domain.audit.canonical import canonical, is_canonical, utc
from domain.audit.chain import Problem, Tampering
from domain.audit.checkpoints import CheckSignature, SignedCheckpoint
from domain.audit.rows import Row
from domain.audit.verification import Noted, Report, Verification

KIND = "perdure-audit-export"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; nothing of it is trusted.

    Attributes:
        is_whole: Whether it begins at the beginning of the log.
        made_at: When it was written.
        since: What was asked for.
        until: What was asked for.
    """

    is_whole: bool
    made_at: datetime
    since: datetime | None = None
    until: datetime | None = None

    def line(self) -> str:
        """The first line."""
        return canonical(
            {
                "kind": KIND,
                "made_at": utc(self.made_at),
                "since": utc(self.since) if self.since else None,
                "type": "header",
                "until": utc(self.until) if self.until else None,
                "v": VERSION,
                "whole": self.is_whole,
            }
        )


def row_line(row: Row) -> str:
    """The line of a row."""
    return canonical({"content": row.content, "hash": row.hash, "type": "row"})


def end_line(rows: int, checkpoints: int) -> str:
    """The last line."""
    return canonical({"checkpoints": checkpoints, "rows": rows, "type": "end"})


def verify_lines(
    lines: Iterable[str],
    check_signature: CheckSignature,
    *,
    noted: Iterable[Noted] = (),
    is_unsigned_fine: bool = False,
) -> Report:
    """Checks a file, in memory that grows with the hashes of its rows only.

    Args:
        lines: Of the file.
        check_signature: See ``Verification``.
        noted: See ``Verification``.
        is_unsigned_fine: Whether rows that no checkpoint of the file covers are none of the problems. Whoever had the
            file in hand could have written or cut off such rows, so they prove nothing.

    Raises:
        ValueError: It is no such file, of a version that is not known here, or begins after a noted checkpoint.
    """
    stream = iter(lines)
    verification = Verification(check_signature, is_whole=_is_whole(next(stream, "")), noted=noted)
    counted = {"row": 0, "checkpoint": 0}
    end: dict[str, object] | None = None
    for number, line in enumerate(stream, start=2):
        text = line.rstrip("\n")
        found = _read(text, number)
        if end is not None:
            raise ValueError(f"line {number}: there is more after the last line")
        kind = found.get("type")
        if kind == "row":
            verification.add_row(Row(str(found.get("content")), str(found.get("hash"))))
        elif kind == "checkpoint":
            verification.add_checkpoint(SignedCheckpoint.from_json(text))
        elif kind == "end":
            end = found
            continue
        else:
            raise ValueError(f"line {number} is neither a row nor a checkpoint")
        counted[kind] += 1
    report = _with_end(verification.report(), end, counted)
    if report.problems or is_unsigned_fine or not report.unsigned_rows:
        return report
    text = f"{report.unsigned_rows} rows are signed by no checkpoint of this file: anybody can have written them"
    return replace(report, problems=(Problem(Tampering.UNSIGNED, text, position=report.rows + report.checkpoints),))


def _is_whole(line: str) -> bool:
    header = _read(line.rstrip("\n"), 1)
    if header.get("kind") != KIND or header.get("v") != VERSION:
        raise ValueError("this is no file of `perdure audit export`, or one of a later version")
    return header.get("whole") is True


def _read(line: str, number: int) -> dict[str, object]:
    if not is_canonical(line):
        raise ValueError(f"line {number} is not canonical JSON")
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError(f"line {number} is not an object")
    return found


def _with_end(report: Report, end: dict[str, object] | None, counted: dict[str, int]) -> Report:
    told = None if end is None else (end.get("rows"), end.get("checkpoints"))
    if told == (counted["row"], counted["checkpoint"]):
        return report
    text = "the file was cut off" if end is None else "the file holds more or less than its last line says"
    position = 1 + counted["row"] + counted["checkpoint"]
    problem = Problem(Tampering.REMOVED, text, position=position)
    return replace(report, problems=(*report.problems, problem))
