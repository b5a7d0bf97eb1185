"""The sandbox protocol: where untrusted code runs, and how its end is told without guessing.

A *sandbox* runs one attempt of one step inside the *workspace* of its run. Implementations: ``local`` (namespaces
on this host), ``dummy`` (the stand-in of the tests); Kubernetes pods come later and keep the same promises:

Lifecycle
    ``absent`` -> ``running`` -> ``ended`` | ``lost``. An implementation writes its record of a sandbox *before* the
    first command runs, so ``absent`` proves that nothing ran. ``ended`` and ``lost`` are final.

Idempotence
    Every method may be called again after a crash of the caller at any instant, by another process: ``start`` of a
    known sandbox does nothing (the code runs at most once), ``kill`` and ``destroy`` of what is gone succeed.

Lost
    ``lost`` means that the sandbox was started and nothing can say how it ended: its supervisor was killed, the
    host restarted, the pod was evicted. It is never reported as success and never as an ordinary failure; by the time
    ``lost`` is reported nothing of the sandbox runs any more.

Concurrency
    Any number of processes may inspect and read one sandbox at the same time.
"""

from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SandboxPhase = Literal["absent", "running", "ended", "lost"]


class SandboxLimits(BaseModel):
    """What one sandbox may use. Every field is enforced, or named by ``protections`` as missing on this host."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float = Field(default=3600, gt=0)
    cpu_seconds: int = Field(default=3600, gt=0)
    memory_bytes: int = Field(default=2 * 1024**3, gt=0)
    processes: int = Field(default=512, gt=0)
    file_size_bytes: int = Field(default=4 * 1024**3, gt=0)
    open_files: int = Field(default=1024, gt=0)
    log_size_bytes: int = Field(default=2 * 1024**3, gt=0)
    tmp_size_bytes: int = Field(default=1024**3, gt=0)


class SandboxSpec(BaseModel):
    """All that is needed to start one sandbox.

    Attributes:
        id: ``domain.ids.sandbox_id``: unique per step attempt.
        run_id: Whose workspace it works in.
        image: The container image asked for; ``local`` has the host's programs instead and says so.
        commands: Shell command lines, run in order by ``/bin/sh`` until one fails.
        env: Environment of the commands; nothing else of the worker's environment is visible inside.
        limits: What it may use.
        network: Whether the operator's policy grants network to this step.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[0-9a-f-]{36}-[1-9][0-9]*$")
    run_id: UUID
    image: str = ""
    commands: tuple[str, ...]
    env: dict[str, str] = {}
    limits: SandboxLimits = SandboxLimits()
    network: bool = False


class SandboxOutcome(BaseModel):
    """How a sandbox ended, as recorded atomically by its supervisor.

    Exactly one story is true: ``start_error`` (the sandbox could not be set up; no command ran), ``timed_out``,
    ``oom``, ``killed`` (by ``kill``), ``log_limit`` (wrote more than ``log_size_bytes``), else the exit code or signal.

    Attributes:
        exit_code: Of the commands; ``None`` if a signal or the platform ended it.
        signal: The number of the signal that ended the commands, where one did. A command's own fatal signal is told by
            the shell as 128 + its number and reported as that signal; SIGXCPU also stands for ``cpu_seconds`` used up
            by all processes together.
        log_size_bytes: The final length of the log.
    """

    model_config = ConfigDict(frozen=True)

    exit_code: int | None = None
    signal: int | None = None
    oom: bool = False
    timed_out: bool = False
    killed: bool = False
    log_limit: bool = False
    start_error: str | None = None
    started_at: AwareDatetime
    ended_at: AwareDatetime
    log_size_bytes: int = 0
    memory_peak_bytes: int | None = None
    cpu_seconds: float | None = None


class SandboxState(BaseModel):
    """Where a sandbox stands; ``outcome`` is set exactly when ``phase`` is ``ended``.

    Attributes:
        reason: For ``lost``: what is known, for a person.
    """

    model_config = ConfigDict(frozen=True)

    phase: SandboxPhase
    outcome: SandboxOutcome | None = None
    reason: str | None = None


class Protection(BaseModel):
    """One kind of isolation and whether this host gives it."""

    model_config = ConfigDict(frozen=True)

    name: str
    active: bool
    detail: str


class Sandboxes(Protocol):
    """Runs sandboxes. See the module's docstring for what every method promises."""

    runs_images: bool
    """Whether a spec's ``image`` is what its commands see; else the log of the step says that it is not."""

    async def create_workspace(self, run_id: UUID) -> Path:
        """Makes the empty directory that the steps of a run share and returns it.

        If it exists and was not handed over, it is emptied (a checkout that was cut off starts anew); if it was
        handed over it is left as it is.
        """
        ...

    async def workspace_ready(self, run_id: UUID) -> bool:
        """Whether the workspace was handed over already."""
        ...

    async def hand_over_workspace(self, run_id: UUID) -> None:
        """Gives the filled workspace to the sandboxes: from here on steps may write, and nobody empties it."""
        ...

    def workspace_path(self, run_id: UUID) -> Path:
        """Where the workspace of a run is (for reading artifacts); it need not exist."""
        ...

    async def start(self, spec: SandboxSpec) -> None:
        """Starts a sandbox; returns once it is recorded. Does nothing if it was ever started before."""
        ...

    async def inspect(self, sandbox_id: str) -> SandboxState:
        """Where the sandbox stands now."""
        ...

    async def wait(self, sandbox_id: str, *, log_offset: int, timeout_seconds: float) -> SandboxState:
        """Waits until it ended, is lost, or its log is longer than ``log_offset``; at most ``timeout_seconds``.

        Wakes within a few milliseconds of the end.
        """
        ...

    async def read_log(self, sandbox_id: str, *, offset: int, size_bytes_max: int) -> bytes:
        """Output (stdout and stderr in order, raw bytes) from ``offset``; empty at the present end."""
        ...

    async def kill(self, sandbox_id: str) -> None:
        """Ends everything in the sandbox and returns when nothing of it runs; its outcome says ``killed``.

        A sandbox that was never started is recorded as killed, so that a late ``start`` runs nothing.
        """
        ...

    async def kill_run(self, run_id: UUID) -> None:
        """``kill`` for every sandbox of a run; from now on ``start`` for this run records a killed sandbox."""
        ...

    async def is_run_killed(self, run_id: UUID) -> bool:
        """Whether ``kill_run`` was called: what is still done with the workspace is not wanted any more."""
        ...

    async def destroy_run(self, run_id: UUID) -> None:
        """Kills what runs and removes the workspace, records and logs of a run."""
        ...

    async def run_ids(self) -> list[UUID]:
        """Every run that has a workspace or record here, for the sweep of what was left behind."""
        ...

    def protections(self) -> list[Protection]:
        """What this host enforces and what it cannot."""
        ...
