"""Counters of one process: the stand-in, for tests and for an API that is alone."""

from collections.abc import Mapping

from adapters.ratelimits.base import Used


class LocalCounters:
    """``Counters`` in memory; those of windows that are over are forgotten."""

    def __init__(self) -> None:
        self._windows: dict[tuple[int, int], dict[str, int]] = {}

    async def add(self, spent: Mapping[str, int], *, window: int, window_seconds: int) -> Mapping[str, Used]:
        """See ``Counters.add``."""
        for seconds, number in list(self._windows):
            if seconds == window_seconds and number < window - 1:
                del self._windows[seconds, number]
        present = self._windows.setdefault((window_seconds, window), {})
        previous = self._windows.get((window_seconds, window - 1), {})
        for key, count in spent.items():
            present[key] = present.get(key, 0) + count
        return {key: Used(previous.get(key, 0), present[key]) for key in spent}

    async def close(self) -> None:
        """See ``Counters.close``."""
