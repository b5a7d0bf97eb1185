"""A cache inside one process: the stand-in of tests, which passes the same contract tests as ``ValkeyCache``."""

import time


class MemoryCache:
    """Keeps everything in this process.

    Attributes:
        content: What is kept, by key, with the moment (``time.monotonic``) when it ends.
        is_away: Set it to play an outage.
    """

    def __init__(self) -> None:
        self.content: dict[str, tuple[float, bytes]] = {}
        self.is_away = False

    async def get(self, key: str) -> bytes | None:
        """See ``Cache.get``."""
        ends, value = self.content.get(key, (0.0, b""))
        return None if self.is_away or ends <= time.monotonic() else value

    async def set(self, key: str, value: bytes, *, ttl_seconds: int) -> None:
        """See ``Cache.set``."""
        if not self.is_away:
            self.content[key] = (time.monotonic() + ttl_seconds, bytes(value))

    async def close(self) -> None:
        """See ``Cache.close``."""
