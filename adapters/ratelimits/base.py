"""The counters protocol: how much of a limit all processes together have used.

Processes decide by what they know and tell one another a few times a second (``api/ratelimit.py``), so no request
waits for this, and an outage makes limits coarser instead of opening or closing the door.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Used:
    """What all processes together have used of one key's limit.

    Attributes:
        previous: In the window before.
        present: In the window that was asked for.
    """

    previous: int
    present: int


class Counters(Protocol):
    """Sums of what was used, by key and window."""

    async def add(self, spent: Mapping[str, int], *, window: int, window_seconds: int) -> Mapping[str, Used]:
        """Adds to the counts of one window and returns the sums, this process's share included.

        Not idempotent: after a failure nobody knows whether it was added, and adding it again errs on the strict side.

        Args:
            spent: By key; 0 only asks.
            window: The number of the window, counted from the epoch.
            window_seconds: How long each is; counts of different lengths are kept apart.

        Raises:
            domain.errors.Unavailable: There is no answer.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
