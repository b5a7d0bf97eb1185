import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
from temporalio.client import Client

from temporal.schedules import SCHEDULES
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.temporal import converter_for_tests, unique_queue, working
from tests.worker.tasks import Watching, WatchingWorkflow
from worker.assembly import Tuning


@asynccontextmanager
async def worker_process(settings: Path, log: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker.main",
            env={**os.environ, "PERDURE_SETTINGS": str(settings), **env},
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_settings_that_cannot_be_used_are_named_and_nothing_runs(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[worker]\nhealth_port = 'seven'\n")
    async with worker_process(settings, tmp_path / "log") as process:
        assert await asyncio.wait_for(process.wait(), 60) == 1
    told = (tmp_path / "log").read_text()
    assert "worker.health_port" in told
    assert "temporal: Field required" in told
    assert "Traceback" not in told


async def test_a_malformed_payload_key_is_named_and_not_quoted(stack: Stack, tmp_path: Path) -> None:
    key = {"PERDURE_TEMPORAL__PAYLOAD_KEYS": '{"k9": "c2hvcnQ="}', "PERDURE_TEMPORAL__PAYLOAD_KEY_ID": "k9"}
    async with worker_process(stack.settings_path, tmp_path / "log", **key) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 1
    told = (tmp_path / "log").read_text()
    assert "'k9' is not the base64 of 32 bytes" in told
    assert "c2hvcnQ=" not in told


async def test_it_waits_for_temporal_says_so_serves_and_goes_when_asked(stack: Stack, tmp_path: Path) -> None:
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{stack.ports['worker']}/healthz"

    async def health() -> tuple[int, dict[str, object]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(url)
            except httpx.ConnectError:
                return 0, {}
            return answer.status_code, answer.json()

    async def waits() -> bool:
        return (await health())[1].get("waiting_for") == "Temporal"

    async def alive() -> bool:
        assert process.returncode is None, log.read_text()
        status, told = await health()
        return status == 200 and told["pid"] == process.pid

    await stack.stop("temporal")
    try:
        async with worker_process(stack.settings_path, log) as process:
            await eventually(waits, timeout_seconds=60)
            assert (await health())[0] == 503
            await stack.start("temporal")
            await eventually(alive, timeout_seconds=60)
            client = await Client.connect(
                stack.temporal_address, namespace=stack.temporal_namespace, data_converter=converter_for_tests()
            )
            for row in SCHEDULES:
                await client.get_schedule_handle(row.id).describe()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 15) == 0
            for row in SCHEDULES:
                await client.get_schedule_handle(row.id).delete()
    finally:
        await stack.start("temporal")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("Temporal does not answer" in line["message"] for line in lines)
    assert any(line["message"].startswith("polling orchestration, execution") for line in lines)


async def test_sigterm_while_it_waits_ends_it_at_once(stack: Stack, tmp_path: Path) -> None:
    log = tmp_path / "log"
    nobody = {"PERDURE_TEMPORAL__ADDRESS": f"127.0.0.1:{stack.ports['api']}"}
    async with worker_process(stack.settings_path, log, **nobody) as process:
        await eventually(lambda: "Temporal does not answer" in log.read_text(), timeout_seconds=60)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_an_activity_that_outlasts_the_grace_is_let_go_and_taken_up_by_the_next_worker(
    temporal_client: Client,
) -> None:
    queue = unique_queue()
    watching = Watching()
    async with working(
        temporal_client,
        workflows=[WatchingWorkflow],
        activities=[watching.watch],
        queues=[queue],
        tuning=Tuning(grace=timedelta(milliseconds=200)),
    ):
        handle = await temporal_client.start_workflow(WatchingWorkflow.run, id=str(uuid4()), task_queue=queue)
        await eventually(lambda: watching.by_attempt.get(1) == "watching")
    assert watching.by_attempt[1] == "let go"
    async with working(temporal_client, workflows=[WatchingWorkflow], activities=[watching.watch], queues=[queue]):
        await eventually(lambda: watching.by_attempt.get(2) == "watching")
        watching.done.set()
        assert await handle.result() == 2
