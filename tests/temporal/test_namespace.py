import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client

from deploy.local.temporal import Temporal
from domain.errors import Conflict, NotFound, Unavailable
from temporal.client import connect, translated_errors
from temporal.executions import Executions
from temporal.names import (
    KEYWORD_LENGTH_MAX,
    PERDURE_HEALTH,
    PERDURE_LAST_ERROR,
    PERDURE_PROJECT,
    SEARCH_ATTRIBUTES,
    Health,
    keyword,
    pipeline_run_attributes,
)
from temporal.namespace import ensure_namespace
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.temporal import converter_for_tests, working
from tests.temporal.exercises import AilingExercise, Order


async def client_of(temporal: Temporal, namespace: str) -> Client:
    return await connect(temporal.address, namespace, converter_for_tests(), program="test")


async def test_an_attribute_of_another_type_is_explained(temporal_server: Temporal) -> None:
    client = await client_of(temporal_server, "default")
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace="default",
            search_attributes={PERDURE_PROJECT.name: IndexedValueType.INDEXED_VALUE_TYPE_INT},
        )
    )
    with pytest.raises(Conflict, match=r"PerdureProject.*must be a keyword.*temporal operator search-attribute remove"):
        await ensure_namespace(client)


async def test_a_missing_namespace_is_made_with_its_attributes_by_several_at_once(temporal_server: Temporal) -> None:
    namespace = f"made-{uuid4()}"
    clients = [await client_of(temporal_server, namespace) for _ in range(3)]
    await asyncio.gather(*(ensure_namespace(client) for client in clients))
    await ensure_namespace(clients[0])
    answer = await clients[0].operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    assert {key.name for key in SEARCH_ATTRIBUTES} <= set(answer.custom_attributes)


async def test_runs_are_found_by_project_and_health(temporal_client: Client) -> None:
    project = f"ada/{uuid4()}"
    async with working(temporal_client, workflows=[AilingExercise]) as [worker]:
        handle = await temporal_client.start_workflow(
            AilingExercise.run,
            Order(what="build: exit code 137"),
            id=str(uuid4()),
            task_queue=worker.task_queue,
            search_attributes=pipeline_run_attributes(project, "refs/heads/main", "ada"),
        )

        async def health() -> tuple[str | None, str | None]:
            found = [
                (one.typed_search_attributes.get(PERDURE_HEALTH), one.typed_search_attributes.get(PERDURE_LAST_ERROR))
                async for one in temporal_client.list_workflows(f"PerdureProject = '{project}'")
            ]
            return found[0] if found else (None, None)

        async def ailing() -> bool:
            return await health() == (Health.RETRYING, "build: exit code 137")

        async def well() -> bool:
            return await health() == (Health.OK, None)

        await eventually(ailing)
        assert await Executions(temporal_client).state(handle.id) == "open"
        await handle.signal(AilingExercise.recover)
        await handle.result()
        await eventually(well)
    assert await Executions(temporal_client).state(handle.id) == "ended"
    assert await Executions(temporal_client).state(str(uuid4())) == "absent"


def test_keywords_are_one_line_and_short_enough_for_the_store() -> None:
    assert keyword("a\n  b\tc") == "a b c"
    cut = keyword("ä" * 1000)
    assert len(cut) == KEYWORD_LENGTH_MAX
    assert cut.endswith("…")


def test_empty_attributes_stay_unset() -> None:
    assert pipeline_run_attributes("", "", "").get(PERDURE_PROJECT) is None


async def test_a_workflow_that_is_not_there_is_not_found(temporal_client: Client) -> None:
    with pytest.raises(NotFound), translated_errors():
        await temporal_client.get_workflow_handle(str(uuid4())).describe()


async def test_a_server_that_is_away_is_unavailable_soon(idle_stack: Stack) -> None:
    def address() -> str:
        return f"127.0.0.1:{idle_stack.ports['api']}"  # nobody listens there

    with pytest.raises(Unavailable, match="Temporal does not answer"):
        await connect(address(), "x", converter_for_tests(), program="test", patience=timedelta(milliseconds=200))
    lazy = await connect(
        address(), "x", converter_for_tests(), program="test", lazy=True, patience=timedelta(milliseconds=200)
    )
    for _ in range(2):
        with pytest.raises(Unavailable), translated_errors():
            await lazy.start_workflow("Any", id="x", task_queue="x")


async def test_bugs_are_not_mistaken_for_an_outage() -> None:
    with pytest.raises(NotImplementedError), translated_errors():
        raise NotImplementedError
