"""What the workflow knows of a run's steps, and the decisions that order them. Pure, so they replay.

The workflow holds outlines and statuses only; images, commands and environment stay in the step's row. The questions
it asks are answered here: which steps start or are skipped now (``next_moves``), and whether a step that ended badly
is tried again (``retry_delay``).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from domain.pipelines.status import STEP_ENDED, StepCause, StepStatus


class RunOn(StrEnum):
    """In which state of what stands before it a step runs (``when.status`` of the file)."""

    SUCCESS = "success"
    FAILURE = "failure"


class RetryRule(BaseModel):
    """Tries a step again after some endings.

    Attributes:
        causes: Endings to which the rule applies, whatever the exit code.
        exit_codes: Exit codes to which it applies (cause ``exit``).
        limit: How many further attempts there may be, counted over the whole step; 0 forbids them.
        delay_seconds: Wait before the next attempt.
    """

    model_config = ConfigDict(frozen=True)

    causes: tuple[StepCause, ...] = ()
    exit_codes: tuple[int, ...] = ()
    limit: int
    delay_seconds: float = 0

    def applies(self, cause: StepCause, exit_code: int | None) -> bool:
        """Whether an attempt that ended like this falls under the rule."""
        return cause in self.causes or (cause is StepCause.EXIT and exit_code in self.exit_codes)


class StepOutline(BaseModel):
    """The part of a planned step that decides about its order.

    Attributes:
        depends_on: Names of the steps that must have ended before; never one that ``when`` left out.
        run_on: Runs if nothing before it failed (``success``), if something did (``failure``), or both.
        failure_ignored: Its own bad end troubles nobody.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    depends_on: tuple[str, ...] = ()
    run_on: tuple[RunOn, ...] = (RunOn.SUCCESS,)
    failure_ignored: bool = False
    retry: tuple[RetryRule, ...] = ()
    timeout_seconds: float = 3600


class Moves(BaseModel):
    """What is to be done now.

    Attributes:
        start: Names of the steps to start, in the order of the file.
        skip: Names and reasons (for a person) of the steps that will not run. They count as ended from here on, so
            record them and ask again.
        done: Every step has ended; ``start`` and ``skip`` are empty.
    """

    model_config = ConfigDict(frozen=True)

    start: tuple[str, ...] = ()
    skip: tuple[tuple[str, str], ...] = ()
    done: bool = False


def next_moves(outlines: Sequence[StepOutline], statuses: Mapping[str, StepStatus]) -> Moves:
    """Decides what happens next in a run.

    A step is decided on when every step that it depends on has ended; so, step by step, everything before it has. It
    is in *trouble* if something before it, directly or through others, ended badly and not ``failure_ignored``. A step
    that was skipped hands the trouble before it on, and so does a step that ran in spite of it.

    Args:
        outlines: All steps of the run, in the order of the file.
        statuses: Where each step stands; a step that is not named is ``pending``.

    Raises:
        ValueError: Nothing runs and nothing can start, though steps are left: the outlines have a cycle or name an
            unknown step. A compiled plan has neither.
    """
    by_name = {outline.name: outline for outline in outlines}
    now = {name: statuses.get(name, StepStatus.PENDING) for name in by_name}
    if all(status in STEP_ENDED for status in now.values()):
        return Moves(done=True)
    start: list[str] = []
    skip: list[tuple[str, str]] = []
    decided = True
    while decided:  # A step that is skipped here may decide those after it.
        decided = False
        for outline in outlines:
            if now[outline.name] is not StepStatus.PENDING or outline.name in start:
                continue
            if not all(now.get(name) in STEP_ENDED for name in outline.depends_on):
                continue
            decided = True
            reason = _reason_to_skip(outline, by_name, now)
            if reason is None:
                start.append(outline.name)
            else:
                skip.append((outline.name, reason))
                now[outline.name] = StepStatus.SKIPPED
    if not start and not skip and StepStatus.RUNNING not in now.values():
        stuck = ", ".join(name for name, status in now.items() if status is StepStatus.PENDING)
        raise ValueError(f"these steps wait for one another or for an unknown step: {stuck}")
    position = {outline.name: index for index, outline in enumerate(outlines)}
    return Moves(
        start=tuple(sorted(start, key=position.__getitem__)),
        skip=tuple(sorted(skip, key=lambda entry: position[entry[0]])),
    )


def _reason_to_skip(
    outline: StepOutline, by_name: Mapping[str, StepOutline], statuses: Mapping[str, StepStatus]
) -> str | None:
    """Why a step whose dependencies have ended does not run, or ``None`` if it does."""
    trouble = _first_trouble(outline, by_name, statuses)
    if trouble is None:
        return None if RunOn.SUCCESS in outline.run_on else "runs only on failure, and nothing before it failed"
    if RunOn.FAILURE in outline.run_on:
        return None
    return f"step '{trouble}' before it ended as '{statuses[trouble].value}'"


def _first_trouble(
    outline: StepOutline, by_name: Mapping[str, StepOutline], statuses: Mapping[str, StepStatus]
) -> str | None:
    """The name of a step somewhere before ``outline`` that ended badly and counts; the first of the file's order."""
    before: set[str] = set()
    ahead = list(outline.depends_on)
    while ahead:
        name = ahead.pop()
        if name not in before:
            before.add(name)
            ahead.extend(by_name[name].depends_on)
    return next((name for name in by_name if name in before and _ended_badly(by_name[name], statuses[name])), None)


def _ended_badly(outline: StepOutline, status: StepStatus) -> bool:
    """Whether this ending is trouble for the steps behind it; ``failure: ignore`` does not excuse a cancellation."""
    if status is StepStatus.CANCELLED:
        return True
    return status in {StepStatus.FAILURE, StepStatus.ERROR, StepStatus.LOST} and not outline.failure_ignored


def retry_delay(
    rules: Iterable[RetryRule], cause: StepCause | None, exit_code: int | None, attempt: int
) -> float | None:
    """Whether a step is tried again, and after how long.

    Args:
        rules: In the order of the file; the first that applies decides.
        cause: Why the attempt ended; ``None`` for a good end. A cancelled step is never tried again.
        exit_code: Of the attempt, where it has one.
        attempt: The 1-based number of the attempt that ended. A rule's limit counts the attempts of the step
            whatever their cause, so a step has at most ``1 + max(limit)`` of them.

    Returns:
        Seconds to wait before the next attempt, or ``None`` if there is none.
    """
    if cause is None or cause is StepCause.CANCELLED:
        return None
    for rule in rules:
        if rule.applies(cause, exit_code):
            return rule.delay_seconds if attempt <= rule.limit else None
    return None
