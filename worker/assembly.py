"""From a registration to a polling worker: the one place where workers get their numbers.

The SDK's defaults stay where nothing spoke against them: five pollers, and activities handed out eagerly with the
answer to a workflow task, which saves a poll each. ``bench/`` measures what comes of it.
"""

from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal.interceptors import PerdureInterceptor
from worker.registry import Registration
from worker.sandbox import workflow_runner


@dataclass(frozen=True)
class Tuning:
    """How much one worker does at once.

    Attributes:
        activities: At once; beyond it tasks wait in the queue.
        workflow_tasks: At once; each takes milliseconds of one thread.
        cached_workflows: Kept in memory between their tasks, a few hundred KiB each at most; others are replayed.
        pollers: Long polls open for activities, and as many for workflows.
        grace: How long activities may go on after SIGTERM. Longer ones are cancelled, which leaves their sandboxes
            alone, and are taken up by the next worker at once.
    """

    activities: int = 200
    workflow_tasks: int = 100
    cached_workflows: int = 1000
    pollers: int = 5
    grace: timedelta = timedelta(seconds=2)


def build_worker(
    client: Client, registration: Registration, tuning: Tuning, *, runner: SandboxedWorkflowRunner | None = None
) -> Worker:
    """Builds the worker of one queue.

    Args:
        runner: For tests, whose workflows live elsewhere.
    """
    return Worker(
        client,
        task_queue=registration.queue,
        workflows=registration.workflows,
        activities=registration.activities,
        # Without one, the SDK hashes the source of every loaded module, which takes seconds.
        build_id=f"perdure-{version('perdure')}",
        workflow_runner=runner or workflow_runner(),
        interceptors=[PerdureInterceptor()],
        max_concurrent_activities=tuning.activities,
        max_concurrent_workflow_tasks=tuning.workflow_tasks,
        max_cached_workflows=tuning.cached_workflows,
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(tuning.pollers),
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(tuning.pollers),
        # Beats come every two seconds; a throttle of 0.8 times the timeout (the default) would be too close to it.
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        # A dead worker's cached workflows are offered to another one after this.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=5),
        graceful_shutdown_timeout=tuning.grace,
    )
