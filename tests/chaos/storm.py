"""Kills processes at many points while pipelines run, then counts what was lost, doubled or left behind.

``python -m tests.chaos.storm --kills 100`` is ``make chaos``; ``tests/chaos/test_storm.py`` runs a short one.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from uuid import UUID

import asyncpg
import psutil

from tests.chaos.workload import Pusher, Verdict, judge_executions, judge_log, judge_runs
from tests.support.eventually import eventually
from tests.support.platform import ENDED, OWNER, Platform

# How often each is chosen; the first two carry the promises D1 and D2, the supervisors of steps D3, the servers D4.
TARGETS = {"api": 30, "worker": 30, "step": 16, "postgres": 7, "temporal": 5, "s3": 5, "valkey": 5, "supervisor": 2}
SETTLE_SECONDS = 240.0


class Storm:
    """One storm over one platform.

    Args:
        seed: Makes the choices (not the machine's timing) repeatable.
    """

    def __init__(self, platform: Platform, directory: Path, *, kills: int, pushers: int, seed: int) -> None:
        self.platform = platform
        self.kills = kills
        self.killed: Counter[str] = Counter()
        self.dice = random.Random(seed)  # noqa: S311  # a test's dice, not a secret
        self.pushers = [
            Pusher(platform, f"storm-{number}", directory / f"storm-{number}", random.Random(seed + number))  # noqa: S311  # as above
            for number in range(pushers)
        ]
        self._over = asyncio.Event()

    async def rage(self) -> Verdict:
        """Kills, waits for calm, judges."""
        for pusher in self.pushers:
            await pusher.begin()
        tasks = [asyncio.create_task(self._push_on(pusher)) for pusher in self.pushers]
        try:
            await self._kill_on()
        finally:
            self._over.set()
        await asyncio.gather(*tasks)
        return await self.judge()

    async def _push_on(self, pusher: Pusher) -> None:
        while not self._over.is_set():
            await pusher.push_once_more()
            await asyncio.sleep(pusher.dice.uniform(0.2, 2.0))

    async def _kill_on(self) -> None:
        names, weights = list(TARGETS), list(TARGETS.values())
        while self.killed.total() < self.kills:
            (target,) = self.dice.choices(names, weights)
            await asyncio.sleep(self.dice.uniform(0.05, 1.5))
            if await self._kill(target):
                self.killed[target] += 1
                print(f"\r{self.killed.total()} of {self.kills} kills {dict(self.killed)}", end="", flush=True)  # noqa: T201  # progress

    async def _kill(self, target: str) -> bool:
        if target == "step":
            return self._kill_a_step()
        if target == "supervisor":
            if not self.platform.kill("supervisor"):
                return False
            await self.platform.wait_killed()
            await self.platform.up()
            return True
        record = self.platform.record()
        part = None if record is None else next((p for p in record.parts if p.name == target), None)
        # Killing what is only starting is a kill too, but the same server again and again would just keep it down.
        return part is not None and part.state == "ready" and self.platform.kill(target)

    def _kill_a_step(self) -> bool:
        supervisors = step_supervisors(self.platform.home)
        if not supervisors:
            return False
        try:
            os.kill(self.dice.choice(supervisors).pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    async def judge(self) -> Verdict:
        """Waits until everything has ended and looks at every run, log and leftover."""
        verdict = Verdict()
        await eventually(self.platform.serves, timeout_seconds=90)
        for pusher in self.pushers:
            await self._judge_project(verdict, pusher)
        await self._judge_leftovers(verdict)
        return verdict

    async def _judge_project(self, verdict: Verdict, pusher: Pusher) -> None:
        async def calm() -> bool:
            runs = await self.platform.runs(pusher.project)
            return len(runs) >= len(pusher.commits) and all(run["status"] in ENDED for run in runs)

        try:
            await eventually(calm, timeout_seconds=SETTLE_SECONDS, interval_seconds=0.5)
        except AssertionError:
            verdict.lost.append(f"{pusher.project}: not every run ended within {SETTLE_SECONDS:g} s")
        runs = [await self.platform.run(pusher.project, run["id"]) for run in await self.platform.runs(pusher.project)]
        judge_runs(verdict, pusher, runs)
        for run in runs:
            if run["status"] != "success":
                continue
            where = f"{pusher.project} #{run['number']}"
            logs = {
                step["name"]: (await self.platform.log(pusher.project, run["id"], step["name"])).decode()
                for step in run["steps"]
            }
            for name in ("first", "left", "right"):
                judge_log(verdict, f"{where} {name}", name, logs[name])
            attempts = {step["name"]: step["attempt"] for step in run["steps"]}
            judge_executions(verdict, where, logs["report"], attempts)

    async def _judge_leftovers(self, verdict: Verdict) -> None:
        async def nothing() -> bool:
            return not await leftovers(self.platform)

        try:
            await eventually(nothing, timeout_seconds=90, interval_seconds=1)
        except AssertionError:
            verdict.left_behind.extend(await leftovers(self.platform))


def step_supervisors(home: Path) -> list[psutil.Process]:
    """The live supervisors of steps of this installation."""
    place = str(home / "sandboxes")
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "perdure-step" and (process.info["cwd"] or "").startswith(place)
    ]


async def leftovers(platform: Platform) -> list[str]:
    """What is there though no run is: processes, workspaces, locks, unsettled rows."""
    found = [f"process {process.pid}" for process in step_supervisors(platform.home)]
    for folder in ("sandboxes/runs", "sandboxes/sandboxes", "repositories/locks"):
        place = platform.home / folder
        if place.is_dir():
            found.extend(f"{folder}/{entry.name}" for entry in place.iterdir())
    quarantines = (platform.home / "repositories").glob("*/*.git/objects/tmp_objdir-*")
    found.extend(f"quarantine {path}" for path in quarantines)
    found.extend(await _open_rows(platform))
    return found


async def _open_rows(platform: Platform) -> list[str]:
    settings = tomllib.loads((platform.home / "settings.toml").read_text())
    connection = await asyncpg.connect(settings["database"]["owner_url"].replace("+asyncpg", ""))
    try:
        pushes: list[UUID] = [
            row["id"] for row in await connection.fetch("SELECT id FROM pushes WHERE status = 'open'")
        ]
        segments = await connection.fetchval(
            "SELECT count(*) FROM log_segments JOIN pipeline_steps s ON s.id = step_id WHERE s.log_ref IS NOT NULL"
        )
    finally:
        await connection.close()
    return [f"open push {push}" for push in pushes] + ([f"{segments} log segments"] if segments else [])


async def run_storm(home: Path, *, kills: int, pushers: int, seed: int) -> tuple[Storm, Verdict]:
    """A storm over a fresh installation."""
    platform = Platform(home)
    await platform.up()
    try:
        storm = Storm(platform, home.parent / "work", kills=kills, pushers=pushers, seed=seed)
        return storm, await storm.rage()
    finally:
        await platform.down()


def main() -> None:
    """Prints what went wrong, and as the last line the count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pushers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", help="a directory to keep for looking at afterwards")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")  # noqa: T201  # the report of a command
    with tempfile.TemporaryDirectory(prefix="perdure-chaos-") as scratch:
        home = Path(chosen.keep or scratch) / "home"
        storm, verdict = asyncio.run(run_storm(home, kills=chosen.kills, pushers=chosen.pushers, seed=chosen.seed))
    print()  # noqa: T201  # as above
    print(f"{sum(len(pusher.commits) for pusher in storm.pushers)} pushes; {dict(storm.killed)}; owner {OWNER}")  # noqa: T201  # as above
    for line in (*verdict.lost, *verdict.doubled, *verdict.left_behind):
        print(line)  # noqa: T201  # as above
    print(  # noqa: T201  # as above
        f"{storm.killed.total()} kills, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
        f"{len(verdict.left_behind)} left behind"
    )
    sys.exit(0 if verdict.clean else 1)


if __name__ == "__main__":
    main()
