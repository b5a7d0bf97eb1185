"""Runs as a whole: their workspace, their end, and the repair of what a crash left behind."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.pipelines.artifacts import ArtifactExpiry
from activities.pipelines.logs import LogPumps
from adapters.bus.base import Bus, run_channel
from adapters.repositories.base import Repositories
from adapters.sandbox.base import Sandboxes
from database.engine import Database
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.runs import (
    ended_runs,
    move_run,
    project_name_of,
    run_by_id,
    running_runs,
    set_waiting_for,
    uncancelled_runs,
    unstarted_runs,
)
from database.store.pipelines.steps import cancel_unended_steps, skip_steps, steps_of
from domain.actors import Actor
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.messages import (
    FinishRunInput,
    PipelineRunInput,
    PrepareRunInput,
    PrepareRunResult,
    RunsToRepair,
    SetWaitingInput,
    SkipStepsInput,
    StopRunInput,
)
from domain.pipelines.outline import StepOutline
from domain.pipelines.plan import Plan, PlannedStep
from domain.pipelines.status import RUN_ENDED, RunStatus, StepStatus

# A start, a cancellation or an end takes milliseconds; after so long something went missing.
MISSING_AFTER_SECONDS = 15.0
REPAIR_AT_ONCE = 200


class OpenWorkflows(Protocol):
    """Asks Temporal whether a workflow still works on something."""

    async def is_open(self, workflow_id: str) -> bool:
        """``False`` if it ended in any way or never was."""
        ...


@dataclass(frozen=True)
class RunActivities:
    """Activities of ``PipelineRunWorkflow`` and of the repair schedules. Every one can be repeated at any point."""

    database: Database
    repositories: Repositories
    sandboxes: Sandboxes
    bus: Bus
    logs: LogPumps
    expiry: ArtifactExpiry
    workflows: OpenWorkflows

    @activity.defn(name="prepare_run")
    async def prepare_run(self, order: PrepareRunInput) -> PrepareRunResult:
        """Moves the run to ``running`` and fills its workspace with the commit.

        Returns:
            The outline of the steps; or, for a run that has ended or is to be cancelled, that status alone.

        Raises:
            NotFound: The run or its commit is gone.
        """
        async with self.database.transaction() as session:
            run = await run_by_id(session, order.run_id)
            steps = await steps_of(session, order.run_id)
            status = RunStatus(run.status)
            if run.cancel_requested_at is not None and status not in RUN_ENDED:
                return PrepareRunResult(status=RunStatus.CANCELLED)
            if status in RUN_ENDED:
                return PrepareRunResult(status=status)
            await move_run(session, run.id, RunStatus.RUNNING)
        await self.bus.publish(run_channel(run.id))
        async with heartbeating():
            await self._fill_workspace(run)
        return PrepareRunResult(
            status=RunStatus.RUNNING,
            steps=tuple(_outline(step) for step in steps),
            statuses={step.name: StepStatus(step.status) for step in steps},
            timeout_seconds=Plan.model_validate(run.plan).timeout_seconds,
        )

    async def _fill_workspace(self, run: Pipeline) -> None:
        if await self.sandboxes.workspace_ready(run.id):
            return
        workspace = await self.sandboxes.create_workspace(run.id)
        await self.repositories.checkout(run.project_id, run.commit_sha or "", workspace)
        await self.sandboxes.hand_over_workspace(run.id)

    @activity.defn(name="skip_steps")
    async def skip_steps(self, order: SkipStepsInput) -> None:
        """Records steps that will not run, with the reason of each."""
        async with self.database.transaction() as session:
            await skip_steps(session, order.reasons)
        await self.bus.publish(run_channel(order.run_id))

    @activity.defn(name="stop_run")
    async def stop_run(self, order: StopRunInput) -> None:
        """Kills every sandbox of the run, also one that is only about to start."""
        async with heartbeating():
            await self.sandboxes.kill_run(order.run_id)

    @activity.defn(name="finish_run")
    async def finish_run(self, order: FinishRunInput) -> None:
        """Records the end, then removes workspace and sandboxes; nothing of the run is left on this host."""
        async with heartbeating():
            await self.sandboxes.kill_run(order.run_id)
            await self._finish_logs(order.run_id)
            async with self.database.transaction() as session:
                reason = order.error or f"the run ended as {order.status.value} before"
                await cancel_unended_steps(session, order.run_id, reason)
                await move_run(session, order.run_id, order.status, error=order.error)
            await self.bus.publish(run_channel(order.run_id))
            await self.sandboxes.destroy_run(order.run_id)

    async def _finish_logs(self, run_id: UUID) -> None:
        """Compacts what a step that could not finish itself has left; normally nothing."""
        async with self.database.transaction() as session:
            steps = await steps_of(session, run_id)
        for step in steps:
            if step.log_ref is None and step.log_size_bytes > 0:
                await self.logs.compact(step)

    @activity.defn(name="runs_to_repair")
    async def runs_to_repair(self) -> RunsToRepair:
        """Looks for runs that a crash left between commit and start, or between two words to Temporal."""
        async with self.database.transaction() as session:
            unstarted = await unstarted_runs(session, older_than_seconds=MISSING_AFTER_SECONDS, limit=REPAIR_AT_ONCE)
            uncancelled = await uncancelled_runs(
                session, older_than_seconds=MISSING_AFTER_SECONDS, limit=REPAIR_AT_ONCE
            )
            running = await running_runs(session, older_than_seconds=MISSING_AFTER_SECONDS, limit=REPAIR_AT_ONCE)
            start = []
            for run in unstarted:
                project = await project_name_of(session, run.project_id)
                actor = Actor.model_validate(run.actor)
                start.append(PipelineRunInput(run_id=run.id, actor=actor, project=project, git_ref=run.git_ref))
        cancel = [run.id for run in uncancelled if await self.workflows.is_open(pipeline_run_workflow_id(run.id))]
        for run in running:
            if not await self.workflows.is_open(pipeline_run_workflow_id(run.id)):
                await self._close_abandoned(run)
        return RunsToRepair(start=tuple(start), cancel=tuple(cancel))

    async def _close_abandoned(self, run: Pipeline) -> None:
        """Somebody terminated the workflow, or its history is gone: the row must not say ``running`` for ever."""
        await self.sandboxes.kill_run(run.id)
        error = "Its workflow was terminated outside Perdure; what was logged until then is kept. Run it again."
        async with self.database.transaction() as session:
            await cancel_unended_steps(session, run.id, error)
            await move_run(session, run.id, RunStatus.ERROR, error=error)
        await self.bus.publish(run_channel(run.id))

    @activity.defn(name="remove_leftovers")
    async def remove_leftovers(self) -> None:
        """Removes from this host the workspaces and sandboxes of runs that have ended or are gone."""
        async with heartbeating():
            present = await self.sandboxes.run_ids()
            async with self.database.transaction() as session:
                left = await ended_runs(session, present)
            for run_id in left:
                await self.sandboxes.destroy_run(run_id)

    @activity.defn(name="expire")
    async def expire(self) -> None:
        """Removes artifacts past their date, and objects that no row refers to."""
        async with heartbeating():
            await self.expiry.expire()

    @activity.defn(name="set_waiting_for")
    async def set_waiting_for(self, order: SetWaitingInput) -> None:
        """Says, for a person, what the run waits for."""
        async with self.database.transaction() as session:
            await set_waiting_for(session, order.run_id, order.waiting_for)
        await self.bus.publish(run_channel(order.run_id))


def _outline(step: PipelineStep) -> StepOutline:
    planned = PlannedStep.model_validate(step.spec)
    return StepOutline(
        id=step.id,
        name=step.name,
        depends_on=planned.depends_on,
        run_on=planned.run_on,
        failure_ignored=planned.failure_ignored,
        retry=planned.retry,
        timeout_seconds=planned.timeout_seconds,
    )
