"""Which queue serves which workflows and activities. The one list: a test compares it with the code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from activities.access.mails import MailActivities
from activities.access.signing_keys import SigningKeyActivities
from activities.audit import AuditActivities
from activities.git import GitActivities
from activities.pipelines.runs import RunActivities
from activities.pipelines.steps import StepActivities
from temporal.names import EXECUTION_QUEUE, ORCHESTRATION_QUEUE
from workflows.access import RepairMailsWorkflow, RotateSigningKeysWorkflow, SendMailWorkflow
from workflows.audit import AuditCheckpointWorkflow
from workflows.git import MaintainRepositoriesWorkflow, PushWorkflow, SweepPushesWorkflow
from workflows.pipelines import ExpireWorkflow, PipelineRunWorkflow, RepairRunsWorkflow


@dataclass(frozen=True)
class Activities:
    """The objects whose methods are activities, built by the composition root."""

    git: GitActivities
    mails: MailActivities
    runs: RunActivities
    signing_keys: SigningKeyActivities
    steps: StepActivities
    audit: AuditActivities


@dataclass(frozen=True)
class Registration:
    """What one worker polls for.

    Attributes:
        activities: Bound methods with ``@activity.defn``; their queue is fixed by the calls in ``workflows``.
    """

    queue: str
    workflows: tuple[type, ...]
    activities: tuple[Callable[..., Any], ...]


WORKFLOWS: tuple[type, ...] = (
    AuditCheckpointWorkflow,
    ExpireWorkflow,
    MaintainRepositoriesWorkflow,
    PipelineRunWorkflow,
    PushWorkflow,
    RepairMailsWorkflow,
    RepairRunsWorkflow,
    RotateSigningKeysWorkflow,
    SendMailWorkflow,
    SweepPushesWorkflow,
)
"""Every workflow type."""
EXECUTION_WORKFLOWS: tuple[type, ...] = (PipelineRunWorkflow,)
"""Those that live where their activities are; the others run on the orchestration queue."""


def registrations(activities: Activities) -> tuple[Registration, ...]:
    """One registration per queue."""
    git, runs, steps = activities.git, activities.runs, activities.steps
    return (
        Registration(
            queue=ORCHESTRATION_QUEUE,
            workflows=tuple(one for one in WORKFLOWS if one not in EXECUTION_WORKFLOWS),
            activities=(
                git.settle_push,
                git.sweep_pushes,
                activities.mails.send_mail,
                activities.mails.unsent_mails,
                activities.signing_keys.rotate_signing_keys,
                runs.skip_steps,
                runs.stop_run,
                runs.set_waiting_for,
                runs.runs_to_repair,
                runs.expire,
                activities.audit.make_checkpoint,
                activities.audit.publish_checkpoints,
            ),
        ),
        Registration(
            queue=EXECUTION_QUEUE,
            workflows=EXECUTION_WORKFLOWS,
            activities=(
                runs.prepare_run,
                steps.run_step,
                runs.finish_run,
                runs.remove_leftovers,
                git.maintain_repositories,
            ),
        ),
    )
