"""Checks that an audit log is whole: every chain link by link, and all of it against what checkpoints signed.

Pure: rows and checkpoints come in from a database or a file, the check of a signature is handed in. For each chain the
first row is named where it stops being what was written, and what happened to it: changed, removed, inserted or
reordered. A chain alone shows careless edits; against somebody who computes every hash anew, the leaves of the
checkpoints still name the first row that was rewritten.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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
from domain.audit.rows import LOGS, Place, Row, read_content


class Tampering(StrEnum):
    """What happened to the log."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CHECKPOINT = "checkpoint"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a log stops being what was written.

    Attributes:
        what: ``checkpoint`` is one that is forged, missing or contradicts another; ``unreadable`` is no row at all.
        text: For a person.
        log: Which chain.
        seq: Which row of it.
        row_id: The id of that row, where there is one to read.
        position: Where it was met: counts everything that was read, from 1.
    """

    what: Tampering
    text: str
    log: int | None = None
    seq: int | None = None
    row_id: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and found.

    Attributes:
        rows: How many rows were read.
        signed_rows: How many of them a good checkpoint covers; the others are chained, and signed by the next one.
        checkpoints: How many were read and are good.
        since: The time of the checkpoint that the rows begin after; ``None`` for the beginning of the log.
        until: The time of the last good checkpoint.
        problems: The first of every chain and every bad checkpoint, in the order in which they were met.
    """

    rows: int
    signed_rows: int
    checkpoints: int
    since: datetime | None
    until: datetime | None
    problems: tuple[Problem, ...]

    @property
    def first(self) -> Problem | None:
        """What was met first."""
        return self.problems[0] if self.problems else None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A row as it was met; ``flaw`` says why its content cannot be its own."""

    position: int
    place: Place | None
    row_id: str | None
    hash: str
    flaw: str | None

    @property
    def seq(self) -> int | None:
        return None if self.place is None else self.place.seq

    def follows(self, head: Head) -> bool:
        place = self.place
        return self.flaw is None and place is not None and (place.seq, place.prev) == (head.seq + 1, head.hash)


@dataclass(slots=True)
class _Chain:
    """One log on the way through it: up to ``head`` all fits; ``rest`` begins with the first row that does not."""

    log: int
    base: Head
    head: Head
    leaves: bytearray = field(default_factory=bytearray)
    signed: Head | None = None
    last: _Seen | None = None
    rest: list[_Seen] = field(default_factory=list)

    def leaf(self, seq: int) -> str | None:
        """The hash that a checkpoint signed for a row; ``None`` where none did."""
        start = (seq - self.base.seq - 1) * HASH_SIZE_BYTES
        return self.leaves[start : start + HASH_SIZE_BYTES].hex() or None if start >= 0 else None

    def is_next(self, seen: _Seen) -> bool:
        return seen.follows(self.head) and self.leaf(self.head.seq + 1) in (None, seen.hash)

    def add(self, seen: _Seen) -> None:
        if self.rest or not self.is_next(seen):
            self.rest.append(seen)
        else:
            self.head, self.last = Head(self.head.seq + 1, seen.hash), seen

    def problem(self) -> Problem | None:
        if self.rest:
            return self._first_misfit()
        if self.signed is not None and self.head.seq < self.signed.seq:
            return Problem(
                Tampering.REMOVED,
                f"the rows {self.head.seq + 1} to {self.signed.seq} of log {self.log} were removed: it is known "
                f"to have gone on to row {self.signed.seq}",
                self.log,
                self.head.seq + 1,
                position=self.last.position if self.last else 0,
            )
        return None

    def _first_misfit(self) -> Problem:
        odd, later = self.rest[0], self.rest[1:]
        due = self.head.seq + 1
        is_there = any(self.is_next(one) for one in later)
        if odd.flaw is not None or odd.seq is None:
            if is_there:
                return self._named(Tampering.INSERTED, odd, f"a row was inserted before row {due}: {odd.flaw}")
            return self._named(Tampering.CHANGED, odd, f"row {odd.seq or due} was changed: {odd.flaw}", odd.seq or due)
        if is_there and odd.seq > due:
            return self._named(Tampering.REORDERED, odd, f"row {odd.seq} stands before row {due}")
        if is_there:
            return self._named(
                Tampering.INSERTED, odd, f"a row was inserted as row {odd.seq}; the chain goes on without"
            )
        if odd.seq > due:
            gone = f"row {due} was" if odd.seq == due + 1 else f"the rows {due} to {odd.seq - 1} were"
            return self._named(Tampering.REMOVED, odd, f"{gone} removed: row {odd.seq} follows", due)
        return self._doubled(odd, later) if odd.seq < due else self._rewritten(odd, later)

    def _doubled(self, odd: _Seen, later: list[_Seen]) -> Problem:
        """A second row of a number that was there already."""
        goes_on = any(one.place is not None and one.place.prev == odd.hash for one in later)
        wrong = self.last if goes_on and self.last is not None and self.last.seq == odd.seq else odd
        return self._named(
            Tampering.INSERTED, wrong, f"a row was inserted: there are two that say they are row {odd.seq}"
        )

    def _rewritten(self, odd: _Seen, later: list[_Seen]) -> Problem:
        """The row with the number that is due, but it is not the one that the log went on with."""
        assert odd.place is not None  # noqa: S101  # told apart by the caller
        if odd.place.prev == self.head.hash:
            return self._named(
                Tampering.CHANGED,
                odd,
                f"row {odd.seq} was changed, or one was inserted or removed there, and the hashes from there on were "
                "computed anew: a checkpoint signed another one",
            )
        goes_on = self.leaf(self.head.seq + 1) == odd.hash or any(
            one.place is not None and one.place.prev == odd.hash for one in later
        )
        is_proven = self.leaf(self.head.seq) is not None or self.last is None
        if (goes_on or not later) and not is_proven and self.last is not None:
            text = f"row {self.head.seq} was changed and its hash computed anew: row {odd.seq} names another"
            return self._named(Tampering.CHANGED, self.last, text)
        return self._named(Tampering.CHANGED, odd, f"row {odd.seq} was changed: it does not name the row before it")

    def _named(self, what: Tampering, seen: _Seen, text: str, seq: int | None = None) -> Problem:
        row_id = seen.row_id if seq is None or seq == seen.seq else None
        return Problem(what, f"log {self.log}: {text}", self.log, seq or seen.seq, row_id, seen.position)


class Verification:
    """One pass over a log. First all checkpoints in order, then all rows, those of one chain in their order.

    Args:
        check_signature: Whether a signature of a statement is one of the key that the reader trusts.
        is_whole: Whether the rows begin at the beginning of the log, else after the first checkpoint that comes in.
    """

    def __init__(self, check_signature: CheckSignature, *, is_whole: bool = True) -> None:
        self._check_signature = check_signature
        self._is_whole = is_whole
        self._chains = {log: _Chain(log, Head(0, NO_HASH), Head(0, NO_HASH)) for log in range(LOGS)}
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

    def _begin_after(self, checkpoint: Checkpoint) -> None:
        self._since = checkpoint.at
        for log, head in checkpoint.heads.items():
            self._chains[log] = _Chain(log, head, head, signed=head)

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
        seen = _Seen(self._position, place, str(act.get("id")), row.computed_hash, bad_hash)
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
        signed = sum(
            max(min(chain.head.seq, chain.base.seq + len(chain.leaves) // HASH_SIZE_BYTES) - chain.base.seq, 0)
            for chain in chains
        )
        return Report(
            rows=self._rows,
            signed_rows=signed,
            checkpoints=self._good,
            since=self._since,
            until=self._before.at if self._before else None,
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
