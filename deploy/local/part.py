"""What the supervisor asks of each thing that it starts.

A *part* is one supervised process: a server of the embedded stack, the API, the worker. Its life:

    prepare()  ->  launch()  ->  is_ready() until true  ->  complete()  ->  serves
    stop_signal, after a while SIGKILL  ->  clean_up()

``prepare``, ``complete`` and ``clean_up`` are idempotent: they run again after every crash, and at every start.
"""

import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Launch:
    """How to start a process. No credential is ever in ``argv``: every user of the host can read it there."""

    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the supervisor."""


class PartFailed(Exception):
    """A part could not be started; the message is for the person at the terminal."""


class Part(ABC):
    """One supervised process. What is written here holds for most parts; each says where it differs.

    Attributes:
        name: Shown in the terminal, and the name of its log file.
        port: Where it is reached, on 127.0.0.1.
        stop_signal: Begins its orderly stop.
        stop_timeout_seconds: How long the orderly stop may take before SIGKILL.
        ready_timeout_seconds: How long it may take from start to ready.
    """

    name: str
    port: int
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 10.0
    # A server that was killed repairs its files first.
    ready_timeout_seconds: float = 60.0

    @property
    def address(self) -> str:
        """Where it is reached, for people."""
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """Every TCP port that it listens on, all on 127.0.0.1."""
        return (self.port,)

    async def prepare(self) -> None:  # noqa: B027  # a program may need none
        """Writes configuration and data directories. Nothing of the part runs while this does.

        Raises:
            PartFailed: With the reason and what to do.
        """

    @abstractmethod
    def launch(self) -> Launch:
        """The command, environment and working directory."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it answers. Never raises for a server that does not answer yet."""

    async def complete(self) -> None:  # noqa: B027  # most have nothing to make
        """Makes what others expect inside it (roles, database, bucket, namespace)."""

    async def clean_up(self) -> None:  # noqa: B027  # most leave nothing outside
        """Removes what the ended process left outside its own directory."""
