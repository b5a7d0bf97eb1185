"""Typed ids, and the workflow ids made from them.

An id is a UUID; its type says what it names, so that a run's id cannot be handed on as a step's.
"""

from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
ProjectId = NewType("ProjectId", UUID)
RunId = NewType("RunId", UUID)
StepId = NewType("StepId", UUID)
ArtifactId = NewType("ArtifactId", UUID)
PushId = NewType("PushId", UUID)
TokenId = NewType("TokenId", UUID)
SessionId = NewType("SessionId", UUID)


def pipeline_run_workflow_id(run_id: UUID) -> str:
    """The Temporal workflow id of a pipeline run: ``pipeline-run/<uuid>``."""
    return f"pipeline-run/{run_id}"


def push_workflow_id(push_id: UUID) -> str:
    """The Temporal workflow id that settles one push: ``push/<uuid>``."""
    return f"push/{push_id}"


def mail_workflow_id(mail_id: UUID) -> str:
    """The Temporal workflow id that sends one mail: ``mail/<uuid>``."""
    return f"mail/{mail_id}"


def audit_checkpoint_workflow_id(order_id: UUID) -> str:
    """The Temporal workflow id of a checkpoint that somebody asked for: ``audit-checkpoint/<uuid>``."""
    return f"audit-checkpoint/{order_id}"


def sandbox_id(step_id: UUID, attempt: int) -> str:
    """The name of the sandbox that runs one attempt (1-based) of a step: ``<uuid>-<attempt>``."""
    return f"{step_id}-{attempt}"
