"""The whole platform as a user has it: `perdure up` in a directory of its own, spoken to with `git` and HTTP."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client

from deploy.local.identity import ProcessIdentity
from deploy.local.loopback import PLAIN_HTTP_ONLY
from deploy.local.state import RunRecord, StateDirectory
from deploy.local.temporal import NAMESPACE
from temporal.schedules import PREFIX
from tests.support.eventually import eventually
from tests.support.git import Git, Ran, new_clone

SCOPES = ["project:read", "project:write", "project:create", "pipeline:run"]
ENDED = {"success", "failure", "cancelled", "error"}
OWNER = "admin"
START_TIMEOUT_SECONDS = 90.0
# Requests are counted as everywhere, but one client may ask as often as a storm or a benchmark does.
UNHURRIED = {
    "PERDURE_RATE_LIMITS__REQUESTS_OF_CREDENTIAL": "1000000000",
    "PERDURE_RATE_LIMITS__REQUESTS_OF_ADDRESS": "1000000000",
}


class Platform:
    """One installation under ``home``.

    Attributes:
        url: Of the API.
        token: Of the administrator, with all scopes that the tests need.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = StateDirectory(home)
        self.url = ""
        self.token = ""
        self._process: asyncio.subprocess.Process | None = None

    async def up(self) -> None:
        """Runs `perdure up` and waits until it serves."""
        self.home.mkdir(parents=True, exist_ok=True)
        flags = [] if (self.home / "ports.json").exists() else ["--ports", "auto"]
        with (self.home.parent / f"{self.home.name}-up.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli.main", "up", "--no-demo", *flags,
                env={**os.environ, **UNHURRIED, "PERDURE_HOME": str(self.home)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        await eventually(self.serves, timeout_seconds=START_TIMEOUT_SECONDS, interval_seconds=0.1)
        if not self.token:
            self.token = await self._first_token()

    async def serves(self) -> bool:
        """Whether every part is up and the API has all its dependencies."""
        process = self._process
        assert process is None or process.returncode is None, f"`perdure up` ended: {self.output()[-3000:]}"
        record = self.record()
        if record is None or not record.parts or any(part.state != "ready" for part in record.parts):
            return False
        address = next((part.address for part in record.parts if part.name == "api"), None)
        if address is None or not any(part.name == "worker" for part in record.parts):
            return False
        self.url = f"http://{address}"
        return await self._ready()

    async def _ready(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY) as client:
                return (await client.get(f"{self.url}/readyz", timeout=5)).status_code == 200
        except httpx.HTTPError:
            return False

    def output(self) -> str:
        """What `perdure up` has printed, over all starts."""
        return (self.home.parent / f"{self.home.name}-up.log").read_text(errors="replace")

    def record(self) -> RunRecord | None:
        """What the supervisor knows of its parts."""
        return RunRecord.load(self.state.record_path)

    def identity(self, part: str) -> ProcessIdentity | None:
        """The present process of a part, or of the ``supervisor``."""
        record = self.record()
        if record is None:
            return None
        if part == "supervisor":
            return record.supervisor
        return next((known.identity for known in record.parts if known.name == part), None)

    def kill(self, part: str) -> bool:
        """SIGKILL to the process of a part; ``False`` if it has none just now."""
        identity = self.identity(part)
        if identity is None:
            return False
        try:
            os.kill(identity.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    async def hurry(self) -> None:
        """Gives the schedules that look for what an outage left behind their next turn now."""
        record = self.record()
        assert record is not None
        temporal = next(part for part in record.parts if part.name == "temporal")
        client = await Client.connect(temporal.address, namespace=NAMESPACE)
        for name in ("repair-runs", "sweep-pushes"):
            await client.get_schedule_handle(PREFIX + name).trigger()

    async def down(self) -> None:
        """Stops everything in order."""
        if self._process is not None and self._process.returncode is None:
            # Not SIGINT: a shell's background job ignores it, and so would what the job starts.
            self._process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self._process.wait(), timeout=60)
        self._process = None

    async def wait_killed(self) -> None:
        """Waits for a supervisor that was killed."""
        if self._process is not None:
            await self._process.wait()
        self._process = None

    async def _first_token(self) -> str:
        password = (self.home / "admin-password").read_text().strip()
        async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY) as client:
            answer = await client.post(
                f"{self.url}/api/v1/tokens",
                auth=(OWNER, password),
                json={"name": "tests", "scopes": SCOPES, "expires_in_days": 1},
            )
        answer.raise_for_status()
        return str(answer.json()["token"])

    def client(self) -> httpx.AsyncClient:
        """A client of the API with the token."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            trust_env=False,
            verify=PLAIN_HTTP_ONLY,
            timeout=30,
        )

    async def git(self, directory: Path, *arguments: str, check: bool = True) -> Ran:
        """Runs the real git with the token at hand."""
        git = Git(directory, self.token)
        return await (git(*arguments) if check else git.try_to(*arguments))

    async def repository(self, directory: Path, files: Mapping[str, str]) -> Path:
        """A fresh local repository on branch ``main`` with one commit."""
        await (await new_clone(directory)).commit(files, "first")
        return directory

    async def commit(self, directory: Path, files: Mapping[str, str], message: str) -> str:
        """Writes files and commits; returns the commit's id."""
        return await Git(directory).commit(files, message)

    async def push(
        self, directory: Path, project: str, refspec: str = "main", *options: str, check: bool = True
    ) -> Ran:
        """`git push` to the administrator's project."""
        return await self.git(directory, "push", *options, f"{self.url}/{OWNER}/{project}.git", refspec, check=check)

    async def runs(self, project: str) -> list[dict[str, Any]]:
        """Every run of a project, newest first."""
        found: list[dict[str, Any]] = []
        async with self.client() as client:
            path = f"/api/v1/projects/{OWNER}/{project}/pipelines?limit=100"
            while path:
                answer = await client.get(path)
                answer.raise_for_status()
                found.extend(answer.json()["items"])
                path = answer.json().get("next") or ""
        return found

    async def run(self, project: str, run_id: str) -> dict[str, Any]:
        """One run with its steps."""
        async with self.client() as client:
            answer = await client.get(f"/api/v1/projects/{OWNER}/{project}/pipelines/{run_id}")
        answer.raise_for_status()
        run: dict[str, Any] = answer.json()
        return run

    async def ended(self, project: str, run_id: str, *, timeout_seconds: float = 60) -> dict[str, Any]:
        """Waits until a run has ended; outages of the API meanwhile are fine."""

        async def look() -> dict[str, Any] | None:
            try:
                run = await self.run(project, run_id)
            except httpx.HTTPError:
                return None
            return run if run["status"] in ENDED else None

        run: dict[str, Any] | None = await eventually(look, timeout_seconds=timeout_seconds, interval_seconds=0.2)
        assert run is not None
        return run

    async def log(self, project: str, run_id: str, step: str) -> bytes:
        """The whole log of a step."""
        async with self.client() as client:
            answer = await client.get(f"/api/v1/projects/{OWNER}/{project}/pipelines/{run_id}/steps/{step}/log")
        answer.raise_for_status()
        return answer.content
