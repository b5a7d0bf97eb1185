"""The cache protocol: what may be forgotten at any time and is quicker to ask for than to find out again."""

from typing import Protocol


class Cache(Protocol):
    """Values shared by the processes of an installation, for a while.

    A cache that is away knows nothing and costs next to nothing; no method raises for it.
    """

    async def get(self, key: str) -> bytes | None:
        """What was set last, if it is still there."""
        ...

    async def set(self, key: str, value: bytes, *, ttl_seconds: int) -> None:
        """Keeps ``value`` for ``ttl_seconds`` at most."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
