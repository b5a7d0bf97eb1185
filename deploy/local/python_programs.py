"""Perdure's own two programs and the migrations, as parts of the stack."""

import signal
import sys
from pathlib import Path

import httpx

from deploy.local.part import Launch

SETTINGS_VARIABLE = "PERDURE_SETTINGS"


def python_launch(module: str, *, settings_path: Path) -> Launch:
    """``python -m module`` with the settings file; everything else it finds there."""
    return Launch(
        # -P: the working directory holds folders named like our packages.
        argv=(sys.executable, "-P", "-m", module),
        cwd=settings_path.parent,
        env={SETTINGS_VARIABLE: str(settings_path), "PYTHONUNBUFFERED": "1"},
    )


class PythonProgram:
    """A long-running program of ours that answers ``ready_path`` with 200 once it serves."""

    stop_signal = signal.SIGTERM
    stop_timeout_seconds = 10.0
    # They import much, and a machine that also compiles or tests may take ten times as long as an idle one.
    ready_timeout_seconds = 120.0

    def __init__(self, name: str, *, module: str, port: int, ready_path: str, settings_path: Path) -> None:
        self.name = name
        self.module = module
        self.port = port
        self.ready_path = ready_path
        self.settings_path = settings_path

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """The one port."""
        return (self.port,)

    async def prepare(self) -> None:
        """Nothing to write: it reads the settings file."""

    def launch(self) -> Launch:
        """Python with the module."""
        return python_launch(self.module, settings_path=self.settings_path)

    async def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                answer = await client.get(f"http://{self.address}{self.ready_path}")
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def complete(self) -> None:
        """Nothing to make inside it."""

    async def clean_up(self) -> None:
        """Nothing lies outside."""
