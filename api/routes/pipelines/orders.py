"""What a caller may order of runs: start, cancel, repeat. Each commits first and speaks to Temporal afterwards.

So a crash or an outage between the two loses nothing: the schedule ``repair-runs`` finds rows whose workflow was never
started, and cancellations that their workflow was never told.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from adapters.bus.base import run_channel
from api.services import Services
from database.engine import Session
from database.models.pipelines import Pipeline
from database.store.pipelines.cancelling import cancel_unstarted
from database.store.pipelines.runs import CreatedRun, NewRun, create_run, request_cancel
from domain.actors import Actor
from domain.errors import Conflict
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.messages import PipelineRunInput
from domain.pipelines.plan import Plan
from domain.pipelines.status import RunStatus
from temporal.names import EXECUTION_QUEUE, PIPELINE_RUN_WORKFLOW, pipeline_run_attributes

# A healthy server answers in milliseconds; the caller should not wait long to hear that the run waits.
TEMPORAL_TIMEOUT = timedelta(seconds=3)
WAITING_NOTE = "Temporal does not answer; the run is kept and starts by itself when it is back."

_log = logging.getLogger(__name__)


async def start_workflow(services: Services, order: PipelineRunInput) -> bool:
    """Starts the workflow of a committed run; one that has started already is left alone.

    Returns:
        ``False`` if Temporal is away: the repair schedule will start it.
    """
    try:
        await services.temporal.start_workflow(
            PIPELINE_RUN_WORKFLOW,
            order,
            id=pipeline_run_workflow_id(order.run_id),
            task_queue=EXECUTION_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=pipeline_run_attributes(order.project, order.git_ref, order.actor.name),
            rpc_timeout=TEMPORAL_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return True
    except (RPCError, RuntimeError) as error:  # RuntimeError is how a client that connects late says: unreachable.
        _log.warning("run %s was not started, the repair schedule will do it: %s", order.run_id, error)
        return False
    return True


@dataclass(frozen=True, slots=True)
class MadeRun:
    """A run that is about to be committed, and what its workflow starts with."""

    created: CreatedRun
    order: PipelineRunInput


async def make_runs(session: Session, project: str, new: Sequence[NewRun]) -> list[MadeRun]:
    """Makes the rows of runs in the caller's transaction; ``start_runs`` comes after the commit."""
    made = []
    for run in new:
        created = await create_run(session, run)
        order = PipelineRunInput(run_id=created.run_id, actor=run.actor, project=project, git_ref=run.git_ref)
        made.append(MadeRun(created, order))
    return made


async def start_runs(services: Services, made: Sequence[MadeRun]) -> bool:
    """Starts the workflows of runs that were just committed.

    Returns:
        ``False`` if Temporal is away, so that some of them wait.
    """
    started = True
    for run in made:
        await services.bus.publish(run_channel(run.created.run_id))
        if run.created.status is RunStatus.PENDING and started:
            started = await start_workflow(services, run.order)
    return started


def repeat_of(actor: Actor, run: Pipeline) -> NewRun:
    """A new run with the plan, commit and variables of an older one.

    Raises:
        Conflict: The older one has no plan because its file is invalid.
    """
    if run.plan is None:
        raise Conflict(
            f"Run #{run.number} cannot run again: {run.config_path} is not valid at this commit. "
            "Correct the file and push; that starts a new run.",
            code="run_has_no_plan",
        )
    return NewRun(
        project_id=run.project_id,
        actor=actor,
        trigger="api",
        git_ref=run.git_ref,
        commit_sha=run.commit_sha or "",
        commit_title=run.commit_title or "",
        config_path=run.config_path,
        name=run.name,
        plan=Plan.model_validate(run.plan),
        variables=run.variables,
        rerun_of=run.id,
    )


async def cancel_run(services: Services, actor: Actor, run: Pipeline, reason: str | None) -> None:
    """Cancels a run: notes it with its audit row, then tells the workflow.

    Raises:
        Conflict: The run has ended already.
    """
    async with services.database.transaction() as session:
        noted = await request_cancel(session, actor, run, reason)
    if not noted:
        raise Conflict(f"Run #{run.number} has ended already; there is nothing to cancel.", code="run_ended")
    if not await _tell_workflow(services, run.id):
        async with services.database.transaction() as session:
            await cancel_unstarted(session, run.id)
    await services.bus.publish(run_channel(run.id))


async def _tell_workflow(services: Services, run_id: UUID) -> bool:
    """Returns ``False`` where Temporal says that there is no such workflow running."""
    handle = services.temporal.get_workflow_handle(pipeline_run_workflow_id(run_id))
    try:
        await handle.cancel(rpc_timeout=TEMPORAL_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        _log.warning("run %s was not told of its cancellation, the repair schedule will do it: %s", run_id, error)
    except RuntimeError as error:  # As above.
        _log.warning("run %s was not told of its cancellation, the repair schedule will do it: %s", run_id, error)
    return True
