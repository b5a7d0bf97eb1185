from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleOverlapPolicy

from temporal import names
from temporal.names import PERDURE_KIND, Kind
from temporal.schedules import PREFIX, SCHEDULES, DeclaredSchedule, reconcile
from tests.support.eventually import eventually
from tests.support.temporal import unique_queue
from worker.registry import WORKFLOWS


@pytest.fixture
def table() -> tuple[DeclaredSchedule, ...]:
    mark = f"test-{uuid4().hex[:8]}"
    return tuple(
        DeclaredSchedule(
            name=f"{mark}/{name}",
            workflow="Nothing",
            every=timedelta(hours=5),
            overlap=ScheduleOverlapPolicy.SKIP,
            catch_up=timedelta(minutes=1),
            limit=timedelta(minutes=2),
            note=f"Why {name} exists.",
            queue=unique_queue(),
        )
        for name in ("one", "two")
    )


def prefix_of(table: tuple[DeclaredSchedule, ...]) -> str:
    return table[0].id.rsplit("/", 1)[0] + "/"


async def listed(client: Client, prefix: str) -> set[str]:
    return {one.id async for one in await client.list_schedules() if one.id.startswith(prefix)}


async def test_the_table_is_brought_to_the_server_and_again_changes_nothing(
    temporal_client: Client, table: tuple[DeclaredSchedule, ...]
) -> None:
    prefix = prefix_of(table)
    assert (await reconcile(temporal_client, table, prefix=prefix)).created == tuple(row.id for row in table)
    for _ in range(2):
        again = await reconcile(temporal_client, table, prefix=prefix)
        assert (again.created, again.updated, again.deleted) == ((), (), ())
    described = await temporal_client.get_schedule_handle(table[0].id).describe()
    action = described.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.execution_timeout) == ("Nothing", timedelta(minutes=2))
    assert action.typed_search_attributes.get(PERDURE_KIND) == Kind.MAINTENANCE
    assert described.schedule.state.note == "Why one exists."


async def test_a_changed_row_is_updated_and_a_persons_pause_survives(
    temporal_client: Client, table: tuple[DeclaredSchedule, ...]
) -> None:
    prefix = prefix_of(table)
    await reconcile(temporal_client, table, prefix=prefix)
    handle = temporal_client.get_schedule_handle(table[0].id)
    await handle.pause(note="Looking into it.")
    changed = (replace(table[0], every=timedelta(hours=7), workflow="Other"), table[1])
    assert (await reconcile(temporal_client, changed, prefix=prefix)).updated == (table[0].id,)
    described = await handle.describe()
    assert [interval.every for interval in described.schedule.spec.intervals] == [timedelta(hours=7)]
    assert (described.schedule.state.paused, described.schedule.state.note) == (True, "Looking into it.")
    assert (await reconcile(temporal_client, changed, prefix=prefix)).updated == ()


async def test_a_row_that_is_gone_is_deleted_and_strangers_stay(
    temporal_client: Client, table: tuple[DeclaredSchedule, ...]
) -> None:
    prefix = prefix_of(table)
    stranger = replace(table[1], name=f"stranger-{uuid4()}")
    await reconcile(temporal_client, (*table, stranger), prefix=prefix)

    async def all_listed() -> bool:
        return await listed(temporal_client, PREFIX) >= {row.id for row in (*table, stranger)}

    await eventually(all_listed)
    assert (await reconcile(temporal_client, table[:1], prefix=prefix)).deleted == (table[1].id,)

    async def one_left() -> bool:
        return await listed(temporal_client, prefix) == {table[0].id}

    await eventually(one_left)
    await temporal_client.get_schedule_handle(stranger.id).describe()


def test_the_real_table_starts_workflows_that_exist_and_says_why() -> None:
    types = {workflow.__name__ for workflow in WORKFLOWS}
    for row in SCHEDULES:
        assert row.workflow in types
        assert row.workflow in vars(names).values()
        assert row.note.endswith(".")
        assert row.overlap is ScheduleOverlapPolicy.SKIP
        assert row.catch_up >= timedelta(seconds=10)  # the server refuses less
    assert len({row.id for row in SCHEDULES}) == len(SCHEDULES)
