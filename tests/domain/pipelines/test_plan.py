from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.pipelines.outline import RetryRule, RunOn
from domain.pipelines.plan import (
    CHANGED_CHARACTERS_MAX,
    CHANGED_PATHS_MAX,
    LOST_RETRY,
    VARIABLES_MAX,
    ArtifactRule,
    Plan,
    PlannedStep,
    TriggerContext,
    artifact_name,
    check_variables,
    compile_plan,
)
from domain.pipelines.read import parse_pipeline
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.status import StepCause


def push(**changes: Any) -> TriggerContext:  # noqa: ANN401 -- any field of the context
    return TriggerContext(event=TriggerEvent.PUSH, ref="refs/heads/main", branch="main").model_copy(update=changes)


TAG = TriggerContext(event=TriggerEvent.TAG, ref="refs/tags/v1", tag="v1")


def plan_of(steps: str, trigger: TriggerContext | None = None, top: str = "") -> Plan:
    file = parse_pipeline(".platform.yaml", f"{top}\nsteps:\n{steps}")
    return compile_plan(file, trigger or push())


def waits(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {step.name: step.depends_on for step in plan.steps if step.included}


def only(when: str, trigger: TriggerContext) -> PlannedStep:
    return plan_of(f"- {{name: first, commands: x}}\n- {{name: a, commands: x, when: {when}}}", trigger).steps[1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"1A": "x"}, "'1A': the name must have letters"),
        ({"": "x"}, "'': the name must have letters"),
        ({"A=B": "x"}, "'A=B': the name must have letters"),
        ({"CI": "x"}, "'CI': the name is set by the platform"),
        ({"PERDURE_REF": "x"}, "the name is set by the platform"),
        ({"A": "x\0"}, "'A': the value holds a NUL"),
        ({"A": "x\ud800"}, "'A': the value is not Unicode text"),
        ({"A": "x" * 32_769}, "'A': the value has 32769 characters"),
        ({f"A{n}": "" for n in range(VARIABLES_MAX + 1)}, f"at most {VARIABLES_MAX} variables"),
        ({f"A{n}": "x" * 30_000 for n in range(3)}, "65536 characters in all"),
    ],
)
def test_variables_that_cannot_be_environment_variables_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_variables(variables)
    assert message in raised.value.message
    with pytest.raises(InvalidInput):
        plan_of("- {name: a, commands: x}", push(variables=variables))


def test_a_plan_has_everything_that_a_run_needs() -> None:
    plan = plan_of(
        "- {name: a, image: i, commands: [x, y], env: {B: step}, timeout: 5m, failure: ignore,"
        " artifacts: {path: d, name: n, expires: 1d}}",
        push(variables={"C": "variable"}),
        "timeout: 2h\nenv: {A: file, B: file, C: file}",
    )
    assert plan == Plan(
        name="platform",
        config_path=".platform.yaml",
        timeout_seconds=7200,
        steps=(
            PlannedStep(
                name="a",
                image="i",
                commands=("x", "y"),
                env={"A": "file", "B": "step", "C": "variable"},
                timeout_seconds=300,
                retry=(LOST_RETRY,),
                failure_ignored=True,
                artifacts=(ArtifactRule(pattern="d", name="n", expires_seconds=86400),),
            ),
        ),
    )
    assert plan.has_work
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_name_in_the_file_wins_over_the_name_of_the_file() -> None:
    assert plan_of("- {name: a, commands: x}", top="name: Nightly tests").name == "Nightly tests"


def test_steps_run_one_after_the_other_unless_one_names_what_it_waits_for() -> None:
    serial = "- {name: a, commands: x}\n- {name: b, commands: x}\n- {name: c, commands: x}"
    assert waits(plan_of(serial)) == {"a": (), "b": ("a",), "c": ("b",)}
    graph = f"{serial}\n- {{name: d, commands: x, depends_on: [c, a, a]}}"
    assert waits(plan_of(graph)) == {"a": (), "b": (), "c": (), "d": ("a", "c")}
    assert waits(plan_of(f"{serial}\n- {{name: d, commands: x, depends_on: []}}")) == dict.fromkeys("abcd", ())


def test_a_step_left_out_hands_its_dependencies_on() -> None:
    serial = "- {name: a, commands: x}\n- {name: b, commands: x, when: {event: tag}}\n- {name: c, commands: x}"
    plan = plan_of(serial)
    assert waits(plan) == {"a": (), "c": ("a",)}
    assert [step.included for step in plan.steps] == [True, False, True]
    assert plan.steps[1].skip_reason == "'when.event' has tag, and this is push"


def test_an_optional_dependency_on_a_step_left_out_is_dropped() -> None:
    steps = (
        "- {name: a, commands: x}\n- {name: b, commands: x, depends_on: a, when: {event: tag}}\n"
        "- {name: c, commands: x, depends_on: {name: b, optional: true}}\n- {name: d, commands: x, depends_on: b}"
    )
    assert waits(plan_of(steps)) == {"a": (), "c": (), "d": ("a",)}
    assert waits(plan_of(steps, TAG)) == {"a": (), "b": ("a",), "c": ("b",), "d": ("b",)}


def test_a_plan_without_an_included_step_has_no_work() -> None:
    assert not plan_of("- {name: a, commands: x, when: {event: [tag, api]}}").has_work


BRANCH = [
    ("{branch: main}", push(), True),
    ("{branch: main}", push(branch="mainly"), False),
    ("{branch: [x, ma*]}", push(), True),
    ("{branch: 'release/*'}", push(branch="release/1"), True),
    ("{branch: {exclude: main}}", push(), False),
    ("{branch: {include: '*', exclude: main}}", push(branch="x"), True),
    ("{branch: main}", TAG, False),
    ("{branch: '**'}", TAG, False),
    ("{branch: {exclude: main}}", TAG, True),
    ("{event: tag}", TAG, True),
    ("{event: [manual, api]}", push(event=TriggerEvent.API), True),
    ("{event: push, branch: x}", push(), False),
    ("[{event: tag}, {branch: main}]", push(), True),
    ("[{event: tag}, {branch: x}]", push(), False),
]
PATHS = [
    ("{path: src}", ("src/a.py",), True),
    ("{path: '**/*.md'}", ("README.md",), True),
    ("{path: src/**}", ("docs/a.md", "tests/b.py"), False),
    ("{path: {exclude: docs/**}}", ("docs/a.md",), False),
    ("{path: {exclude: docs/**}}", ("docs/a.md", "x"), True),
    ("{path: {include: src/**, exclude: '**/*.md'}}", ("src/a.md",), False),
    ("{path: src/**}", (), False),
    ("{path: src/**}", None, True),
    ("{path: src/**}", ("x",) * (CHANGED_PATHS_MAX + 1), True),
    ("{path: src/**}", ("x" * (CHANGED_CHARACTERS_MAX + 1),), True),
    ("{path: {}}", (), True),
]


@pytest.mark.parametrize(("when", "trigger", "included"), BRANCH)
def test_a_condition_on_event_and_branch_decides(when: str, trigger: TriggerContext, included: bool) -> None:
    step = only(when, trigger)
    assert step.included is included
    assert (step.skip_reason is None) is included


@pytest.mark.parametrize(("when", "changed", "included"), PATHS, ids=range(len(PATHS)))
def test_a_condition_on_changed_files_decides(when: str, changed: tuple[str, ...] | None, included: bool) -> None:
    assert only(when, push(changed_paths=changed)).included is included


def test_a_step_left_out_says_which_part_did_not_hold() -> None:
    reason = only("[{event: tag}, {event: api}, {branch: x}, {path: y}]", push(changed_paths=("z",))).skip_reason
    assert reason == (
        "'when.event' has tag, and this is push; 'when.event' has api, and this is push;"
        " 'when.branch' does not match branch 'main'; 'when.path' matches no changed file"
    )
    assert only("{branch: x}", TAG).skip_reason == "'when.branch' does not match 'refs/tags/v1', no branch"


def test_the_state_to_run_in_is_that_of_the_conditions_that_hold() -> None:
    when = "[{event: push, status: [failure]}, {event: tag}, {branch: main, status: success}]"
    assert only(when, push()).run_on == (RunOn.SUCCESS, RunOn.FAILURE)
    assert only(when, push(branch="x")).run_on == (RunOn.FAILURE,)
    assert only(when, TAG).run_on == (RunOn.SUCCESS,)
    assert only("{status: failure}", TAG).run_on == (RunOn.FAILURE,)


def test_a_lost_sandbox_is_tried_again_unless_the_file_says_otherwise() -> None:
    step = "- {name: a, commands: x, retry: %s}"
    rules = plan_of(step % "{on: [75, oom, 69, 75], limit: 3, delay: 10s}").steps[0].retry
    own = RetryRule(causes=(StepCause.OOM,), exit_codes=(75, 69), limit=3, delay_seconds=10)
    assert rules == (own, LOST_RETRY)
    assert plan_of(step % "{on: lost, limit: 0}").steps[0].retry == (RetryRule(causes=(StepCause.LOST,), limit=0),)


@pytest.mark.parametrize(
    ("pattern", "name", "path", "expected"),
    [
        ("dist/*.whl", None, "dist/sub/a.whl", None),
        ("dist/*.whl", "wheels", "src/a.whl", None),
        ("dist", None, "dist/a/b", "dist/a/b"),
        ("report.xml", "tests/report.xml", "report.xml", "tests/report.xml"),
        ("./report.xml", "r.xml", "report.xml", "r.xml"),
        ("dist/", "d", "dist/a/b", "d/a/b"),
        ("build/**/*.whl", "wheels", "build/py/a.whl", "wheels/py/a.whl"),
        ("*.log", "logs", "a.log", "logs/a.log"),
        ("out/*", "o", "out/a/b", "o/a/b"),
    ],
)
def test_a_file_is_stored_under_the_name_that_the_rule_gives_it(
    pattern: str, name: str | None, path: str, expected: str | None
) -> None:
    assert artifact_name(ArtifactRule(pattern=pattern, name=name, expires_seconds=60), path) == expected


@given(st.data())
def test_included_steps_wait_only_for_included_steps_and_leaving_out_keeps_their_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    names = [f"s{number}" for number in range(count)]
    left_out = data.draw(st.sets(st.sampled_from(names)))
    named = {
        name: sorted(data.draw(st.sets(st.sampled_from(names[:number]))) if number else ())
        for number, name in enumerate(names)
    }
    order = data.draw(st.permutations(names))
    steps = "\n".join(
        f"- {{name: {name}, commands: x, depends_on: [{', '.join(named[name])}]"
        + (", when: {event: tag}}" if name in left_out else "}")
        for name in order
    )
    found = waits(plan_of(steps))

    def behind(name: str, edges: dict[str, Any]) -> set[str]:
        return {other for direct in edges[name] for other in ({direct} | behind(direct, edges))}

    assert set(found) == set(names) - left_out
    for name in found:
        assert not set(found[name]) & left_out
        assert behind(name, found) == behind(name, named) - left_out
