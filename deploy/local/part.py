"""What the supervisor asks of each thing that it starts.

A *part* is one supervised process: a server of the embedded stack, the API, the worker. Its life:

    prepare()  ->  launch()  ->  is_ready() until true  ->  complete()  ->  serves
    stop_signal, after a while SIGKILL  ->  clean_up()

``prepare``, ``complete`` and ``clean_up`` are idempotent: they run again after every crash, and at every start.
"""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Launch:
    """How to start a process. No credential is ever in ``argv``: every user of the host can read it there."""

    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the supervisor."""


class PartFailed(Exception):
    """A part could not be started; the message is for the person at the terminal."""


class Part(Protocol):
    """One supervised process.

    Attributes:
        name: Shown in the terminal, and the name of its log file.
        address: Where it is reached, for people; empty if nowhere.
        ports: Every TCP port that it listens on, all on 127.0.0.1.
        stop_signal: Begins its orderly stop.
        stop_timeout_seconds: How long the orderly stop may take before SIGKILL.
        ready_timeout_seconds: How long it may take from start to ready.
    """

    name: str
    stop_signal: signal.Signals
    stop_timeout_seconds: float
    ready_timeout_seconds: float

    @property
    def address(self) -> str:
        """Where it is reached, for people."""
        ...

    @property
    def ports(self) -> tuple[int, ...]:
        """Every TCP port that it listens on."""
        ...

    async def prepare(self) -> None:
        """Writes configuration and data directories. Nothing of the part runs while this does.

        Raises:
            PartFailed: With the reason and what to do.
        """
        ...

    def launch(self) -> Launch:
        """The command, environment and working directory."""
        ...

    async def is_ready(self) -> bool:
        """Whether it answers. Never raises for a server that does not answer yet."""
        ...

    async def complete(self) -> None:
        """Makes what others expect inside it (roles, database, bucket, namespace)."""
        ...

    async def clean_up(self) -> None:
        """Removes what the ended process left outside its own directory."""
        ...
