from itertools import product

import pytest

from domain.pipelines.status import (
    RUN_ENDED,
    STEP_ENDED,
    RunStatus,
    StepStatus,
    combine,
    run_may_become,
    step_may_become,
)

RUN_MAY = {
    ("pending", "running"),
    ("pending", "cancelled"),
    ("pending", "error"),
    ("running", "success"),
    ("running", "failure"),
    ("running", "cancelled"),
    ("running", "error"),
}
STEP_MAY = {
    ("pending", "running"),
    ("pending", "skipped"),
    ("pending", "cancelled"),
    ("pending", "error"),
    ("running", "running"),
    ("running", "success"),
    ("running", "failure"),
    ("running", "cancelled"),
    ("running", "error"),
    ("running", "lost"),
}


@pytest.mark.parametrize(("old", "new"), list(product(RunStatus, RunStatus)))
def test_a_run_moves_only_along_the_table(old: RunStatus, new: RunStatus) -> None:
    assert run_may_become(old, new) is ((old.value, new.value) in RUN_MAY)


@pytest.mark.parametrize(("old", "new"), list(product(StepStatus, StepStatus)))
def test_a_step_moves_only_along_the_table(old: StepStatus, new: StepStatus) -> None:
    assert step_may_become(old, new) is ((old.value, new.value) in STEP_MAY)


def test_what_has_ended_never_changes() -> None:
    assert set(RunStatus) - {"pending", "running"} == RUN_ENDED
    assert set(StepStatus) - {"pending", "running"} == STEP_ENDED
    assert not any(run_may_become(old, new) for old in RUN_ENDED for new in RunStatus)
    assert not any(step_may_become(old, new) for old in STEP_ENDED for new in StepStatus)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["cancelled!", "success"], "cancelled"),
        (["cancelled", "error", "failure"], "cancelled"),
        (["error", "failure", "success"], "error"),
        (["lost", "failure"], "error"),
        (["failure", "success", "skipped"], "failure"),
        (["failure!", "success"], "success"),
        (["lost!", "error!", "failure!"], "success"),
        (["failure!", "failure"], "failure"),
        (["skipped", "skipped"], "success"),
        (["success"], "success"),
        ([], "success"),
    ],
)
def test_the_worst_step_that_counts_makes_the_outcome(steps: list[str], expected: str) -> None:
    ends = [(StepStatus(step.removesuffix("!")), step.endswith("!")) for step in steps]
    assert combine(ends) is RunStatus(expected)
