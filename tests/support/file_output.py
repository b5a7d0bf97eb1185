"""A sandbox's output as a file: what pumps read in tests, also from several processes."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from adapters.sandbox.base import SandboxOutcome, SandboxState


class FileOutput:
    """``SandboxOutput`` over ``<id>.log``; the sandbox has ended once ``<id>.ended`` exists."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, sandbox_id: str, data: bytes) -> None:
        """The sandbox prints."""
        with self._log(sandbox_id).open("ab") as file:
            file.write(data)

    def end(self, sandbox_id: str) -> None:
        """The sandbox exits."""
        (self.directory / f"{sandbox_id}.ended").touch()

    async def wait(self, sandbox_id: str, *, log_offset: int, timeout_seconds: float) -> SandboxState:
        """See ``Sandboxes.wait``."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            if (self.directory / f"{sandbox_id}.ended").exists():
                now = datetime.now(UTC)
                size_bytes = self._log(sandbox_id).stat().st_size
                outcome = SandboxOutcome(exit_code=0, started_at=now, ended_at=now, log_size_bytes=size_bytes)
                return SandboxState(phase="ended", outcome=outcome)
            log = self._log(sandbox_id)
            grown = log.exists() and log.stat().st_size > log_offset
            if grown or asyncio.get_running_loop().time() >= deadline:
                return SandboxState(phase="running")
            await asyncio.sleep(0.002)

    async def read_log(self, sandbox_id: str, *, offset: int, size_bytes_max: int) -> bytes:
        """See ``Sandboxes.read_log``."""
        if not self._log(sandbox_id).exists():
            return b""
        with self._log(sandbox_id).open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes_max)

    def _log(self, sandbox_id: str) -> Path:
        return self.directory / f"{sandbox_id}.log"
