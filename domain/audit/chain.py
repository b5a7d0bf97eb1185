"""One chain of the audit log, row by row: where it stops being what was written, and what happened to it there."""

from dataclasses import dataclass, field
from enum import StrEnum

from domain.audit.checkpoints import HASH_SIZE_BYTES, Head
from domain.audit.rows import Place


class Tampering(StrEnum):
    """What happened to the log."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CHECKPOINT = "checkpoint"
    UNSIGNED = "unsigned"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a log stops being what was written.

    Attributes:
        what: ``checkpoint`` is one that is forged, missing or contradicts another; ``unsigned`` are rows of a file
            that no checkpoint covers; ``unreadable`` is no row at all.
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
class Seen:
    """A row as it was met; ``flaw`` says why its content cannot be its own."""

    position: int
    place: Place | None
    row_id: str | None
    hash: str
    flaw: str | None

    @property
    def seq(self) -> int | None:
        """Which row of its log it says it is."""
        return None if self.place is None else self.place.seq

    def follows(self, head: Head) -> bool:
        """Whether it can be the one after ``head``."""
        place = self.place
        return self.flaw is None and place is not None and (place.seq, place.prev) == (head.seq + 1, head.hash)


@dataclass(slots=True)
class _Misfit:
    """The first row of a chain that does not fit, and what is to be known of those after it, however many they are.

    Attributes:
        is_last: None came after it.
        is_due_there: The row that was due in its place came later.
        goes_on: A later row names it as the one before.
    """

    row: Seen
    is_last: bool = True
    is_due_there: bool = False
    goes_on: bool = False


@dataclass(slots=True)
class Chain:
    """One log on the way through it: up to ``head`` all fits; ``misfit`` is the first row that does not.

    Attributes:
        leaves: The hashes that checkpoints signed, from the row after ``base`` on; all of them, before rows come.
        signed: Where the log is known to have stood.
    """

    log: int
    base: Head
    head: Head
    leaves: bytearray = field(default_factory=bytearray)
    signed: Head | None = None
    last: Seen | None = None
    misfit: _Misfit | None = None

    def leaf(self, seq: int) -> str | None:
        """The hash that a checkpoint signed for a row; ``None`` where none did."""
        start = (seq - self.base.seq - 1) * HASH_SIZE_BYTES
        return self.leaves[start : start + HASH_SIZE_BYTES].hex() or None if start >= 0 else None

    def _is_next(self, seen: Seen) -> bool:
        return seen.follows(self.head) and self.leaf(self.head.seq + 1) in (None, seen.hash)

    def add(self, seen: Seen) -> None:
        """The next row of this log."""
        is_next = self._is_next(seen)
        if self.misfit is not None:
            self.misfit.is_last = False
            self.misfit.is_due_there |= is_next
            self.misfit.goes_on |= seen.place is not None and seen.place.prev == self.misfit.row.hash
        elif is_next:
            self.head, self.last = Head(self.head.seq + 1, seen.hash), seen
        else:
            self.misfit = _Misfit(seen)

    @property
    def signed_rows(self) -> int:
        """How many rows fit and have the hash that a checkpoint signed."""
        known = len(self.leaves) // HASH_SIZE_BYTES
        return min(self.head.seq - self.base.seq, known)

    def problem(self) -> Problem | None:
        """What is wrong with it first; ``None`` if nothing is."""
        if self.misfit is not None:
            return self._told(self.misfit)
        if self.signed is not None and self.head.seq < self.signed.seq:
            first, last = self.head.seq + 1, self.signed.seq
            gone = (
                f"row {first} of log {self.log} was"
                if first == last
                else (f"the rows {first} to {last} of log {self.log} were")
            )
            return Problem(
                Tampering.REMOVED,
                f"{gone} removed: it is known to have gone on to row {last}",
                self.log,
                self.head.seq + 1,
                position=self.last.position if self.last else 0,
            )
        return None

    def _told(self, misfit: _Misfit) -> Problem:
        odd, due = misfit.row, self.head.seq + 1
        if odd.flaw is not None or odd.seq is None:
            if misfit.is_due_there:
                return self._named(Tampering.INSERTED, odd, f"a row was inserted before row {due}: {odd.flaw}")
            return self._named(Tampering.CHANGED, odd, f"row {odd.seq or due} was changed: {odd.flaw}", odd.seq or due)
        if misfit.is_due_there and odd.seq > due:
            return self._named(Tampering.REORDERED, odd, f"row {odd.seq} stands before row {due}")
        if misfit.is_due_there:
            return self._named(
                Tampering.INSERTED, odd, f"a row was inserted as row {odd.seq}; the chain goes on without"
            )
        if odd.seq > due:
            gone = f"row {due} was" if odd.seq == due + 1 else f"the rows {due} to {odd.seq - 1} were"
            return self._named(Tampering.REMOVED, odd, f"{gone} removed: row {odd.seq} follows", due)
        return self._doubled(misfit) if odd.seq < due else self._rewritten(misfit)

    def _doubled(self, misfit: _Misfit) -> Problem:
        """A second row of a number that was there already."""
        odd = misfit.row
        wrong = self.last if misfit.goes_on and self.last is not None and self.last.seq == odd.seq else odd
        return self._named(
            Tampering.INSERTED, wrong, f"a row was inserted: there are two that say they are row {odd.seq}"
        )

    def _rewritten(self, misfit: _Misfit) -> Problem:
        """The row with the number that is due, but it is not the one that the log went on with."""
        odd = misfit.row
        assert odd.place is not None  # noqa: S101  # told apart by the caller
        if odd.place.prev == self.head.hash:
            return self._named(
                Tampering.CHANGED,
                odd,
                f"row {odd.seq} was changed, or one was inserted or removed there, and the hashes from there on were "
                "computed anew: a checkpoint signed another one",
            )
        goes_on = misfit.goes_on or self.leaf(self.head.seq + 1) == odd.hash
        is_proven = self.leaf(self.head.seq) is not None or self.last is None
        if (goes_on or misfit.is_last) and not is_proven and self.last is not None:
            text = f"row {self.head.seq} was changed and its hash computed anew: row {odd.seq} names another"
            return self._named(Tampering.CHANGED, self.last, text)
        return self._named(Tampering.CHANGED, odd, f"row {odd.seq} was changed: it does not name the row before it")

    def _named(self, what: Tampering, seen: Seen, text: str, seq: int | None = None) -> Problem:
        row_id = seen.row_id if seq is None or seq == seen.seq else None
        return Problem(what, f"log {self.log}: {text}", self.log, seq or seen.seq, row_id, seen.position)
