"""Runs as a whole: their workspace, their end, and the repair of what a crash left behind."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol
from uuid import UUID

from temporalio import activity

from activities.access.standing import ask_again, transaction_while_allowed
from activities.heartbeat import heartbeating
from activities.pipelines.artifacts import ArtifactExpiry
from activities.pipelines.logs import LogPumps
from adapters.bus.base import Bus, run_channel
from adapters.repositories.base import Repositories
from adapters.repositories.git_process import GitFailed
from adapters.sandbox.base import Sandboxes
from database.engine import Database
from database.models.pipelines import Pipeline, PipelineStep
from database.store.access.expiry import expire_access
from database.store.pipelines.logs import log_position, open_at_end
from database.store.pipelines.runs import (
    ended_runs,
    move_run,
    run_by_id,
    running_runs,
    set_waiting_for,
    status_of,
    uncancelled_runs,
    unstarted_runs,
)
from database.store.pipelines.steps import cancel_unended_steps, skip_steps, step_by_id, steps_of
from database.store.projects import full_name_of
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.errors import NotFound, PerdureError, Unavailable
from domain.ids import pipeline_run_workflow_id, sandbox_id
from domain.pipelines.messages import (
    FinishRunInput,
    PipelineRunInput,
    PipelineRunResult,
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

logger = logging.getLogger(__name__)

# A start, a cancellation or an end takes milliseconds; after so long something went missing.
MISSING_AFTER = timedelta(seconds=15)
REPAIR_AT_ONCE = 200


# A checkout of this much takes well under a second.
MOMENTS_SIZE_BYTES_MAX = 32 * 1024**2


class TakesLonger(PerdureError):
    """Too much for a workflow task to wait for; ordered again as an activity of its own."""

    code = "takes_longer"


class WorkflowStates(Protocol):
    """Asks Temporal whether a workflow still works on something."""

    async def state(self, workflow_id: str) -> Literal["open", "ended", "absent"]:
        """``ended`` in whatever way; ``absent`` if it never was, or so long ago that Temporal forgot it."""
        ...


class HistoryExpiry(Protocol):
    """Knows what Temporal need not keep any longer."""

    async def expire(self) -> None:
        """Removes it, at most so much that it takes a few minutes.

        Raises:
            domain.errors.Unavailable: The rest is done next time.
        """
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
    workflows: WorkflowStates
    histories: HistoryExpiry

    @activity.defn(name="prepare_run")
    async def prepare_run(self, order: PrepareRunInput) -> PrepareRunResult:
        """Moves the run to ``running`` and fills its workspace with the commit.

        Returns:
            The outline of the steps; or, for a run that has ended or is to be cancelled, that status alone.

        Raises:
            NotFound: The run or its commit is gone.
            RightLost: Whoever started the run may not do so any more.
            TakesLonger: As a local activity: its checkout is not a matter of moments.
        """
        async with transaction_while_allowed(self.database) as session:
            run = await run_by_id(session, order.run_id)
            steps = await steps_of(session, order.run_id)
            status = RunStatus(run.status)
            if run.cancel_requested_at is not None and status not in RUN_ENDED:
                return PrepareRunResult(status=RunStatus.CANCELLED)
            if status in RUN_ENDED:
                return PrepareRunResult(status=status)
            actor = order.actor or Actor.model_validate(run.actor)
            if activity.info().is_local:
                await self._expect_moments(run.project_id)
            await ask_again(session, actor, Permission.PIPELINE_RUN, run.project_id)
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

    async def _expect_moments(self, project_id: UUID) -> None:
        if await self.repositories.packed_size_bytes(project_id) > MOMENTS_SIZE_BYTES_MAX:
            raise TakesLonger("The repository is large; its checkout is an activity of its own.")

    async def _fill_workspace(self, run: Pipeline) -> None:
        if await self.sandboxes.workspace_ready(run.id):
            return
        workspace = await self.sandboxes.create_workspace(run.id)
        try:
            await self.repositories.checkout(run.project_id, run.commit_sha or "", workspace)
        except GitFailed as error:
            if await self._has_commit(run):
                raise
            raise NotFound(
                f"The commit {run.commit_sha} is no longer in the repository: its branch was moved or deleted. "
                "Push it again and start a new run."
            ) from error
        await self.sandboxes.hand_over_workspace(run.id)

    async def _has_commit(self, run: Pipeline) -> bool:
        async with self.repositories.reader(run.project_id) as reader:
            return await reader.commit(run.commit_sha or "") is not None

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
    async def finish_run(self, order: FinishRunInput) -> PipelineRunResult:
        """Records the end, then removes workspace and sandboxes; nothing of the run is left on this host.

        Returns:
            How the run ended: otherwise than ordered, if an end was recorded before.
        """
        reason = order.error or f"the run ended as {order.status.value} before"
        async with heartbeating():
            await self.sandboxes.kill_run(order.run_id)
            await self._finish_logs(order.run_id, reason)
            async with self.database.transaction() as session:
                await cancel_unended_steps(session, order.run_id, reason)
                moved = await move_run(session, order.run_id, order.status, error=order.error)
                ended = None if moved else await status_of(session, order.run_id)
            await self.bus.publish(run_channel(order.run_id))
            await self.sandboxes.destroy_run(order.run_id)
        return PipelineRunResult(status=ended or order.status)

    async def _finish_logs(self, run_id: UUID, reason: str) -> None:
        """Takes and closes what steps that could not finish themselves have left; normally nothing."""
        for step_id in await open_at_end(self.database, run_id):
            async with self.database.transaction() as session:
                step = await step_by_id(session, step_id)
            if StepStatus(step.status) is StepStatus.RUNNING:
                await self._finish_log(step, f"perdure: {reason}")
            else:
                await self.logs.compact(step)

    async def _finish_log(self, step: PipelineStep, note: str) -> None:
        async with self.database.transaction() as session:
            run = await run_by_id(session, step.pipeline_id)
            at = await log_position(session, step.id)
        if at.is_closed:
            return
        pump = await self.logs.attach(run, step.id, step.attempt, sandbox_id(step.id, step.attempt), at=at)
        log = await pump.finish([note])
        async with self.database.transaction() as session:
            await log.record(session)
        await log.clean_up()

    @activity.defn(name="runs_to_repair")
    async def runs_to_repair(self) -> RunsToRepair:
        """Looks for runs that a crash left between commit and start, or between two words to Temporal."""
        async with self.database.transaction() as session:
            unstarted = await unstarted_runs(session, older_than=MISSING_AFTER, limit=REPAIR_AT_ONCE)
            uncancelled = await uncancelled_runs(session, older_than=MISSING_AFTER, limit=REPAIR_AT_ONCE)
            running = await running_runs(session, older_than=MISSING_AFTER, limit=REPAIR_AT_ONCE)
        start = []
        for run in unstarted:
            state = await self._workflow_state(run)
            if state == "absent":
                start.append(await self._start_order(run))
            elif state == "ended":
                await self._close_abandoned(run)
        cancel = [run.id for run in uncancelled if await self._workflow_state(run) == "open"]
        for run in running:
            if await self._workflow_state(run) != "open":
                await self._close_abandoned(run)
        return RunsToRepair(start=tuple(start), cancel=tuple(cancel))

    async def _workflow_state(self, run: Pipeline) -> Literal["open", "ended", "absent"]:
        return await self.workflows.state(pipeline_run_workflow_id(run.id))

    async def _start_order(self, run: Pipeline) -> PipelineRunInput:
        async with self.database.transaction() as session:
            project = await full_name_of(session, run.project_id)
        actor = Actor.model_validate(run.actor)
        return PipelineRunInput(run_id=run.id, actor=actor, project=project, git_ref=run.git_ref)

    async def _close_abandoned(self, run: Pipeline) -> None:
        """Somebody terminated the workflow, or its history is gone: the row must not say ``running`` for ever."""
        error = "Its workflow was terminated outside Perdure; what was logged until then is kept. Run it again."
        await self.sandboxes.kill_run(run.id)
        try:
            await self._finish_logs(run.id, error)
        except Unavailable as away:
            # The next round closes it; this one must not hold up the runs that are to be started.
            logger.warning("run %s is left to the next round: %s", run.id, away)
            return
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
        """Removes artifacts past their date, objects that no row refers to, ended sessions, old histories."""
        async with heartbeating():
            await self.expiry.expire()
            async with self.database.transaction() as session:
                await expire_access(session)
            await self.histories.expire()

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
