"""What runs while things are killed: pipelines whose output proves how often each step ran."""

import asyncio
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.git import Git
from tests.support.platform import Platform

LINES = 12

# Each step notes its own execution in the workspace and counts slowly, so a kill finds it in the middle.
STEP = """
  - name: {name}
    depends_on: {after}
    commands:
      - echo "$PERDURE_STEP $PERDURE_ATTEMPT" >> executions-{name}
      - for i in $(seq 1 {lines}); do echo "line $i of {name}"; sleep {pause}; done
"""
REPORT = """
  - name: report
    depends_on: [left, right]
    commands:
      - cat executions-*
    artifacts: ["executions-*"]
"""
PAUSE_SECONDS = 0.08


def pipeline() -> str:
    """A diamond of steps and a report of who ran how often."""
    first = STEP.format(name="first", after="[]", lines=LINES, pause=PAUSE_SECONDS)
    left = STEP.format(name="left", after="[first]", lines=LINES, pause=PAUSE_SECONDS)
    right = STEP.format(name="right", after="[first]", lines=LINES, pause=PAUSE_SECONDS)
    return "steps:" + first + left + right + REPORT


@dataclass
class Pusher:
    """Pushes commit after commit to one project, and again until git says that it arrived."""

    platform: Platform
    project: str
    directory: Path
    dice: random.Random
    commits: list[str] = field(default_factory=list)

    async def begin(self) -> None:
        """Makes the local repository."""
        await self.platform.repository(self.directory, {".platform.yaml": pipeline()})
        self.commits.append(await Git(self.directory).sha())
        await self.push_until_it_arrives()

    async def push_once_more(self) -> None:
        """One more commit."""
        sha = await self.platform.commit(self.directory, {"n": str(len(self.commits))}, f"commit {len(self.commits)}")
        self.commits.append(sha)
        await self.push_until_it_arrives()

    async def push_until_it_arrives(self) -> None:
        """What a person does when the connection breaks."""
        for _ in range(200):
            if (await self.platform.push(self.directory, self.project, check=False)).code == 0:
                return
            await asyncio.sleep(0.3)
        raise AssertionError(f"{self.project}: the push never arrived")


@dataclass
class Verdict:
    """What went wrong, counted."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing did."""
        return not (self.lost or self.doubled or self.left_behind)


def judge_runs(verdict: Verdict, pusher: Pusher, runs: list[dict[str, Any]]) -> None:
    """Every commit that arrived has exactly one run, and it succeeded."""
    by_commit: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_commit.setdefault(run["commit_sha"], []).append(run)
    for sha in pusher.commits:
        found = by_commit.get(sha, [])
        if not found:
            verdict.lost.append(f"{pusher.project}: commit {sha[:10]} has no run")
        if len(found) > 1:
            verdict.doubled.append(f"{pusher.project}: commit {sha[:10]} has {len(found)} runs")
        verdict.lost.extend(
            f"{pusher.project}: run {run['id']} ended as {run['status']}: {run['error']} {_steps(run)}"
            for run in found
            if run["status"] != "success"
        )


def _steps(run: dict[str, Any]) -> str:
    return ", ".join(f"{step['name']}={step['status']}/{step['attempt']}" for step in run["steps"])


def judge_log(verdict: Verdict, where: str, name: str, log: str) -> None:
    """The last attempt's lines stand there once each and in order; those of a lost attempt are a beginning of them."""
    attempts = re.split(r"perdure: attempt \d+[^\n]*\n", log)
    wanted = [f"line {number} of {name}" for number in range(1, LINES + 1)]
    for position, attempt in enumerate(attempts):
        lines = re.findall(r"^line \d+ of \w+$", attempt, flags=re.MULTILINE)
        is_last = position == len(attempts) - 1
        if lines == wanted or (not is_last and lines == wanted[: len(lines)]):
            continue
        target = verdict.doubled if len(lines) > len(set(lines)) else verdict.lost
        target.append(f"{where} attempt {position + 1}: {lines}")


def judge_executions(verdict: Verdict, where: str, report: str, attempts: dict[str, int]) -> None:
    """Each attempt of each step ran at most once, and the last one did."""
    executions = re.findall(r"^(first|left|right) (\d+)$", report, flags=re.MULTILINE)
    for execution in set(executions):
        if executions.count(execution) > 1:
            verdict.doubled.append(f"{where}: {execution} ran {executions.count(execution)} times")
    for name, last in attempts.items():
        if name != "report" and (name, str(last)) not in executions:
            verdict.lost.append(f"{where}: {name} attempt {last} left no trace")
