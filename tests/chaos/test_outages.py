"""A server that hangs or dies delays work and loses none (promise D4)."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from deploy.local.identity import ProcessIdentity
from tests.chaos.project import Project, send, tree_of
from tests.chaos.workload import pipeline
from tests.support.eventually import eventually
from tests.support.platform import OWNER, Platform

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

ANSWER_SECONDS = 15.0
OUTAGE_SECONDS = 5.0
SERVERS = ("postgres", "temporal", "s3", "valkey")
TWO_LINES = "steps:\n  - name: only\n    commands: [echo one, echo two]\n"
PIPELINES = {"diamond": pipeline(), "lines": TWO_LINES}


@asynccontextmanager
async def hanging(platform: Platform, server: str) -> AsyncIterator[None]:
    """A server that keeps its connections and answers nothing: at least ``OUTAGE_SECONDS``, or until the block ends."""
    identity = identity_of(platform, server)
    stopped = tree_of(identity.pid)
    began = time.monotonic()
    send(stopped, signal.SIGSTOP)
    try:
        yield
        await asyncio.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))  # the length of the outage
    finally:
        send(stopped, signal.SIGCONT)


def identity_of(platform: Platform, part: str) -> ProcessIdentity:
    identity = platform.identity(part)
    assert identity is not None
    return identity


async def get(project: Project, path: str) -> httpx.Response:
    """An answer, which must come in time."""
    async with project.platform.client() as client:
        return await asyncio.wait_for(client.get(path), ANSWER_SECONDS)


def assert_come_back(answer: httpx.Response) -> None:
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
    assert int(answer.headers["retry-after"]) > 0


async def assert_whole(project: Project, run_id: str) -> None:
    verdict = await project.judge(run_id)
    assert verdict.clean, verdict
    assert {step["attempt"] for step in (await project.run(run_id))["steps"]} == {1}


async def output_of_first(project: Project, run_id: str) -> None:
    await eventually(lambda: "line 3 of first" in project.output(run_id), timeout_seconds=60)


async def test_postgres_hangs(project: Project) -> None:
    run_id = await project.trigger("diamond")
    await output_of_first(project, run_id)

    async with hanging(project.platform, "postgres"):
        page = f"/api/v1/projects/{OWNER}/{project.name}"
        answers = await asyncio.gather(
            get(project, page), get(project, f"{page}/pipelines"), get(project, f"{page}/pipelines/{run_id}")
        )
        for answer in answers:
            assert_come_back(answer)

    await assert_whole(project, run_id)


async def test_temporal_hangs(project: Project) -> None:
    run_id = await project.trigger("diamond")
    await output_of_first(project, run_id)

    async with hanging(project.platform, "temporal"):
        assert (await get(project, f"{project.path}/{run_id}")).status_code == httpx.codes.OK
        triggered = await asyncio.wait_for(project.trigger("diamond"), ANSWER_SECONDS)
        sha = await project.platform.commit(project.directory, {"outage": "temporal"}, "while Temporal is away")
        pushed = await asyncio.wait_for(project.platform.push(project.directory, project.name), ANSWER_SECONDS)
        assert "the push is recorded" in pushed.stderr

    async def both() -> list[str]:
        await project.platform.hurry()
        runs = await project.platform.runs(project.name)
        return [run["id"] for run in runs if run["commit_sha"] == sha and run["trigger"] == "push"]

    ids = await eventually(both, timeout_seconds=60, interval_seconds=1)
    assert len(ids) == 2
    for started in (run_id, triggered):
        await assert_whole(project, started)
    assert {(await project.platform.ended(project.name, one))["status"] for one in ids} == {"success"}


async def test_s3_hangs(project: Project) -> None:
    old = await project.trigger("lines")
    await project.platform.ended(project.name, old)
    run_id = await project.trigger("diamond")
    await output_of_first(project, run_id)

    async with hanging(project.platform, "s3"):
        assert (await get(project, f"{project.path}/{run_id}")).status_code == httpx.codes.OK
        assert (await get(project, f"{project.path}/{run_id}/steps/first/log")).status_code == httpx.codes.OK
        assert_come_back(await get(project, f"{project.path}/{old}/steps/only/log"))

    assert "two\n" in await project.log(old, "only")
    await assert_whole(project, run_id)


async def test_valkey_hangs(project: Project) -> None:
    run_id = await project.trigger("diamond")
    await output_of_first(project, run_id)

    async with hanging(project.platform, "valkey"):
        assert (await get(project, f"{project.path}/{run_id}")).status_code == httpx.codes.OK
        second = await asyncio.wait_for(project.trigger("diamond"), ANSWER_SECONDS)
        # Only hints are gone: the runs end meanwhile.
        await assert_whole(project, run_id)
        await assert_whole(project, second)


async def test_every_server_is_killed_while_runs_go_on(project: Project) -> None:
    runs = []
    for server in SERVERS:
        runs.append(await project.trigger("diamond"))
        await output_of_first(project, runs[-1])
        identity_of(project.platform, server).send(signal.SIGKILL)
        await eventually(project.platform.serves, timeout_seconds=60, interval_seconds=0.1)

    for run_id in runs:
        await assert_whole(project, run_id)
