"""What must not be seen in a log is taken out on the way from the sandbox to the durable log."""

from typing import Protocol


class Masker(Protocol):
    """Rewrites the output of one attempt, fed piece by piece.

    A masker holds back the end of what it was fed while that could be the beginning of something to be masked. It
    must be *restartable*: a fresh one that is fed from the first held-back byte on answers as the old one would have.
    So nothing but the raw offset has to be remembered, however the worker ends.
    """

    @property
    def held_bytes(self) -> int:
        """How many of the raw bytes fed last are held back."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Takes the next raw bytes and returns what may be seen now."""
        ...

    def flush(self) -> bytes:
        """The output has ended: returns what was held back, masked as it stands."""
        ...


class NothingToMask:
    """For steps without secrets."""

    held_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """See ``Masker.feed``."""
        return data

    def flush(self) -> bytes:
        """See ``Masker.flush``."""
        return b""
