"""One project on a platform, for tests that start its pipelines and look at what they do on this host."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from adapters.sandbox.local.record import Record
from tests.chaos.workload import Verdict, judge_executions, judge_log
from tests.support.platform import OWNER, Platform


@dataclass
class Project:
    """A project whose pipeline files lie in ``.platform/``; nothing runs before it is asked for.

    Attributes:
        directory: Of the local repository.
    """

    platform: Platform
    name: str
    directory: Path
    runs: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Of its runs in the API."""
        return f"/api/v1/projects/{OWNER}/{self.name}/pipelines"

    async def publish(self, pipelines: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Pushes pipeline files (by name) and others, without a run."""
        written = {f".platform/{name}.yaml": text for name, text in pipelines.items()}
        await self.platform.repository(self.directory, {**written, **files})
        await self.platform.push(self.directory, self.name, "main", "-o", "ci.skip")

    async def trigger(self, pipeline: str) -> str:
        """Starts a run of one pipeline file; returns its id."""
        async with self.platform.client() as client:
            answer = await client.post(self.path, json={"ref": "main", "config_path": f".platform/{pipeline}.yaml"})
        assert answer.status_code == httpx.codes.CREATED, answer.text
        run_id = str(answer.json()["items"][0]["id"])
        self.runs.append(run_id)
        return run_id

    async def run(self, run_id: str) -> dict[str, Any]:
        """A run with its steps."""
        return await self.platform.run(self.name, run_id)

    async def step(self, run_id: str, name: str) -> dict[str, Any]:
        """One step of a run."""
        found: dict[str, Any] = next(step for step in (await self.run(run_id))["steps"] if step["name"] == name)
        return found

    async def cancel(self, run_id: str) -> httpx.Response:
        """Cancels a run."""
        async with self.platform.client() as client:
            return await client.post(f"{self.path}/{run_id}/cancel", json={"reason": "chaos"})

    async def log(self, run_id: str, step: str) -> str:
        """The whole log of a step."""
        return (await self.platform.log(self.name, run_id, step)).decode()

    async def judge(self, run_id: str) -> Verdict:
        """Whether a run of ``workload.pipeline()`` ended well, each attempt ran once and each line is there once."""
        verdict = Verdict()
        run = await self.platform.ended(self.name, run_id, timeout_seconds=90)
        if run["status"] != "success":
            verdict.lost.append(f"{run['status']}: {run['error']}")
            return verdict
        for name in ("first", "left", "right"):
            judge_log(verdict, name, name, await self.log(run_id, name))
        attempts = {step["name"]: step["attempt"] for step in run["steps"]}
        judge_executions(verdict, f"run {run_id}", await self.log(run_id, "report"), attempts)
        return verdict

    # ---- what is on this host ----------------------------------------------------------------------------------------

    def place(self, run_id: str) -> Path:
        """Where the sandboxes keep the run."""
        return self.platform.home / "sandboxes" / "runs" / run_id

    def sandboxes(self, run_id: str) -> list[Path]:
        """The records of the sandboxes that the run has now."""
        names = self.place(run_id) / "sandboxes"
        present = [entry.name for entry in names.iterdir()] if names.is_dir() else []
        return [self.platform.home / "sandboxes" / "sandboxes" / name for name in sorted(present)]

    def output(self, run_id: str) -> str:
        """What the steps of the run have written until now, taken by a worker or not."""
        logs = [record / "log" for record in self.sandboxes(run_id)]
        return "".join(log.read_text() for log in logs if log.exists())

    def checks_out(self, run_id: str) -> bool:
        """Whether the workspace is being filled just now; or was, for who looks too late on a busy machine."""
        return (self.place(run_id) / "workspace").exists()

    def has_workspace(self, run_id: str) -> bool:
        """Whether the workspace was filled."""
        return (self.place(run_id) / "handed_over").exists()

    def has_begun(self, run_id: str) -> bool:
        """Whether a sandbox of the run has begun."""
        return any((record / "begun").exists() for record in self.sandboxes(run_id))

    def has_ended(self, run_id: str) -> bool:
        """Whether a sandbox of the run has ended."""
        return any(Record(record).result() is not None for record in self.sandboxes(run_id))

    def supervisor(self, run_id: str) -> int | None:
        """The pid of the supervisor of the run's only sandbox whose commands have begun."""
        for record in self.sandboxes(run_id):
            begun = Record(record).begun()
            if begun is not None and Record(record).result() is None:
                return int(begun["pid"])
        return None

    def is_gone(self, run_id: str) -> bool:
        """Whether nothing of it is there; what costs least is looked at first, because many runs are waited for."""
        return not self.place(run_id).exists() and not self.left_behind(run_id)

    def left_behind(self, run_id: str) -> list[str]:
        """Processes, workspace and records of the run that are still there."""
        found = [f"process {process}" for process in processes_of(run_id)]
        found += [f"record {record.name}" for record in self.sandboxes(run_id) if record.exists()]
        return found + ([f"workspace of {run_id}"] if self.place(run_id).exists() else [])


def processes_of(run_id: str) -> list[int]:
    """Every process of any step of a run: they all have its id in their environment, whatever they did since."""
    wanted = f"PERDURE_RUN_ID={run_id}".encode()
    found = []
    for pid in psutil.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(pid)
    return found


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def send(pids: list[int], number: int) -> None:
    """A signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
