"""From push to first log line, the overhead of a run, and runs per minute beside empty activities."""

import asyncio
import time
import tomllib
import uuid
from datetime import timedelta
from pathlib import Path

import httpx
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from bench.result import Figure, figure, median, percentile
from tests.support.platform import ENDED, OWNER, Platform

THREE_EMPTY_STEPS = """
steps:
  - {name: one, commands: ["true"]}
  - {name: two, commands: ["true"]}
  - {name: three, commands: ["true"]}
"""
ONE_LINE = """
steps:
  - {name: hello, commands: ["echo hello", "sleep 0.2"]}
"""
# What PipelineRunWorkflow executes for three steps: prepare_run, run_step three times, finish_run. That it does the
# first and the last of them within workflow tasks is its own merit; the limit is that of ordinary activities.
ACTIVITIES_PER_RUN = 5
EMPTY_QUEUE = "bench-empty"


async def first_log_line(platform: Platform, scratch: Path, *, pushes: int) -> list[Figure]:
    """Seconds from the return of `git push` until the first line of output is in the hands of an SSE client."""
    directory = await platform.repository(scratch / "first-line", {".platform.yaml": ONE_LINE})
    seconds = []
    async with platform.client() as client:
        for number in range(pushes):
            sha = await platform.commit(directory, {"n": str(number)}, f"commit {number}")
            await platform.push(directory, "first-line")
            returned = time.monotonic()
            await _until_first_line(client, "first-line", sha)
            seconds.append(time.monotonic() - returned)
    return [
        figure("push return to first log line, p50", median(seconds), "s", goal=("at most", 0.4)),
        figure("push return to first log line, p95", percentile(seconds, 95), "s"),
    ]


async def _until_first_line(client: httpx.AsyncClient, project: str, sha: str) -> None:
    root = f"/api/v1/projects/{OWNER}/{project}/pipelines"
    run = (await client.get(f"{root}?limit=1")).json()["items"][0]
    assert run["commit_sha"] == sha, "the push returned before its run was made"
    async with client.stream("GET", f"{root}/{run['id']}/steps/hello/log/stream") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:") and "hello" in line:
                return


async def run_overhead(platform: Platform, scratch: Path, *, runs: int) -> list[Figure]:
    """Wall seconds of a run of three empty steps, from the triggering request to its end as seen over SSE.

    The steps themselves take next to nothing, so the whole time is overhead.
    """
    directory = await platform.repository(scratch / "overhead", {".platform.yaml": THREE_EMPTY_STEPS})
    await platform.push(directory, "overhead", "main", "-o", "ci.skip")
    seconds = []
    async with platform.client() as client:
        for _ in range(runs):
            began = time.monotonic()
            run_id = await trigger(client, "overhead")
            await _follow(client, "overhead", run_id)
            seconds.append(time.monotonic() - began)
            assert (await platform.run("overhead", run_id))["status"] == "success"
    return [
        figure("run of three empty steps, p50", median(seconds), "s", goal=("at most", 0.4)),
        figure("run of three empty steps, p95", percentile(seconds, 95), "s"),
    ]


async def trigger(client: httpx.AsyncClient, project: str) -> str:
    """Starts a run of the branch ``main``; returns its id."""
    answer = await client.post(f"/api/v1/projects/{OWNER}/{project}/pipelines", json={"ref": "main"})
    answer.raise_for_status()
    return str(answer.json()["items"][0]["id"])


async def until_ended(client: httpx.AsyncClient, project: str, run_id: str) -> None:
    """Follows a run over SSE until it has ended well."""
    await _follow(client, project, run_id)
    run = (await client.get(f"/api/v1/projects/{OWNER}/{project}/pipelines/{run_id}")).json()
    assert run["status"] == "success", run


async def _follow(client: httpx.AsyncClient, project: str, run_id: str) -> None:
    path = f"/api/v1/projects/{OWNER}/{project}/pipelines/{run_id}/events"
    async with client.stream("GET", path) as answer:
        async for _ in answer.aiter_lines():
            pass  # the stream ends when the run has


async def sustained_runs(platform: Platform, scratch: Path, *, rounds: int, runs: int, at_once: int) -> list[Figure]:
    """Runs a minute with ``at_once`` in flight, beside as many workflows of empty activities on the same server.

    The two take turns: a shared machine is not equally fast for a whole minute.
    """
    directory = await platform.repository(scratch / "sustained", {".platform.yaml": THREE_EMPTY_STEPS})
    await platform.push(directory, "sustained", "main", "-o", "ci.skip")
    limit_seconds = run_seconds = 0.0
    for _ in range(rounds):
        limit_seconds += await _seconds_of_empty_activities(platform, workflows=runs, at_once=at_once)
        run_seconds += await _seconds_of_runs(platform, runs=runs, at_once=at_once)
    per_minute, limit = (60 * rounds * runs / seconds for seconds in (run_seconds, limit_seconds))
    return [
        figure(
            "three-step runs a minute, sustained",
            per_minute,
            "runs/min",
            goal=("at least", 300),
            limit=(f"workflows of {ACTIVITIES_PER_RUN} empty activities", limit),
            goal_ratio=("at least", 0.5),
        )
    ]


async def _seconds_of_runs(platform: Platform, *, runs: int, at_once: int) -> float:
    began = time.monotonic()
    async with platform.client() as client:
        waiting: set[str] = set()
        for _ in range(runs):
            waiting.add(await trigger(client, "sustained"))
            while len(waiting) >= at_once:
                waiting -= await _ended(client, "sustained", at_once)
        while waiting:
            waiting -= await _ended(client, "sustained", at_once)
    return time.monotonic() - began


async def _ended(client: httpx.AsyncClient, project: str, at_once: int) -> set[str]:
    """Which of the newest runs have ended; asked four times a second, as a script would."""
    await asyncio.sleep(0.25)
    answer = await client.get(f"/api/v1/projects/{OWNER}/{project}/pipelines?limit={2 * at_once}")
    return {run["id"] for run in answer.raise_for_status().json()["items"] if run["status"] in ENDED}


@activity.defn(name="bench_nothing")
async def nothing() -> None:
    """Does nothing."""


@workflow.defn(name="BenchEmptyWorkflow", sandboxed=False)
class BenchEmptyWorkflow:
    """As many activities as a run of three steps has, one after the other, all empty."""

    @workflow.run
    async def run(self) -> None:
        """Runs them."""
        for _ in range(ACTIVITIES_PER_RUN):
            await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=30))


async def _seconds_of_empty_activities(platform: Platform, *, workflows: int, at_once: int) -> float:
    settings = tomllib.loads((platform.home / "settings.toml").read_text())["temporal"]
    client = await Client.connect(settings["address"], namespace=settings["namespace"])
    places = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with places:
            await client.execute_workflow(
                BenchEmptyWorkflow.run, id=f"bench-empty/{uuid.uuid4()}", task_queue=EMPTY_QUEUE
            )

    async with Worker(client, task_queue=EMPTY_QUEUE, workflows=[BenchEmptyWorkflow], activities=[nothing]):
        await one()
        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(workflows)))
        return time.monotonic() - began
