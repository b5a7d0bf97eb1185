"""Perdure's own two programs and the migrations, as parts of the stack."""

import sys
from pathlib import Path

import httpx

from deploy.local.loopback import PLAIN_HTTP_ONLY
from deploy.local.part import Launch, Part

SETTINGS_VARIABLE = "PERDURE_SETTINGS"


def python_launch(module: str, *, settings_path: Path) -> Launch:
    """``python -m module`` with the settings file; everything else it finds there."""
    return Launch(
        # -P: the working directory holds folders named like our packages.
        argv=(sys.executable, "-P", "-m", module),
        cwd=settings_path.parent,
        env={SETTINGS_VARIABLE: str(settings_path), "PYTHONUNBUFFERED": "1"},
    )


class PythonProgram(Part):
    """A long-running program of ours that answers ``ready_path`` with 200 once it serves."""

    # They import much, and a machine that also compiles or tests may take ten times as long as an idle one.
    ready_timeout_seconds = 120.0

    def __init__(self, name: str, *, module: str, port: int, ready_path: str, settings_path: Path) -> None:
        self.name = name
        self.module = module
        self.port = port
        self.ready_path = ready_path
        self.settings_path = settings_path

    def launch(self) -> Launch:
        """Python with the module."""
        return python_launch(self.module, settings_path=self.settings_path)

    async def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=5) as client:
                answer = await client.get(f"http://{self.address}{self.ready_path}")
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK
