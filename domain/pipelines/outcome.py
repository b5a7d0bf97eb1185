"""What the end of a sandbox means for its step: a status, a cause, and a sentence for a person."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from domain.pipelines.status import StepCause, StepStatus


class Outcome(Protocol):
    """The facts that ``adapters.sandbox.base.SandboxOutcome`` records."""

    @property
    def exit_code(self) -> int | None: ...  # noqa: D102  # documented at SandboxOutcome
    @property
    def signal(self) -> int | None: ...  # noqa: D102  # as above
    @property
    def oom(self) -> bool: ...  # noqa: D102  # as above
    @property
    def timed_out(self) -> bool: ...  # noqa: D102  # as above
    @property
    def killed(self) -> bool: ...  # noqa: D102  # as above
    @property
    def log_limit(self) -> bool: ...  # noqa: D102  # as above
    @property
    def start_error(self) -> str | None: ...  # noqa: D102  # as above


class Judgement(NamedTuple):
    """How an attempt ended."""

    status: StepStatus
    cause: StepCause | None
    reason: str | None


_Rule = tuple[Callable[[Outcome], bool], StepStatus, StepCause, str]

# In order: the first that holds is the story.
_RULES: tuple[_Rule, ...] = (
    (lambda o: o.killed, StepStatus.CANCELLED, StepCause.CANCELLED, "cancelled"),
    (lambda o: o.timed_out, StepStatus.FAILURE, StepCause.TIMEOUT, "ran longer than its timeout and was ended"),
    (lambda o: o.oom, StepStatus.FAILURE, StepCause.OOM, "used more memory than its limit and was ended"),
    (lambda o: o.log_limit, StepStatus.FAILURE, StepCause.LIMIT, "wrote more output than its limit and was ended"),
)


def judge(outcome: Outcome) -> Judgement:
    """Translates the recorded end of a sandbox."""
    if outcome.start_error is not None:
        return Judgement(StepStatus.ERROR, StepCause.START_FAILED, f"the sandbox did not start: {outcome.start_error}")
    for holds, status, cause, reason in _RULES:
        if holds(outcome):
            return Judgement(status, cause, reason)
    if outcome.signal is not None:
        return Judgement(StepStatus.FAILURE, StepCause.SIGNAL, f"ended by signal {outcome.signal}")
    if outcome.exit_code == 0:
        return Judgement(StepStatus.SUCCESS, None, None)
    return Judgement(StepStatus.FAILURE, StepCause.EXIT, f"exit code {outcome.exit_code}")


def judge_lost(reason: str | None) -> Judgement:
    """A sandbox that nobody can speak for: never success, never an ordinary failure (promise D3)."""
    return Judgement(StepStatus.LOST, StepCause.LOST, reason or "the sandbox is gone and left no record of its end")
