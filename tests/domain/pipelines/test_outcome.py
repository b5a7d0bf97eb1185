from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.sandbox.base import SandboxOutcome
from domain.pipelines.outcome import judge, judge_lost
from domain.pipelines.status import StepCause, StepStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("facts", "status", "cause"),
    [
        ({"exit_code": 0}, StepStatus.SUCCESS, None),
        ({"exit_code": 1}, StepStatus.FAILURE, StepCause.EXIT),
        ({"exit_code": 137}, StepStatus.FAILURE, StepCause.EXIT),
        ({"signal": 11}, StepStatus.FAILURE, StepCause.SIGNAL),
        ({"signal": 9, "oom": True}, StepStatus.FAILURE, StepCause.OOM),
        ({"signal": 9, "timed_out": True}, StepStatus.FAILURE, StepCause.TIMEOUT),
        ({"signal": 9, "killed": True}, StepStatus.CANCELLED, StepCause.CANCELLED),
        ({"signal": 9, "log_limit": True}, StepStatus.FAILURE, StepCause.LIMIT),
        ({"start_error": "no namespaces"}, StepStatus.ERROR, StepCause.START_FAILED),
    ],
)
def test_the_end_of_a_sandbox_is_one_story(facts: dict[str, Any], status: StepStatus, cause: StepCause | None) -> None:
    judged = judge(SandboxOutcome(started_at=NOW, ended_at=NOW, **facts))

    assert (judged.status, judged.cause) == (status, cause)
    assert (judged.reason is None) == (status is StepStatus.SUCCESS)


def test_nobody_knows_means_neither_success_nor_an_ordinary_failure() -> None:
    assert judge_lost(None)[:2] == (StepStatus.LOST, StepCause.LOST)
    assert judge_lost("node gone").reason == "node gone"


def test_a_killed_sandbox_that_also_exited_well_is_still_cancelled() -> None:
    assert judge(SandboxOutcome(started_at=NOW, ended_at=NOW, exit_code=0, killed=True)).status is StepStatus.CANCELLED
