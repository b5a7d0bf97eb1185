"""The stand-in: sandboxes in memory that run nothing, steered by the environment of their spec.

    DUMMY_SLEEP         seconds until the end (default 0)
    DUMMY_OUTPUT        written to the log at once
    DUMMY_WRITE         "name=content": a file that appears in the workspace
    DUMMY_EXIT_CODE     default 0
    DUMMY_SIGNAL        the number of a signal that ended the commands
    DUMMY_OOM           "1": the memory limit was hit
    DUMMY_LOST          "1": the supervisor vanished after DUMMY_SLEEP
    DUMMY_START_ERROR   why the sandbox cannot be set up

It keeps every promise of ``base.py`` within one process, and is held to them by the contract tests that the real one
passes.
"""

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from adapters.sandbox.base import Protection, SandboxOutcome, SandboxSpec, SandboxState
from domain.errors import NotFound


@dataclass
class DummySandbox:
    """One sandbox: its spec (``None`` if it was killed before its start), its log and its state."""

    spec: SandboxSpec | None
    state: SandboxState
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    log: bytearray = field(default_factory=bytearray)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    def settle(self, state: SandboxState) -> None:
        """Reaches a final state, once."""
        if self.state.phase == "running":
            self.state = state
            self.changed.set()

    def end(self, outcome: SandboxOutcome) -> None:
        """Ends with this story, at this moment, with the log as it is."""
        told = outcome.model_copy(update={"ended_at": datetime.now(UTC), "log_size_bytes": len(self.log)})
        self.settle(SandboxState(phase="ended", outcome=told))

    def story(self, **told: object) -> SandboxOutcome:
        """An outcome with the times filled in."""
        return SandboxOutcome.model_validate({"started_at": self.started_at, "ended_at": datetime.now(UTC), **told})


class DummySandboxes:
    """Implements ``adapters.sandbox.base.Sandboxes`` without running anything.

    Args:
        root: Where workspaces are made; they are real directories.
    """

    runs_images = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sandboxes: dict[str, DummySandbox] = {}
        self._handed_over: set[UUID] = set()
        self._killed_runs: set[UUID] = set()
        self._runs: set[UUID] = set()

    def protections(self) -> list[Protection]:
        """Nothing runs, so nothing has to be kept apart."""
        return [Protection(name="nothing runs", active=True, detail="the stand-in of the tests executes no command")]

    def workspace_path(self, run_id: UUID) -> Path:
        """Where the workspace of a run is; it need not exist."""
        return self._root / str(run_id)

    async def create_workspace(self, run_id: UUID) -> Path:
        """Makes an empty workspace, unless it was handed over: then it is left as it is."""
        path = self.workspace_path(run_id)
        if run_id not in self._handed_over:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            await asyncio.to_thread(path.mkdir, parents=True)
            self._runs.add(run_id)
        return path

    async def workspace_ready(self, run_id: UUID) -> bool:
        """Whether the workspace was handed over already."""
        return run_id in self._handed_over

    async def hand_over_workspace(self, run_id: UUID) -> None:
        """Gives the filled workspace to the sandboxes.

        Raises:
            NotFound: There is no workspace.
        """
        if not await asyncio.to_thread(self.workspace_path(run_id).exists):
            raise NotFound(f"run {run_id} has no workspace to hand over: it was never made, or its run was cleaned up")
        self._handed_over.add(run_id)

    async def start(self, spec: SandboxSpec) -> None:
        """Starts a sandbox, at most once ever."""
        if spec.id in self._sandboxes:
            return
        self._runs.add(spec.run_id)
        sandbox = DummySandbox(spec=spec, state=SandboxState(phase="running"))
        self._sandboxes[spec.id] = sandbox
        if spec.run_id in self._killed_runs:
            sandbox.end(sandbox.story(killed=True))
            return
        refusal = spec.env.get("DUMMY_START_ERROR") or self._refusal(spec)
        if refusal:
            sandbox.end(sandbox.story(start_error=refusal))
            return
        sandbox.task = asyncio.create_task(self._run(sandbox, spec))

    def _refusal(self, spec: SandboxSpec) -> str | None:
        if any("\0" in text for text in (*spec.env, *spec.env.values(), *spec.commands)):
            return "the environment or a command holds a NUL character"
        if spec.run_id not in self._handed_over:
            return f"run {spec.run_id} has no workspace: it was never handed over, or the run was cleaned up already"
        return None

    async def _run(self, sandbox: DummySandbox, spec: SandboxSpec) -> None:
        env, limits = spec.env, spec.limits
        output = env.get("DUMMY_OUTPUT", "").encode()
        sandbox.log += output[: limits.log_size_bytes]
        sandbox.changed.set()
        if len(output) > limits.log_size_bytes:
            sandbox.end(sandbox.story(log_limit=True))
            return
        name, _, content = env.get("DUMMY_WRITE", "").partition("=")
        if name:
            await asyncio.to_thread((self.workspace_path(spec.run_id) / name).write_text, content)
        seconds = float(env.get("DUMMY_SLEEP", "0"))
        await asyncio.sleep(min(seconds, limits.wall_seconds))
        if seconds > limits.wall_seconds:
            sandbox.end(sandbox.story(timed_out=True))
        elif env.get("DUMMY_LOST") == "1":
            sandbox.settle(SandboxState(phase="lost", reason="its supervisor was killed"))
        elif env.get("DUMMY_OOM") == "1":
            sandbox.end(sandbox.story(oom=True))
        elif "DUMMY_SIGNAL" in env:
            sandbox.end(sandbox.story(signal=int(env["DUMMY_SIGNAL"])))
        else:
            sandbox.end(sandbox.story(exit_code=int(env.get("DUMMY_EXIT_CODE", "0"))))

    async def inspect(self, sandbox_id: str) -> SandboxState:
        """Where the sandbox stands now."""
        sandbox = self._sandboxes.get(sandbox_id)
        return SandboxState(phase="absent") if sandbox is None else sandbox.state

    async def wait(self, sandbox_id: str, *, log_offset: int, timeout_seconds: float) -> SandboxState:
        """Waits until it ended, is lost, or its log is longer than ``log_offset``; at most ``timeout_seconds``."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            sandbox = self._sandboxes.get(sandbox_id)
            left = deadline - time.monotonic()
            if sandbox is None:
                if left <= 0:
                    return SandboxState(phase="absent")
                await asyncio.sleep(min(left, 0.005))
                continue
            if sandbox.state.phase != "running" or len(sandbox.log) > log_offset or left <= 0:
                return sandbox.state
            sandbox.changed.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it can lose a cancellation that comes with the wake-up.
                async with asyncio.timeout(left):
                    await sandbox.changed.wait()

    async def read_log(self, sandbox_id: str, *, offset: int, size_bytes_max: int) -> bytes:
        """Output from ``offset``; empty at the present end."""
        sandbox = self._sandboxes.get(sandbox_id)
        return b"" if sandbox is None else bytes(sandbox.log[offset : offset + size_bytes_max])

    async def kill(self, sandbox_id: str) -> None:
        """Ends the sandbox; what never started never will."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            sandbox = DummySandbox(spec=None, state=SandboxState(phase="running"))
            self._sandboxes[sandbox_id] = sandbox
        if sandbox.task is not None and sandbox.state.phase == "running":
            sandbox.task.cancel()
        sandbox.end(sandbox.story(killed=True))

    async def kill_run(self, run_id: UUID) -> None:
        """Kills every sandbox of the run, and every one that is started later."""
        self._killed_runs.add(run_id)
        for sandbox_id, sandbox in list(self._sandboxes.items()):
            if sandbox.spec is not None and sandbox.spec.run_id == run_id:
                await self.kill(sandbox_id)

    async def is_run_killed(self, run_id: UUID) -> bool:
        """Whether ``kill_run`` was called."""
        return run_id in self._killed_runs

    async def destroy_run(self, run_id: UUID) -> None:
        """Kills what runs and removes everything of the run; a start that comes later finds no workspace."""
        await self.kill_run(run_id)
        gone = [key for key, value in self._sandboxes.items() if value.spec is not None and value.spec.run_id == run_id]
        for sandbox_id in gone:
            del self._sandboxes[sandbox_id]
        self._handed_over.discard(run_id)
        self._killed_runs.discard(run_id)
        self._runs.discard(run_id)
        await asyncio.to_thread(shutil.rmtree, self.workspace_path(run_id), ignore_errors=True)

    async def run_ids(self) -> list[UUID]:
        """Every run that has a workspace or a record here."""
        return sorted(self._runs)
