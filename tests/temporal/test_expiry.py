import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client

from deploy.local.ports import free_ports
from deploy.local.process import start
from deploy.local.temporal import Temporal
from domain.errors import Unavailable
from temporal.client import connect
from temporal.expiry import HistoryExpiry
from temporal.names import Kind, search_attributes
from temporal.namespace import ensure_namespace
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.temporal import converter_for_tests, unique_queue

AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server that deletes at once what ended a moment ago, which otherwise takes it half a minute."""
    temporal = Temporal(tmp_path_factory.mktemp("temporal"), ports=free_ports())
    await temporal.prepare()
    launch = temporal.launch()
    switches = [
        word
        for kind in ("transfer", "visibility")
        for word in ("--dynamic-config-value", f"history.{kind}ProcessorEnsureCloseBeforeDelete=false")
    ]
    child = await start(
        replace(launch, argv=(*launch.argv, *switches)),
        log_path=temporal.directory / "log",
        stop_signal=temporal.stop_signal,
    )
    await eventually(temporal.is_ready, timeout_seconds=temporal.ready_timeout_seconds)
    yield temporal.address
    await child.stop(temporal.stop_signal, timeout_seconds=temporal.stop_timeout_seconds)


@pytest.fixture
async def client(address: str) -> Client:
    """In a namespace of the test's own."""
    own = await connect(address, f"expiry-{uuid4()}", converter_for_tests(), program="test")
    await ensure_namespace(own)
    return own


async def execution(client: Client, kind: Kind, *, workflow_id: str | None = None, ended: bool = True) -> str:
    """Starts one that nobody works on, and ends it; returns its run id."""
    handle = await client.start_workflow(
        "Nothing",
        id=workflow_id or f"test/{uuid4()}",
        task_queue=unique_queue(),
        search_attributes=search_attributes(kind, initiator="system"),
    )
    if ended:
        await handle.terminate()
    assert handle.first_execution_run_id is not None
    return handle.first_execution_run_id


async def listed(client: Client, query: str = "") -> set[str]:
    return {one.run_id async for one in client.list_workflows(query)}


async def until_listed(client: Client, run_ids: set[str], query: str = "") -> None:
    async def are_listed() -> bool:
        return await listed(client, query) == run_ids

    await eventually(are_listed)


async def test_a_server_that_is_away_is_said_to_be(idle_stack: Stack) -> None:
    away = await connect(
        f"127.0.0.1:{idle_stack.ports['api']}",  # nobody listens there
        "x",
        converter_for_tests(),
        program="test",
        lazy=True,
        patience=timedelta(milliseconds=200),
    )
    with pytest.raises(Unavailable):
        await HistoryExpiry(away).expire()


async def test_ended_maintenance_goes_and_all_else_stays(client: Client) -> None:
    # The next of the same id must survive the deletion of the one before.
    before = await execution(client, Kind.MAINTENANCE, workflow_id="schedule/again")
    present = await execution(client, Kind.MAINTENANCE, workflow_id="schedule/again", ended=False)
    others = {await execution(client, kind) for kind in (Kind.PIPELINE_RUN, Kind.PUSH)}
    await until_listed(client, {before, *others}, "ExecutionStatus != 'Running'")

    await HistoryExpiry(client).expire()
    assert await listed(client) == {before, present, *others}  # it ended less than an hour ago

    for _ in range(2):
        await HistoryExpiry(client, maintenance_kept=AT_ONCE).expire()
        await until_listed(client, {present, *others})
    assert (await client.get_workflow_handle("schedule/again").describe()).run_id == present


async def test_a_round_is_bounded_and_the_next_goes_on(client: Client) -> None:
    ended = {await execution(client, Kind.MAINTENANCE) for _ in range(5)}
    await until_listed(client, ended, "ExecutionStatus != 'Running'")
    expiry = HistoryExpiry(client, maintenance_kept=AT_ONCE, deleted_at_once=2)
    for left in (3, 1, 0):
        await expiry.expire()

        async def are_left(left: int = left) -> bool:
            return len(await listed(client)) == left

        await eventually(are_left)


async def test_two_workers_at_the_same_work_do_not_mind_each_other(client: Client) -> None:
    ended = {await execution(client, Kind.MAINTENANCE) for _ in range(3)}
    await until_listed(client, ended, "ExecutionStatus != 'Running'")
    rounds = [HistoryExpiry(client, maintenance_kept=AT_ONCE).expire() for _ in range(4)]
    await asyncio.gather(*rounds)
    await until_listed(client, set())
