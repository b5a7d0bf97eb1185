"""One attempt of a step: start or re-attach, watch, keep its log and artifacts, record its end (promises D2, D3)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from temporalio import activity

from activities.access.standing import ask_again, transaction_while_allowed
from activities.heartbeat import heartbeating
from activities.pipelines.artifacts import ArtifactCollector, Collected
from activities.pipelines.logs import LogPump, LogPumps
from activities.pipelines.policy import StepPolicy
from adapters.bus.base import Bus, run_channel
from adapters.sandbox.base import Sandboxes, SandboxSpec, SandboxState
from database.engine import Database
from database.models.pipelines import Pipeline, PipelineStep
from database.store.pipelines.logs import LogPosition, begin_attempt_log, log_position
from database.store.pipelines.steps import begin_attempt, end_step, note_attempt_end, step_with_run
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.ids import sandbox_id
from domain.pipelines.messages import RunStepInput, RunStepResult
from domain.pipelines.outcome import Judgement, judge, judge_lost
from domain.pipelines.outline import retry_delay
from domain.pipelines.plan import PlannedStep
from domain.pipelines.status import STEP_ENDED, StepCause, StepStatus

# The sandbox wakes the watcher on output and at its end; this is only how often an idle one looks up.
WATCH_SECONDS = 5.0
CANCEL_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class _Attempt:
    """What one call of ``run_step`` works on."""

    run: Pipeline
    step: PipelineStep
    planned: PlannedStep
    project: str
    number: int
    log_at: LogPosition

    @property
    def sandbox_id(self) -> str:
        return sandbox_id(self.step.id, self.number)


@dataclass(frozen=True)
class StepActivities:
    """Runs steps. A worker may die at any instant: the next call with the same input goes on where it was."""

    database: Database
    sandboxes: Sandboxes
    bus: Bus
    logs: LogPumps
    artifacts: ArtifactCollector
    policy: StepPolicy

    @activity.defn(name="run_step")
    async def run_step(self, order: RunStepInput) -> RunStepResult:
        """Runs one attempt to its end.

        The sandbox is never killed from here: a cancelled or dying worker leaves it to the next one, and a cancelled
        run kills it through ``stop_run``.

        Raises:
            RightLost: Whoever started the run may not do so any more; the attempt was not begun.
        """
        async with heartbeating():
            attempt = await self._begin(order)
            if isinstance(attempt, RunStepResult):
                return attempt
            await self.sandboxes.start(self._spec(attempt))
            pump = await self.logs.attach(
                attempt.run, attempt.step.id, attempt.number, attempt.sandbox_id, at=attempt.log_at
            )
            state = await self._watch(pump, attempt.sandbox_id)
            return await self._end(attempt, pump, state)

    async def _begin(self, order: RunStepInput) -> _Attempt | RunStepResult:
        async with transaction_while_allowed(self.database) as session:
            begun = await begin_attempt(session, order.step_id, order.attempt)
            step, run, project = await step_with_run(session, order.step_id)
            if StepStatus(step.status) in STEP_ENDED:
                return _recorded(step)
            planned = PlannedStep.model_validate(step.spec)
            if begun:
                actor = order.actor or Actor.model_validate(run.actor)
                await ask_again(session, actor, Permission.PIPELINE_RUN, run.project_id)
                header = _header(planned, order, self.sandboxes.runs_images)
                await begin_attempt_log(session, step.id, header)
            log_at = await log_position(session, step.id)
        if begun:
            await self.bus.publish(run_channel(run.id))
        return _Attempt(run=run, step=step, planned=planned, project=project, number=order.attempt, log_at=log_at)

    def _spec(self, attempt: _Attempt) -> SandboxSpec:
        planned = attempt.planned
        return SandboxSpec(
            id=attempt.sandbox_id,
            run_id=attempt.run.id,
            image=planned.image or "",
            commands=planned.commands,
            env=self.policy.env_for(attempt.project, attempt.run, planned, attempt.number),
            limits=self.policy.limits_for(planned),
            network=attempt.project in self.policy.network_projects,
        )

    async def _watch(self, pump: LogPump, sandbox: str) -> SandboxState:
        while True:
            state = await self.sandboxes.wait(sandbox, log_offset=pump.sandbox_offset, timeout_seconds=WATCH_SECONDS)
            if state.phase in ("ended", "lost"):
                return state
            await pump.advance()

    async def _end(self, attempt: _Attempt, pump: LogPump, state: SandboxState) -> RunStepResult:
        judged = judge_lost(state.reason) if state.outcome is None else judge(state.outcome)
        exit_code = None if state.outcome is None else state.outcome.exit_code
        notes: list[str] = []
        if judged.status in (StepStatus.SUCCESS, StepStatus.FAILURE):
            judged, notes = await self._collect(attempt, judged)
        if judged.reason is not None:
            notes.append(f"perdure: {judged.reason}")
        delay = retry_delay(attempt.planned.retry, judged.cause, exit_code, attempt.number)
        if delay is not None:
            await pump.drain()
            async with self.database.transaction() as session:
                await note_attempt_end(
                    session, attempt.step.id, attempt.number, cause=judged.cause, reason=judged.reason
                )
        else:
            log = await pump.finish(notes)
            async with self.database.transaction() as session:
                await log.record(session)
                await end_step(
                    session,
                    attempt.step.id,
                    judged.status,
                    cause=judged.cause,
                    reason=judged.reason,
                    exit_code=exit_code,
                )
            await log.clean_up()
        await self.bus.publish(run_channel(attempt.run.id))
        return RunStepResult(
            status=judged.status,
            cause=judged.cause,
            exit_code=exit_code,
            reason=judged.reason,
            retry_after_seconds=delay,
        )

    async def _collect(self, attempt: _Attempt, judged: Judgement) -> tuple[Judgement, list[str]]:
        """Stores the artifacts; a step that succeeded but whose artifacts were refused has failed."""
        if not attempt.planned.artifacts:
            return judged, []
        collected = await self._collected(attempt)
        if collected is None:
            return Judgement(
                StepStatus.CANCELLED, StepCause.CANCELLED, "cancelled before its artifacts were stored"
            ), []
        if collected.refused and judged.status is StepStatus.SUCCESS:
            judged = Judgement(StepStatus.FAILURE, StepCause.ARTIFACT, _refusal(collected.refused))
        return judged, list(collected.messages)

    async def _collected(self, attempt: _Attempt) -> Collected | None:
        """Stores the artifacts, which can take long; ``None`` if the run was cancelled meanwhile (promise D9)."""
        workspace = self.sandboxes.workspace_path(attempt.run.id)
        collecting = asyncio.create_task(
            self.artifacts.collect(attempt.run, attempt.step.id, attempt.planned.artifacts, workspace)
        )
        try:
            while True:
                done, _ = await asyncio.wait({collecting}, timeout=CANCEL_LOOK_SECONDS)
                if done:
                    return collecting.result()
                if await self.sandboxes.is_run_killed(attempt.run.id):
                    return None
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)


def _refusal(refused: Sequence[str]) -> str:
    """Names one itself: where a retry follows, the reason is all that the log says of the attempt before."""
    more = len(refused) - 1
    return f"artifact {refused[0]}" + (f"; and {more} more" if more else "")


def _recorded(step: PipelineStep) -> RunStepResult:
    return RunStepResult(
        status=StepStatus(step.status),
        cause=None if step.cause is None else StepCause(step.cause),
        exit_code=step.exit_code,
        reason=step.reason,
    )


def _header(planned: PlannedStep, order: RunStepInput, runs_images: bool) -> str:
    """What the platform itself says in the log before an attempt's own output."""
    lines = []
    if order.attempt > 1:
        lines.append(f"perdure: attempt {order.attempt}, because the one before ended: {order.previous}")
    elif planned.image and not runs_images:
        lines.append(f"perdure: no containers here; instead of {planned.image} this host's programs are used")
    return "".join(f"\x1b[2m{line}\x1b[0m\n" for line in lines)
