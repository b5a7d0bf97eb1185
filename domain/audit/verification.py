"""Checks that an audit log is whole: every chain link by link, and all of it against what checkpoints signed.

Pure: rows and checkpoints come in from a database or a file, the check of a signature is handed in. For each chain the
first row is named where it stops being what was written, and what happened to it: changed, removed, inserted or
reordered. A chain alone shows careless edits; against somebody who computes every hash anew, the leaves of the
checkpoints still name the first row that was rewritten.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from domain.audit.chain import Chain, Problem, Seen, Tampering
from domain.audit.checkpoints import (
    HASH_SIZE_BYTES,
    NO_HASH,
    Checkpoint,
    CheckSignature,
    Head,
    SignedCheckpoint,
    read_statement,
    statement_hash,
)
from domain.audit.merkle import root_of
from domain.audit.rows import LOGS, Row, read_content


@dataclass(frozen=True, slots=True)
class Noted:
    """A checkpoint that somebody noted elsewhere.

    Attributes:
        hash: SHA-256 (hex) of its statement.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        """As `perdure audit verify --noted` takes it."""
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and found.

    Attributes:
        rows: How many rows were read.
        signed_rows: How many of them a good checkpoint covers; the others are chained, and signed by the next one.
        checkpoints: How many were read and are good.
        since: The time of the checkpoint that the rows begin after; ``None`` for the beginning of the log.
        until: The time of the last good checkpoint.
        last: Number and hash of the last good checkpoint: what to note, for a later look at the same log.
        problems: The first of every chain and every bad checkpoint, in the order in which they were met.
    """

    rows: int
    signed_rows: int
    checkpoints: int
    since: datetime | None
    until: datetime | None
    last: Noted | None
    problems: tuple[Problem, ...]

    @property
    def unsigned_rows(self) -> int:
        """How many rows no checkpoint covers: whoever had them in hand could have written them."""
        return self.rows - self.signed_rows

    @property
    def first(self) -> Problem | None:
        """What was met first."""
        return self.problems[0] if self.problems else None


class Verification:
    """One pass over a log. First all checkpoints in order, then all rows, those of one chain in their order.

    Args:
        check_signature: Whether a signature of a statement is one of the key that the reader trusts.
        is_whole: Whether the rows begin at the beginning of the log, else after the first checkpoint that comes in.
        noted: Checkpoints that the reader knows of from elsewhere: the log has to hold exactly these. Nothing else
            shows that the end was cut off together with its checkpoints, or that whoever has the key signed two logs.
    """

    def __init__(self, check_signature: CheckSignature, *, is_whole: bool = True, noted: Iterable[Noted] = ()) -> None:
        self._check_signature = check_signature
        self._noted = {one.number: one for one in noted}
        self._is_whole = is_whole
        self._chains = {log: Chain(log, Head(0, NO_HASH), Head(0, NO_HASH)) for log in range(LOGS)}
        self._before: Checkpoint | None = None
        self._before_hash = NO_HASH
        self._since: datetime | None = None
        self._good = 0
        self._rows = 0
        self._position = 0
        self._problems: list[Problem] = []
        self._flawed: set[int] = set()

    def add_checkpoint(self, signed: SignedCheckpoint) -> None:
        """The next checkpoint."""
        self._position += 1
        try:
            checkpoint = read_statement(signed.statement)
        except ValueError as error:
            self._bad(f"a checkpoint cannot be read: {error}")
            return
        name = f"checkpoint {checkpoint.number}"
        if self._rows:
            # Nothing compares those rows with it any more, so it must not look as if it vouched for them.
            self._bad(f"{name} stands after rows: checkpoints come first")
            return
        if not self._check_signature(signed.statement.encode(), signed.signature):
            self._bad(f"{name} is forged: its signature is not one of this public key")
            return
        is_base = not self._is_whole and self._before is None
        if is_base:
            self._begin_after(checkpoint)
        else:
            self._compare(name, checkpoint, signed)
        self._before, self._before_hash = checkpoint, statement_hash(signed.statement)
        self._good += 1
        self._compare_with_noted(checkpoint.number, is_first=is_base)

    def _compare_with_noted(self, number: int, *, is_first: bool) -> None:
        if is_first and any(earlier < number for earlier in self._noted):
            raise ValueError(f"it begins after checkpoint {number}, so it does not show an earlier one that was noted")
        noted = self._noted.pop(number, None)
        if noted is not None and noted.hash != self._before_hash:
            self._bad(f"checkpoint {number} is not the one that was noted: the same key signed another log")

    def _begin_after(self, checkpoint: Checkpoint) -> None:
        self._since = checkpoint.at
        for log, head in checkpoint.heads.items():
            self._chains[log] = Chain(log, head, head, signed=head)

    def _compare(self, name: str, checkpoint: Checkpoint, signed: SignedCheckpoint) -> None:
        number = self._before.number if self._before else 0
        if checkpoint.number != number + 1:
            self._bad(f"{name} follows checkpoint {number}: those between were removed, or it was inserted")
        elif checkpoint.previous != self._before_hash:
            self._bad(f"{name} names another checkpoint {number} than the one that is here")
        counts = {
            log: head.seq - (self._before.head(log).seq if self._before else 0)
            for log, head in sorted(checkpoint.heads.items())
        }
        if min(counts.values(), default=0) < 0 or sum(counts.values()) != checkpoint.rows:
            self._bad(f"{name} says that rows of before are gone")
            return
        leaves = [signed.leaves[at : at + HASH_SIZE_BYTES] for at in range(0, len(signed.leaves), HASH_SIZE_BYTES)]
        for log, head in checkpoint.heads.items():
            self._chains[log].signed = head
        if len(leaves) != checkpoint.rows or root_of(leaves).hex() != checkpoint.root:
            self._bad(f"{name}: the hashes of rows that are kept with it are not those that it signed")
            return
        place = 0
        for log, count in counts.items():
            self._chains[log].leaves += b"".join(leaves[place : place + count])
            place += count

    def expect_head(self, log: int, head: Head) -> None:
        """Where a log is known to stand by other means than a checkpoint: the database's own note of it."""
        chain = self._chains[log]
        if chain.signed is None or head.seq > chain.signed.seq:
            chain.signed = head

    def add_row(self, row: Row, *, flaw: str | None = None) -> None:
        """The next row.

        Args:
            row: As it was read.
            flaw: What else is known to be wrong with it, for instance a column that says something else.
        """
        self._position += 1
        self._rows += 1
        try:
            place, act = read_content(row.content)
        except ValueError as error:
            self._problems.append(
                Problem(Tampering.UNREADABLE, f"a row cannot be read: {error}", position=self._position)
            )
            return
        is_own = row.computed_hash == row.hash
        chain = self._chains.get(place.log)
        if chain is None:
            self._problems.append(
                Problem(
                    Tampering.INSERTED, f"there is no log {place.log}", place.log, place.seq, position=self._position
                )
            )
            return
        bad_hash = None if is_own else "its hash is not that of its content"
        seen = Seen(self._position, place, str(act.get("id")), row.computed_hash, bad_hash)
        chain.add(seen)
        # A row that is in its place, but shows something else than it says; one that is not is told as that.
        if flaw is not None and chain.last is seen and place.log not in self._flawed:
            self._flawed.add(place.log)
            text = f"log {place.log}: row {place.seq} was changed: {flaw}"
            self._problems.append(
                Problem(Tampering.CHANGED, text, place.log, place.seq, seen.row_id, position=self._position)
            )

    def report(self) -> Report:
        """The end of it."""
        chains = self._chains.values()
        found = [problem for chain in chains if (problem := chain.problem()) is not None]
        end = self._before.number if self._before else 0
        found += [
            Problem(
                Tampering.REMOVED,
                f"the log ends at checkpoint {end}, and checkpoint {number} was noted: the end was cut off",
                position=self._position,
            )
            for number in sorted(self._noted)
        ]
        return Report(
            rows=self._rows,
            signed_rows=sum(chain.signed_rows for chain in chains),
            checkpoints=self._good,
            since=self._since,
            until=self._before.at if self._before else None,
            last=Noted(self._before.number, self._before_hash) if self._before else None,
            problems=tuple(sorted([*self._problems, *found], key=lambda one: one.position)),
        )

    def _bad(self, text: str) -> None:
        self._problems.append(Problem(Tampering.CHECKPOINT, text, position=self._position))


def verify(
    checkpoints: Iterable[SignedCheckpoint],
    rows: Iterable[Row],
    check_signature: CheckSignature,
    *,
    is_whole: bool = True,
) -> Report:
    """``Verification`` of what is at hand as a whole."""
    verification = Verification(check_signature, is_whole=is_whole)
    for checkpoint in checkpoints:
        verification.add_checkpoint(checkpoint)
    for row in rows:
        verification.add_row(row)
    return verification.report()
