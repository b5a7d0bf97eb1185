from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pipelines.outline import Moves, RetryRule, RunOn, StepOutline, next_moves, retry_delay
from domain.pipelines.status import STEP_ENDED, StepCause, StepStatus

BAD = {StepStatus.FAILURE, StepStatus.ERROR, StepStatus.LOST, StepStatus.CANCELLED}


def outline(name: str, *depends_on: str, run_on: str = "success", ignored: bool = False) -> StepOutline:
    return StepOutline(
        id=UUID(int=1),
        name=name,
        depends_on=depends_on,
        run_on=tuple(RunOn(state) for state in run_on.split()),
        failure_ignored=ignored,
    )


def moves(outlines: list[StepOutline], **statuses: str) -> Moves:
    return next_moves(outlines, {name: StepStatus(status) for name, status in statuses.items()})


@pytest.mark.parametrize(
    "outlines",
    [
        [outline("a", "b"), outline("b", "a")],
        [outline("a", "a")],
        [outline("a", "unknown")],
    ],
)
def test_steps_that_can_never_start_are_an_error_not_a_hang(outlines: list[StepOutline]) -> None:
    with pytest.raises(ValueError, match="wait for one another or for an unknown step: a"):
        next_moves(outlines, {})


@pytest.mark.parametrize("end", ["failure", "error", "lost", "cancelled"])
def test_a_bad_end_skips_everything_behind_it_and_says_why(end: str) -> None:
    chain = [outline("a"), outline("b", "a"), outline("c", "b"), outline("other")]
    decided = moves(chain, a=end, other="running")
    reason = f"step 'a' before it ended as '{end}'"
    assert decided == Moves(skip=(("b", reason), ("c", reason)))


def test_a_step_is_skipped_only_when_all_before_it_has_ended_so_that_nothing_behind_it_starts_early() -> None:
    steps = [outline("a"), outline("slow"), outline("b", "a", "slow"), outline("tidy", "b", run_on="success failure")]
    assert moves(steps, a="failure", slow="running") == Moves()
    assert moves(steps, a="failure", slow="success") == Moves(
        start=("tidy",), skip=(("b", "step 'a' before it ended as 'failure'"),)
    )


def test_an_ignored_failure_troubles_nobody_but_an_ignored_cancellation_does() -> None:
    steps = [outline("a", ignored=True), outline("b", "a")]
    assert moves(steps, a="failure").start == ("b",)
    assert moves(steps, a="lost").start == ("b",)
    assert moves(steps, a="cancelled").skip[0][0] == "b"


def test_a_step_for_failure_runs_behind_one_and_hands_the_trouble_on() -> None:
    steps = [outline("a"), outline("undo", "a", run_on="failure"), outline("deploy", "undo")]
    assert moves(steps, a="failure").start == ("undo",)
    assert moves(steps, a="failure", undo="success").skip == (("deploy", "step 'a' before it ended as 'failure'"),)


def test_a_step_for_failure_is_skipped_without_one_and_those_behind_it_run() -> None:
    steps = [outline("a"), outline("undo", "a", run_on="failure"), outline("deploy", "undo")]
    assert moves(steps, a="success") == Moves(
        start=("deploy",), skip=(("undo", "runs only on failure, and nothing before it failed"),)
    )


def test_a_step_for_both_runs_either_way() -> None:
    steps = [outline("a"), outline("tell", "a", run_on="success failure")]
    assert moves(steps, a="success").start == moves(steps, a="error").start == ("tell",)


def test_steps_without_dependencies_start_at_once_in_the_order_of_the_file() -> None:
    assert moves([outline("b"), outline("a"), outline("c", "a")]) == Moves(start=("b", "a"))


def test_a_running_step_is_waited_for_and_an_ended_run_is_done() -> None:
    steps = [outline("a"), outline("b", "a")]
    assert moves(steps, a="running") == Moves()
    assert moves(steps, a="success", b="running") == Moves()
    assert moves(steps, a="success", b="failure") == Moves(done=True)
    assert next_moves([], {}) == Moves(done=True)


@st.composite
def graphs(draw: st.DrawFn) -> list[StepOutline]:
    count = draw(st.integers(1, 12))
    steps = []
    for number in range(count):
        before = st.sets(st.sampled_from([f"s{n}" for n in range(number)])) if number else st.just(set[str]())
        run_on = draw(st.sampled_from(["success", "failure", "success failure"]))
        steps.append(outline(f"s{number}", *sorted(draw(before)), run_on=run_on, ignored=draw(st.booleans())))
    return draw(st.permutations(steps))


def ancestors(name: str, by_name: Mapping[str, StepOutline]) -> set[str]:
    direct = by_name[name].depends_on
    return set(direct).union(*(ancestors(dependency, by_name) for dependency in direct))


@given(graphs(), st.data())
def test_every_run_ends_with_each_step_started_at_most_once_and_only_after_what_stands_before_it(
    steps: list[StepOutline], data: st.DataObject
) -> None:
    by_name = {step.name: step for step in steps}
    statuses: dict[str, StepStatus] = {}
    started: list[str] = []
    for _ in range(4 * len(steps) + 1):
        decided = next_moves(steps, statuses)
        if decided.done:
            break
        for name, reason in decided.skip:
            assert statuses.get(name) is None
            assert reason
            statuses[name] = StepStatus.SKIPPED
        for name in decided.start:
            before = ancestors(name, by_name)
            assert all(statuses.get(other) in STEP_ENDED for other in before)
            trouble = any(
                statuses[other] in BAD
                and not (by_name[other].failure_ignored and statuses[other] is not StepStatus.CANCELLED)
                for other in before
            )
            assert (RunOn.FAILURE if trouble else RunOn.SUCCESS) in by_name[name].run_on
            started.append(name)
            statuses[name] = StepStatus.RUNNING
        running = sorted(name for name, status in statuses.items() if status is StepStatus.RUNNING)
        if running:
            ending = data.draw(st.sampled_from(running))
            statuses[ending] = data.draw(st.sampled_from([StepStatus.SUCCESS, *sorted(BAD)]))
    assert next_moves(steps, statuses).done
    assert set(statuses) == set(by_name)
    assert len(started) == len(set(started))


RULES = (
    RetryRule(exit_codes=(75, 69), limit=2, delay_seconds=5),
    RetryRule(causes=(StepCause.EXIT, StepCause.TIMEOUT), limit=1),
    RetryRule(causes=(StepCause.LOST,), limit=0),
    RetryRule(causes=(StepCause.LOST, StepCause.CANCELLED), limit=9),
)


@pytest.mark.parametrize(
    ("cause", "exit_code", "attempt", "expected"),
    [
        (None, 0, 1, None),
        (StepCause.CANCELLED, None, 1, None),
        (StepCause.OOM, None, 1, None),
        (StepCause.SIGNAL, 75, 1, None),
        (StepCause.LOST, None, 1, None),
        (StepCause.EXIT, 75, 1, 5),
        (StepCause.EXIT, 69, 2, 5),
        (StepCause.EXIT, 75, 3, None),
        (StepCause.EXIT, 1, 1, 0),
        (StepCause.EXIT, 1, 2, None),
        (StepCause.TIMEOUT, None, 1, 0),
    ],
)
def test_the_first_rule_that_applies_decides_about_another_attempt(
    cause: StepCause | None, exit_code: int | None, attempt: int, expected: float | None
) -> None:
    assert retry_delay(RULES, cause, exit_code, attempt) == expected
