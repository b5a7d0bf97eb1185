import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, UpdateNamespaceRequest
from temporalio.client import Client

from adapters.objects.memory import MemoryObjects
from deploy.local.ports import free_ports
from deploy.local.process import start
from deploy.local.temporal import Temporal
from domain.errors import Unavailable
from temporal.client import connect
from temporal.expiry import HistoryExpiry
from temporal.names import Kind, search_attributes
from temporal.namespace import RETENTION, ensure_namespace
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
        await HistoryExpiry(away, MemoryObjects()).expire()


async def test_ended_maintenance_goes_and_all_else_stays(client: Client) -> None:
    # The next of the same id must survive the deletion of the one before.
    before = await execution(client, Kind.MAINTENANCE, workflow_id="schedule/again")
    present = await execution(client, Kind.MAINTENANCE, workflow_id="schedule/again", ended=False)
    others = {await execution(client, kind) for kind in (Kind.PIPELINE_RUN, Kind.PUSH)}
    await until_listed(client, {before, *others}, "ExecutionStatus != 'Running'")

    await HistoryExpiry(client, MemoryObjects()).expire()
    assert await listed(client) == {before, present, *others}  # it ended less than an hour ago

    for _ in range(2):
        await HistoryExpiry(client, MemoryObjects(), maintenance_kept=AT_ONCE).expire()
        await until_listed(client, {present, *others})
    assert (await client.get_workflow_handle("schedule/again").describe()).run_id == present


async def test_a_round_is_bounded_and_the_next_goes_on(client: Client) -> None:
    ended = {await execution(client, Kind.MAINTENANCE) for _ in range(5)}
    await until_listed(client, ended, "ExecutionStatus != 'Running'")
    expiry = HistoryExpiry(client, MemoryObjects(), maintenance_kept=AT_ONCE, deleted_at_once=2)
    for left in (3, 1, 0):
        await expiry.expire()

        async def are_left(left: int = left) -> bool:
            return len(await listed(client)) == left

        await eventually(are_left)


async def test_two_workers_at_the_same_work_do_not_mind_each_other(client: Client) -> None:
    ended = {await execution(client, Kind.MAINTENANCE) for _ in range(3)}
    await until_listed(client, ended, "ExecutionStatus != 'Running'")
    rounds = [HistoryExpiry(client, MemoryObjects(), maintenance_kept=AT_ONCE).expire() for _ in range(4)]
    await asyncio.gather(*rounds)
    await until_listed(client, set())


def payload(days: int) -> str:
    """The key of a payload that was written so many days ago."""
    return f"payloads/{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}/{'ab' * 32}"


async def stored(*keys: str) -> MemoryObjects:
    objects = MemoryObjects()
    for key in keys:
        await objects.put(key, b"ciphertext")
    return objects


async def test_an_object_store_that_is_away_is_said_to_be(client: Client) -> None:
    objects = await stored(payload(200))
    objects.is_away = True
    with pytest.raises(Unavailable):
        await HistoryExpiry(client, objects).expire()
    objects.is_away = False
    assert await objects.list_keys("") == [payload(200)]


async def test_what_is_no_payload_stays(client: Client) -> None:
    strange = ["payloads/", "payloads/0000-00-00/x", "payloads/readme", "logs/2001-01-01/x", "payloads-2001-01-01"]
    objects = await stored(*strange, payload(10_000))
    await HistoryExpiry(client, objects).expire()
    assert await objects.list_keys("") == sorted(strange)


async def test_payloads_go_sixty_days_after_the_retention(client: Client) -> None:
    kept = [payload(0), payload(31), payload(89)]
    objects = await stored(*kept, payload(92), payload(400))
    for _ in range(2):
        await HistoryExpiry(client, objects).expire()
        assert await objects.list_keys("") == sorted(kept)


async def test_payloads_follow_the_retention_that_the_operator_has_set(client: Client) -> None:
    config = NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=365 * 86_400))
    await client.workflow_service.update_namespace(UpdateNamespaceRequest(namespace=client.namespace, config=config))
    objects = await stored(payload(420), payload(430))
    await HistoryExpiry(client, objects).expire()
    assert await objects.list_keys("") == [payload(420)]


async def test_payloads_that_an_execution_began_with_stay_as_long_as_it_does(client: Client) -> None:
    run_id = await execution(client, Kind.PIPELINE_RUN, workflow_id="test/long", ended=False)
    await until_listed(client, {run_id})
    objects = await stored(payload(0), payload(1), payload(3))
    # All that was written until tomorrow would have had its time.
    expiry = HistoryExpiry(client, objects, payloads_margin=-RETENTION - timedelta(days=2))
    await expiry.expire()
    assert await objects.list_keys("") == sorted([payload(0), payload(1)])
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id="test/long", run_id=run_id)
        )
    )
    await until_listed(client, set())
    await expiry.expire()
    assert await objects.list_keys("") == []
