"""The states of runs and steps, which may follow which, and how steps make a run's outcome.

Words come from the seed (004, "Build & Deploy"), plus ``error`` (the platform or the file is at fault, not the
code) and, for steps, ``lost`` (no sandbox could say how it ended: never success, never an ordinary failure).
"""

from collections.abc import Iterable
from enum import StrEnum


class RunStatus(StrEnum):
    """The state of a pipeline run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    ERROR = "error"


class StepStatus(StrEnum):
    """The state of a step."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    ERROR = "error"
    LOST = "lost"


class StepCause(StrEnum):
    """Why a step ended other than well; retry policies and the dashboard speak of these."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    OOM = "oom"
    LOST = "lost"
    CANCELLED = "cancelled"
    START_FAILED = "start_failed"
    ARTIFACT = "artifact"
    LIMIT = "limit"


RUN_ENDED = frozenset({RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.CANCELLED, RunStatus.ERROR})
STEP_ENDED = frozenset(set(StepStatus) - {StepStatus.PENDING, StepStatus.RUNNING})

RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.ERROR}),
    RunStatus.RUNNING: RUN_ENDED,
}
"""What may follow; an ended run never changes again."""

STEP_TRANSITIONS: dict[StepStatus, frozenset[StepStatus]] = {
    StepStatus.PENDING: frozenset({StepStatus.RUNNING, StepStatus.SKIPPED, StepStatus.CANCELLED, StepStatus.ERROR}),
    # RUNNING to RUNNING is a retry: the attempt number grows.
    StepStatus.RUNNING: frozenset(STEP_ENDED - {StepStatus.SKIPPED}) | {StepStatus.RUNNING},
}
"""What may follow; an ended step never changes again."""


def run_may_become(old: RunStatus, new: RunStatus) -> bool:
    """Whether a run in state ``old`` may go to ``new``."""
    return new in RUN_TRANSITIONS.get(old, frozenset())


def step_may_become(old: StepStatus, new: StepStatus) -> bool:
    """Whether a step in state ``old`` may go to ``new``."""
    return new in STEP_TRANSITIONS.get(old, frozenset())


def combine(steps: Iterable[tuple[StepStatus, bool]]) -> RunStatus:
    """The outcome of a run from its ended steps.

    Args:
        steps: For each step its final status and whether its failure is ignored (``failure: ignore``).

    Returns:
        ``cancelled`` before ``error`` before ``failure`` before ``success``. A lost step that was not ignored makes
        the run an ``error``: nobody knows whether the code was at fault.
    """
    seen = {status for status, ignored in steps if not ignored or status is StepStatus.CANCELLED}
    if StepStatus.CANCELLED in seen:
        return RunStatus.CANCELLED
    if StepStatus.ERROR in seen or StepStatus.LOST in seen:
        return RunStatus.ERROR
    if StepStatus.FAILURE in seen:
        return RunStatus.FAILURE
    return RunStatus.SUCCESS
