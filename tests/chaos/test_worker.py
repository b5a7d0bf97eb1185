"""A worker that dies, is asked to leave, or comes back from the dead repeats nothing (promise D2)."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from deploy.local.identity import ProcessIdentity
from deploy.local.loopback import PLAIN_HTTP_ONLY
from deploy.local.ports import free_ports
from tests.chaos.project import Project
from tests.chaos.workload import pipeline
from tests.support.eventually import eventually
from tests.support.platform import Platform

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

ARTIFACT_BYTES = 300 * 1024**2
UPLOAD = f"""steps:
  - name: only
    commands: [echo once >> ran, cat ran, truncate -s {ARTIFACT_BYTES} large]
    artifacts: large
"""
FILES = {f"many/{n // 100}/{n}.txt": f"{n}\n" for n in range(600)}
MANY = "steps:\n  - name: only\n    commands: [echo once >> ran, cat ran, find many -name '*.txt' | wc -l]\n"
PIPELINES = {"diamond": pipeline(), "upload": UPLOAD, "many": MANY}


async def staggered(project: Project, count: int) -> list[str]:
    """Runs that are each at another moment: the last was just triggered, the first is about to end."""
    runs = []
    for _ in range(count):
        runs.append(await project.trigger("diamond"))
        await asyncio.sleep(0.5)  # what makes the moments differ
    return runs


async def another_worker(platform: Platform, before: ProcessIdentity) -> None:
    """Waits until a new worker is ready."""

    def ready() -> bool:
        record = platform.record()
        parts = [] if record is None else record.parts
        return any(part.name == "worker" and part.state == "ready" and part.identity != before for part in parts)

    await eventually(ready, timeout_seconds=60)


def worker_of(platform: Platform) -> ProcessIdentity:
    identity = platform.identity("worker")
    assert identity is not None
    return identity


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_ends_at_many_moments_of_many_runs(project: Project, number: signal.Signals) -> None:
    runs = await staggered(project, 8)
    last, _ = await asyncio.gather(
        project.trigger("diamond"), asyncio.to_thread(worker_of(project.platform).send, number)
    )

    for run_id in (*runs, last):
        verdict = await project.judge(run_id)
        assert verdict.clean, verdict
        assert {step["attempt"] for step in (await project.run(run_id))["steps"]} == {1}


async def test_a_worker_that_is_killed_while_it_checks_out_and_while_it_uploads(project: Project) -> None:
    checking = await project.trigger("many")
    await eventually(lambda: project.checks_out(checking), interval_seconds=0.002)
    first = worker_of(project.platform)
    first.send(signal.SIGKILL)
    assert project.checks_out(checking)
    await another_worker(project.platform, first)

    uploading = await project.trigger("upload")
    await eventually(lambda: project.has_ended(uploading), timeout_seconds=30, interval_seconds=0.005)
    second = worker_of(project.platform)
    second.send(signal.SIGKILL)
    assert (await project.step(uploading, "only"))["status"] == "running"
    await another_worker(project.platform, second)

    for run_id in (checking, uploading):
        run = await project.platform.ended(project.name, run_id)
        assert (run["status"], run["steps"][0]["attempt"]) == ("success", 1)
        said = [line for line in (await project.log(run_id, "only")).splitlines() if not line.startswith("\x1b")]
        assert said == (["once", str(len(FILES))] if run_id == checking else ["once"])
    async with project.platform.client() as client:
        artifacts = (await client.get(f"{project.path}/{uploading}/artifacts")).json()["items"]
    assert [(one["name"], one["size_bytes"]) for one in artifacts] == [("large", ARTIFACT_BYTES)]


@asynccontextmanager
async def second_worker(platform: Platform) -> AsyncIterator[None]:
    """Another worker of the same installation, until the end of the block."""
    port = free_ports()["worker"]
    with (platform.home.parent / "second-worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "worker.main", cwd=platform.home, stdout=log, stderr=log,
            env={
                **os.environ,
                "PERDURE_SETTINGS": str(platform.home / "settings.toml"),
                "PERDURE_WORKER__HEALTH_PORT": str(port),
            },
        )  # fmt: skip

    async def alive() -> bool:
        assert process.returncode is None
        async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    try:
        await eventually(alive, timeout_seconds=60, interval_seconds=0.1)
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_a_worker_that_comes_back_from_the_dead_doubles_nothing(project: Project) -> None:
    runs = await staggered(project, 6)
    zombie = worker_of(project.platform)
    zombie.send(signal.SIGSTOP)
    began = time.monotonic()
    try:
        async with second_worker(project.platform):
            # Longer than the heartbeat timeout: the second worker has its work now.
            await asyncio.sleep(began + 12 - time.monotonic())
            assert worker_of(project.platform) == zombie
            zombie.send(signal.SIGCONT)
            for run_id in runs:
                verdict = await project.judge(run_id)
                assert verdict.clean, verdict
                assert {step["attempt"] for step in (await project.run(run_id))["steps"]} == {1}
    finally:
        zombie.send(signal.SIGCONT)
