"""Git's framing: four hex digits of length, then the payload (``gitprotocol-common(5)``, pkt-line format).

A length of 0 is a flush packet; 1 and 2 are the delimiter and the response end of protocol version 2. All functions
and ``PktLineReader`` work on whatever bytes are there, so a stream of any size passes in pieces.
"""

from dataclasses import dataclass, field
from enum import Enum

from domain.errors import InvalidInput

LENGTH_SIZE_BYTES = 4
PKT_SIZE_BYTES_MAX = 65520
"""With the four digits (``LARGE_PACKET_MAX`` of git)."""
PAYLOAD_SIZE_BYTES_MAX = PKT_SIZE_BYTES_MAX - LENGTH_SIZE_BYTES
SIDEBAND_DATA = 1
SIDEBAND_MESSAGE = 2


class Special(Enum):
    """Packets without a payload."""

    FLUSH = b"0000"
    DELIMITER = b"0001"
    RESPONSE_END = b"0002"


FLUSH = Special.FLUSH.value

_SPECIALS = {0: Special.FLUSH, 1: Special.DELIMITER, 2: Special.RESPONSE_END}
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


def encode(payload: bytes) -> bytes:
    """One packet.

    Raises:
        InvalidInput: The payload is empty or longer than ``PAYLOAD_SIZE_BYTES_MAX``.
    """
    if not 0 < len(payload) <= PAYLOAD_SIZE_BYTES_MAX:
        raise InvalidInput(f"A pkt-line carries 1 to {PAYLOAD_SIZE_BYTES_MAX} bytes, not {len(payload)}.")
    return b"%04x" % (len(payload) + LENGTH_SIZE_BYTES) + payload


def on_band(band: int, data: bytes, *, packet_size_bytes_max: int = PKT_SIZE_BYTES_MAX) -> bytes:
    """``data`` as packets of a side band (``gitprotocol-capabilities(5)``, side-band-64k)."""
    room = packet_size_bytes_max - LENGTH_SIZE_BYTES - 1
    pieces = (data[start : start + room] for start in range(0, len(data), room))
    return b"".join(encode(bytes((band,)) + piece) for piece in pieces)


def packet_length(digits: bytes) -> int:
    """The length that four hex digits name, their own four bytes included; 0, 1 and 2 are special packets.

    Raises:
        InvalidInput: Not four hex digits, or a length that no packet has.
    """
    if len(digits) != LENGTH_SIZE_BYTES or not _HEX_DIGITS.issuperset(digits):
        raise InvalidInput(f"Not a pkt-line: the length is {digits[:LENGTH_SIZE_BYTES]!r}, not four hex digits.")
    length = int(digits, 16)
    if length > PKT_SIZE_BYTES_MAX or length == LENGTH_SIZE_BYTES - 1:
        raise InvalidInput(f"Not a pkt-line: no packet has a length of {length} bytes.")
    return length


@dataclass(slots=True)
class PktLineReader:
    """Takes packets off the front of a stream that arrives in pieces.

    ``feed`` adds bytes; ``next`` takes a whole packet or returns ``None`` for "not yet"; ``rest`` hands over what was
    fed and not taken (such as the beginning of a pack).
    """

    _buffer: bytearray = field(default_factory=bytearray)
    _start: int = 0

    def feed(self, data: bytes) -> None:
        """Adds bytes as they came."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> bytes | Special | None:
        """The next payload or special packet; ``None`` if it is not there in full.

        Raises:
            InvalidInput: What comes next is no packet.
        """
        digits = bytes(self._buffer[self._start : self._start + LENGTH_SIZE_BYTES])
        if len(digits) < LENGTH_SIZE_BYTES:
            return None
        length = packet_length(digits)
        if length in _SPECIALS:
            self._start += LENGTH_SIZE_BYTES
            return _SPECIALS[length]
        if len(self._buffer) - self._start < length:
            return None
        payload = bytes(self._buffer[self._start + LENGTH_SIZE_BYTES : self._start + length])
        self._start += length
        return payload

    def rest(self) -> bytes:
        """Everything that was fed and not taken; the reader is empty afterwards."""
        left = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = 0
        return left
