"""The form of a fetch request (gitprotocol-http(5), gitprotocol-v2(5)), so that one that is none is told so.

Git itself dies without an answer on a malformed request, which looks like a failure of the server's.
"""

import re

from domain.errors import InvalidInput
from domain.git.pkt_line import PktLineReader, Special

_FIRST = re.compile(rb"want [0-9a-f]{40}(?:[0-9a-f]{24})?(?: |\n|\Z)")
_FIRST_VERSION_2 = re.compile(rb"command=[a-z-]+\n?\Z")
_DONE = b"done"


class FetchRequestCheck:
    """Looks at a request that arrives in pieces; bounded by one packet.

    Args:
        version_2: Whether the client speaks protocol version 2.
    """

    def __init__(self, *, version_2: bool) -> None:
        self._first = _FIRST_VERSION_2 if version_2 else _FIRST
        self._packets = PktLineReader()
        self._last: bytes | Special | None = None

    def feed(self, piece: bytes) -> None:
        """Reads on.

        Raises:
            InvalidInput: Not packets, or it does not begin like a fetch.
        """
        self._packets.feed(piece)
        while (packet := self._packets.next()) is not None:
            if self._last is None and isinstance(packet, bytes) and not self._first.match(packet):
                raise InvalidInput(f"Not a fetch: {packet[:80]!r} is not how one begins.")
            self._last = packet

    def end(self) -> None:
        """The request is over.

        Raises:
            InvalidInput: It is empty or incomplete.
        """
        complete = self._last is Special.FLUSH or (isinstance(self._last, bytes) and self._last.strip() == _DONE)
        if self._packets.rest() or not complete:
            raise InvalidInput("The fetch request is empty or ends too early. Try again.")
