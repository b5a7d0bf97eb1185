"""What a push asks for, whether it may have it, and how a refusal is told (``gitprotocol-pack(5)``, "Pushing Data").

The request is a list of commands ``old new ref`` (the first with the capabilities of the client after a NUL), a
flush, the push options with a flush of their own if they were negotiated, and then the pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import InvalidInput, TooLarge
from domain.git.pkt_line import (
    FLUSH,
    PKT_SIZE_BYTES_MAX,
    SIDEBAND_DATA,
    SIDEBAND_MESSAGE,
    PktLineReader,
    Special,
    encode,
    on_band,
)
from domain.git.refs import ZERO_SHA, is_sha, pushable_ref_problem

COMMANDS_MAX = 5_000
HEAD_SIZE_BYTES_MAX = 4 * 1024**2
PUSH_OPTIONS_MAX = 50
PUSH_OPTION_SIZE_BYTES_MAX = 1024
SMALL_PACKET_SIZE_BYTES_MAX = 1000
"""Where the client knows ``side-band`` only."""


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One command of a push; ``ZERO_SHA`` as ``old`` creates and as ``new`` deletes."""

    old: str
    new: str
    ref: str

    @property
    def creates(self) -> bool:
        """Whether the ref must not exist yet."""
        return self.old == ZERO_SHA

    @property
    def deletes(self) -> bool:
        """Whether the ref goes away."""
        return self.new == ZERO_SHA


@dataclass(frozen=True, slots=True)
class PushHead:
    """Everything of a push before its pack."""

    updates: tuple[RefUpdate, ...]
    capabilities: frozenset[str]
    push_options: tuple[str, ...]

    @property
    def has_sideband(self) -> bool:
        """Whether the answer is framed in side bands, so that text for the terminal has a place."""
        return "side-band-64k" in self.capabilities or "side-band" in self.capabilities

    @property
    def packet_size_bytes_max(self) -> int:
        """How long a packet of the answer may be."""
        return PKT_SIZE_BYTES_MAX if "side-band-64k" in self.capabilities else SMALL_PACKET_SIZE_BYTES_MAX

    @property
    def wants_report(self) -> bool:
        """Whether the client reads the state of each ref."""
        return "report-status" in self.capabilities or "report-status-v2" in self.capabilities


class PushHeadReader:
    """Reads the head of a push from a stream that arrives in pieces; bounded.

    ``feed`` returns the head once it is complete. ``taken`` is every byte so far (head and beginning of the pack):
    git wants them all again.
    """

    def __init__(self) -> None:
        self._packets = PktLineReader()
        self._taken = bytearray()
        self._updates: list[RefUpdate] = []
        self._capabilities: frozenset[str] | None = None
        self._options: list[str] = []
        self._in_options = False

    @property
    def taken(self) -> bytes:
        """All that was fed."""
        return bytes(self._taken)

    def feed(self, data: bytes) -> PushHead | None:
        """Reads on.

        Returns:
            The head, or ``None`` if more bytes are needed.

        Raises:
            InvalidInput: Not a push, or a command that is none.
            TooLarge: More than ``COMMANDS_MAX`` refs or ``HEAD_SIZE_BYTES_MAX`` bytes of them.
        """
        self._taken += data
        self._packets.feed(data)
        while (packet := self._packets.next()) is not None:
            if packet is Special.FLUSH:
                if self._in_options or "push-options" not in (self._capabilities or ()):
                    return self._head()
                self._in_options = True
            elif isinstance(packet, Special):
                raise InvalidInput("Not a push: a delimiter stands where a command belongs.")
            elif self._in_options:
                self._add_option(packet)
            else:
                self._add_command(packet)
        if len(self._taken) > HEAD_SIZE_BYTES_MAX + len(data):
            raise TooLarge(f"A push may name at most {HEAD_SIZE_BYTES_MAX} bytes of refs; push fewer refs at once.")
        return None

    def _head(self) -> PushHead:
        names = [update.ref for update in self._updates]
        if len(set(names)) != len(names):
            raise InvalidInput("The push names a ref twice; nothing was changed.")
        return PushHead(tuple(self._updates), self._capabilities or frozenset(), tuple(self._options))

    def _add_option(self, packet: bytes) -> None:
        option = packet.removesuffix(b"\n").decode("utf-8", "replace")
        if len(self._options) >= PUSH_OPTIONS_MAX or len(packet) > PUSH_OPTION_SIZE_BYTES_MAX:
            raise TooLarge(
                f"A push takes at most {PUSH_OPTIONS_MAX} options of {PUSH_OPTION_SIZE_BYTES_MAX} bytes each."
            )
        if "\0" in option:
            raise InvalidInput("A push option may not hold a NUL; nothing was changed.")
        self._options.append(option)

    def _add_command(self, packet: bytes) -> None:
        line, names = packet, b""
        if self._capabilities is None:
            line, _, names = packet.partition(b"\0")
        text = line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        if text.startswith("shallow ") and is_sha(text.removeprefix("shallow ")):
            return
        if self._capabilities is None:
            self._capabilities = frozenset(names.decode("utf-8", "replace").split())
        old, _, rest = text.partition(" ")
        new, _, ref = rest.partition(" ")
        if not (is_sha(old) and is_sha(new) and ref) or old == new == ZERO_SHA:
            raise InvalidInput(f"Not a push: {line[:200]!r} is no command of the form 'old new ref'.")
        if len(self._updates) >= COMMANDS_MAX:
            raise TooLarge(f"A push may change at most {COMMANDS_MAX} refs; push fewer at once.")
        self._updates.append(RefUpdate(old, new, ref))


def refusals(updates: Sequence[RefUpdate], *, default_branch: str) -> dict[str, str]:
    """What a push may not do, known before its pack is read: ref name -> reason. Empty: git may look at it.

    That the default branch only moves forward is decided by the pre-receive hook, which sees the new commits.
    """
    found: dict[str, str] = {}
    for update in updates:
        problem = pushable_ref_problem(update.ref)
        if problem is None and update.deletes and update.ref in protected_refs(default_branch):
            problem = "protected: the default branch cannot be deleted"
        if problem is not None:
            found[update.ref] = problem
    return found


def protected_refs(default_branch: str) -> tuple[str, ...]:
    """The refs that may be neither deleted nor moved other than forward."""
    return (f"refs/heads/{default_branch}",)


def refusal_answer(head: PushHead, reasons: dict[str, str], *, notes: Sequence[str] = ()) -> bytes:
    """The whole body of a ``git-receive-pack`` result that refuses every ref.

    A push is taken or refused as a whole here, so a ref that is not at fault itself is told which one is.

    Args:
        head: What was asked.
        reasons: ref name -> reason, at least one.
        notes: Lines for the terminal of the pusher.
    """
    at_fault = next(iter(reasons))
    lines = [encode(b"unpack ok\n")]
    for update in head.updates:
        reason = reasons.get(update.ref, f"refused together with {at_fault}")
        lines.append(encode(f"ng {update.ref} {reason}\n".encode("utf-8", "surrogateescape")))
    report = b"".join(lines) + FLUSH if head.wants_report else b""
    if not head.has_sideband:
        return report
    limit = head.packet_size_bytes_max
    told = on_band(SIDEBAND_MESSAGE, terminal_lines(notes), packet_size_bytes_max=limit)
    return told + on_band(SIDEBAND_DATA, report, packet_size_bytes_max=limit) + FLUSH


def terminal_lines(notes: Sequence[str]) -> bytes:
    """Lines for the message band: each is shown after ``remote:``, and control characters are taken out."""
    cleaned = (
        "".join(sign if sign.isprintable() else " " for sign in line) for note in notes for line in note.split("\n")
    )
    return "".join(f"Perdure: {line}\n" for line in cleaned).encode("utf-8", "replace")


class AnswerTap:
    """Lets the answer of ``git receive-pack`` pass, but holds back the flush that ends its side bands.

    Before that flush there is a place for text that is known only when git has ended. An answer without side bands
    passes untouched.
    """

    def __init__(self, head: PushHead) -> None:
        self._has_sideband = head.has_sideband
        self._packet_size_bytes_max = head.packet_size_bytes_max
        self._packets = PktLineReader()
        self.held_flush = False

    def pass_on(self, data: bytes) -> bytes:
        """Takes bytes from git and returns those that may go to the client now.

        Raises:
            InvalidInput: Git's answer is not framed as negotiated.
        """
        if not self._has_sideband:
            return data
        ready = bytearray()
        self._packets.feed(data)
        while (packet := self._packets.next()) is not None:
            if self.held_flush:
                ready += FLUSH
                self.held_flush = False
            if packet is Special.FLUSH:
                self.held_flush = True
            elif isinstance(packet, Special):
                ready += packet.value
            else:
                ready += encode(packet) if packet else b"0004"
        return bytes(ready)

    def end(self, notes: Sequence[str]) -> bytes:
        """What remains to be sent when git has ended: ``notes`` for the terminal, and the held flush."""
        left = self._packets.rest()
        if left or not self.held_flush:
            return left
        limit = self._packet_size_bytes_max
        return on_band(SIDEBAND_MESSAGE, terminal_lines(notes), packet_size_bytes_max=limit) + FLUSH
