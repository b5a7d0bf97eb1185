"""What happens after a push: its runs become rows exactly once, and their workflows start (promise D1)."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.git import GitActivities
from domain.ids import push_workflow_id
from domain.pipelines.messages import PipelineRunInput, SettlePushInput, SettlePushResult
from domain.pipelines.status import RunStatus
from temporal.names import EXECUTION_QUEUE, MAINTAIN_REPOSITORIES_WORKFLOW, PUSH_WORKFLOW, SWEEP_PUSHES_WORKFLOW
from workflows.pipelines import HEARTBEAT_TIMEOUT, start_pipeline_run

# Until it works: the push happened, and nothing but success or a person ends the obligation.
FOR_EVER = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))


@workflow.defn(name=PUSH_WORKFLOW)
class PushWorkflow:
    """Settles one push and starts its runs. Its id is the push's, so a push is settled by one workflow at a time."""

    @workflow.run
    async def run(self, order: SettlePushInput) -> SettlePushResult:
        """Returns what the pusher's terminal is told."""
        settled = await workflow.execute_activity_method(
            GitActivities.settle_push,
            order,
            start_to_close_timeout=timedelta(minutes=2),  # reading a huge diff; normally milliseconds
            # Without it the push of a worker that died would wait for those two minutes.
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=FOR_EVER,
        )
        await asyncio.gather(
            *(
                start_pipeline_run(
                    PipelineRunInput(run_id=run.run_id, actor=run.actor, project=run.project, git_ref=run.git_ref)
                )
                for run in settled.runs
                if run.status is RunStatus.PENDING
            )
        )
        return settled


@workflow.defn(name=SWEEP_PUSHES_WORKFLOW)
class SweepPushesWorkflow:
    """Finds pushes that an API process left behind when it died, and settles them. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One sweep."""
        found = await workflow.execute_activity_method(
            GitActivities.sweep_pushes,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_attempts=3),  # the schedule comes again
        )
        for push_id in found.push_ids:
            try:
                await workflow.start_child_workflow(
                    PushWorkflow.run,
                    SettlePushInput(push_id=push_id),
                    id=push_workflow_id(push_id),
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                )
            except WorkflowAlreadyStartedError:
                workflow.logger.info("push %s is being settled already", push_id)


@workflow.defn(name=MAINTAIN_REPOSITORIES_WORKFLOW)
class MaintainRepositoriesWorkflow:
    """Keeps repositories quick to clone. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One round."""
        await workflow.execute_activity_method(
            GitActivities.maintain_repositories,
            task_queue=EXECUTION_QUEUE,
            # One repository may take an hour, and a round takes several; it beats between them only.
            start_to_close_timeout=timedelta(hours=10),
            heartbeat_timeout=timedelta(hours=2),
            retry_policy=RetryPolicy(maximum_attempts=3),  # the schedule comes again
        )
