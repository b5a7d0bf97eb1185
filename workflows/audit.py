"""Checkpoints of the audit log, every hour and on demand."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.audit import AuditActivities
from domain.audit.messages import MadeCheckpoint
from temporal.names import AUDIT_CHECKPOINT_WORKFLOW


@workflow.defn(name=AUDIT_CHECKPOINT_WORKFLOW)
class AuditCheckpointWorkflow:
    """Signs where the audit log stands and keeps that outside the database. Takes no input."""

    @workflow.run
    async def run(self) -> MadeCheckpoint:
        """One checkpoint; those that an earlier run signed and could not keep are kept too."""
        made = await workflow.execute_activity_method(
            AuditActivities.make_checkpoint,
            start_to_close_timeout=timedelta(minutes=10),  # it looks at every row of an hour
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=5),  # the schedule comes again
        )
        await workflow.execute_activity_method(
            AuditActivities.publish_checkpoints,
            start_to_close_timeout=timedelta(minutes=30),
            heartbeat_timeout=timedelta(seconds=10),
            # Until the object store is back; the limit of the execution ends it, and the next run goes on.
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
        )
        return made
