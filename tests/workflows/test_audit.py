"""The checkpoint workflow on a real Temporal: with real activities, and failing at each of them."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.audit import AuditActivities
from adapters.objects.base import checkpoint_key
from adapters.objects.memory import MemoryObjects
from cli.audit_live import verify_live
from database.engine import Database
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.audit.messages import MadeCheckpoint, PublishedCheckpoints
from domain.errors import Conflict, Unavailable
from tests.support.audit import SIGNING_KEY
from tests.support.temporal import working
from workflows.audit import AuditCheckpointWorkflow


class FakeCheckpoints:
    """Fails as it is told, then makes and publishes."""

    def __init__(self, *, making: list[Exception] | None = None, publishing: list[Exception] | None = None) -> None:
        self.making, self.publishing = making or [], publishing or []
        self.made, self.published = 0, 0

    @activity.defn(name="make_checkpoint")
    async def make_checkpoint(self) -> MadeCheckpoint:
        if self.making:
            raise self.making.pop(0)
        self.made += 1
        return MadeCheckpoint(number=self.made, at=datetime(2026, 1, 2, tzinfo=UTC), rows=3)

    @activity.defn(name="publish_checkpoints")
    async def publish_checkpoints(self) -> PublishedCheckpoints:
        if self.publishing:
            raise self.publishing.pop(0)
        self.published += 1
        return PublishedCheckpoints(numbers=(self.made,))


async def run(client: Client, activities: FakeCheckpoints | AuditActivities) -> MadeCheckpoint:
    served = [activities.make_checkpoint, activities.publish_checkpoints]
    async with working(client, workflows=[AuditCheckpointWorkflow], activities=served) as [worker]:
        return await client.execute_workflow(
            AuditCheckpointWorkflow.run, id=f"audit-checkpoint/{uuid4()}", task_queue=worker.task_queue
        )


async def test_a_log_that_was_tampered_with_fails_the_workflow_at_once(temporal_client: Client) -> None:
    fake = FakeCheckpoints(making=[Conflict("The audit log was tampered with.", code="audit_log_damaged")])
    with pytest.raises(WorkflowFailureError) as failed:
        await run(temporal_client, fake)
    cause = failed.value.cause.__cause__
    assert isinstance(cause, ApplicationError)
    assert "tampered" in str(cause)
    assert (fake.made, fake.published) == (0, 0)


@pytest.mark.parametrize("where", ["making", "publishing"])
async def test_an_outage_in_either_step_is_waited_for(temporal_client: Client, where: str) -> None:
    away = [Unavailable("away", neighbour="objects")]
    fake = FakeCheckpoints(**{where: away})  # type: ignore[arg-type]  # one of its two keywords
    assert (await run(temporal_client, fake)).rows == 3
    assert (fake.made, fake.published) == (1, 1)


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


async def test_a_checkpoint_is_signed_and_kept(
    temporal_client: Client, database: Database, objects: MemoryObjects
) -> None:
    async with database.transaction() as session:
        await record(session, Actor(user_id=UUID(int=5), name="ada"), AuditAction.TEAM_UPDATE, "test", None)
    made = await run(temporal_client, AuditActivities(database, objects, SIGNING_KEY))
    assert (made.number, made.rows) == (1, 1)
    assert await objects.list_keys(checkpoint_key()) == [checkpoint_key(1)]
    report = await verify_live(database, objects, SIGNING_KEY.public.is_signed)
    assert (report.problems, report.signed_rows) == ((), 1)
