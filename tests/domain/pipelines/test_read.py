import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidPipeline
from domain.pipelines.outline import RunOn
from domain.pipelines.problems import Problem
from domain.pipelines.read import MODELS, keys_at, keys_of, parse_pipeline
from domain.pipelines.spec import (
    STEPS_MAX,
    FailurePolicy,
    FileModel,
    GlobFilter,
    RetryCondition,
    StepSpec,
    TriggerEvent,
)
from domain.pipelines.status import StepCause


def problems_of(text: str | bytes) -> list[Problem]:
    with pytest.raises(InvalidPipeline) as raised:
        parse_pipeline(".platform.yaml", text)
    problems = raised.value.details["problems"]
    assert isinstance(problems, list)
    return [Problem.model_validate(problem) for problem in problems]


def step_of(body: str) -> StepSpec:
    """The only step of a file; ``body`` is a flow mapping's inside."""
    return parse_pipeline("p.yaml", f"steps: [{{name: a, commands: x, {body}}}]").spec.steps[0]


MANY_PROBLEMS = """\
timeout: 1:30
services: {db: {image: postgres}}
when: {event: push}
env: {A: yes, CI: x, 1x: 2, B: , P: {a: b}}
steps:
  - name: build
    comands: [make]
    image: a b
  - commands:
      - echo: foo
      -
    depends_on: [biuld, {name: build, optional: maybe, x: 1}]
    when: {branch: {inclde: main}, event: [psh], path: [/abs, ../x]}
    retry: {on: [losst, 300], limit: 012, delay: 2 weeks}
    failure: ingore
    artifacts: [{path: a, expires: 0s, nam: b}, "{a}"]
  - {name: a, commands: x, depends_on: b}
  - {name: b, commands: x, depends_on: [c, b]}
  - {name: c, commands: x, depends_on: [a, biuld], timeout: 25h}
  - just text
"""


ALL_OF_THEM = """\
1:10: 'timeout' must be a duration like '90s', '10m' or '1h30m', not '1:30'
2:1: services are not supported yet; start what you need in the step's own commands (the key 'services' in the file)
3:1: unknown key 'when' in the file; it belongs in a step
4:15: 'env.CI': 'CI' is set by the platform; choose another name
4:22: 'env.1x': '1x' must have letters, digits and '_' only, and not begin with a digit
4:32: 'env.B' has no value; write "" for an empty text
4:37: 'env.P' must be text, not a mapping; text with ': ' in it needs quotes, or a '|' and a line of its own
6:5: step 'build' needs 'commands'
7:5: unknown key 'comands' in step 'build'; did you mean 'commands'?
8:12: 'image' of step 'build': 'a b' is no image reference; write one like 'python:3.13' or \
'registry.example.org/team/tool:1.2'
9:5: step 2 needs 'name'
10:9: 'commands' of step 2 must be text, not a mapping; text with ': ' in it needs quotes, or a '|' and a \
line of its own
11:8: 'commands' of step 2 has no value
12:49: 'depends_on.optional' of step 2 must be true or false, not 'maybe'
12:56: unknown key 'x' in 'depends_on' of step 2
13:21: unknown key 'inclde' in 'when.branch' of step 2; did you mean 'include'?
13:44: 'when.event' of step 2 must be one of push, tag, manual, api, not 'psh'; did you mean 'push'?
13:57: 'when.path' of step 2: '/abs' is absolute; patterns begin at the root of the workspace, without a slash
13:63: 'when.path' of step 2: '../x' has '..'; patterns stay inside the workspace
14:18: 'retry.on' of step 2 must be lost, oom, timeout, exit, signal or an exit code from 1 to 255 like \
'exit:75', not 'losst'; did you mean 'lost'?
14:25: 'retry.on' of step 2 must be lost, oom, timeout, exit, signal or an exit code from 1 to 255 like \
'exit:75', not '300'
14:38: 'retry.limit' of step 2 must be a whole number from 0 to 10, not '012'
14:50: 'retry.delay' of step 2 must be a duration like '90s', '10m' or '1h30m', not '2 weeks'
15:14: 'failure' of step 2 must be one of fail, ignore, not 'ingore'; did you mean 'ignore'?
16:36: 'artifacts.expires' of step 2 must be from 60s to 365d
16:40: unknown key 'nam' in 'artifacts' of step 2; did you mean 'name'?
16:49: 'artifacts' of step 2: '{a}' has braces, which have no meaning here; write a list of patterns
17:40: these steps wait for one another: b -> c -> a -> b
18:44: step 'b' depends on itself
19:44: step 'c' depends on 'biuld', and there is no such step; did you mean 'build'?
19:61: 'timeout' of step 'c' must be from 1s to 24h
20:5: step 6 must be a mapping of keys to values
"""


def test_a_file_with_many_mistakes_gets_all_of_them_at_their_places() -> None:
    rendered = [problem.render().removeprefix(".platform.yaml:") for problem in problems_of(MANY_PROBLEMS)]
    assert rendered == ALL_OF_THEM.splitlines()


ONE_PROBLEM = [
    ("- a", "1:1: the file must be a mapping of keys to values"),
    ("just text", "1:1: the file must be a mapping of keys to values"),
    ("---\n", "2:1: the file must be a mapping of keys to values"),
    ("name: x", "1:1: the file needs 'steps'"),
    ("steps:", "1:7: 'steps' has no value; give it one, or leave the key out"),
    ("steps: []", "1:8: 'steps' needs at least one item"),
    ("steps: {a: {commands: x}}", "1:8: 'steps' must be a list"),
    ("steps: x", "1:8: 'steps' must be a list"),
    ("jobs: 1\nsteps: [{name: a, commands: x}]", "1:1: unknown key 'jobs' in the file; did you mean 'steps'?"),
    ("steps: [{name: a, commands: []}]", "1:29: 'commands' of step 'a' needs at least one item"),
    ("steps: [{name: a, commands: ''}]", "1:29: 'commands' of step 'a' has an empty command"),
    ('steps: [{name: a, commands: "\\0"}]', "1:29: 'commands' of step 'a' has a command that holds a NUL character"),
    ("steps: [{name: A, commands: x}]", "1:16: 'name' of step 'A': 'A' must have lower-case letters,"),
    ("steps: [{name: -a, commands: x}]", "1:16: 'name' of step '-a': '-a' must have lower-case letters,"),
    (f"steps: [{{name: {'a' * 64}, commands: x}}]", "1:16: 'name' of step 'aaa"),
    ("steps: [{name: a, script: x, commands: x}]", "1:19: unknown key 'script' in step 'a'; did you mean 'commands'?"),
    ("steps: [{name: a, commands: x, needs: b}]", "did you mean 'depends_on'?"),
    ("steps: [{name: a, commands: x, privileged: true}]", "1:32: a step cannot be privileged"),
    ("steps: [{name: a, commands: x, zzzzzz: b}]", "1:32: unknown key 'zzzzzz' in step 'a'"),
    ('steps: [{name: a, commands: x, "a\\0\\e[1mb": b}]', r"unknown key 'a\x00\x1b[1mb' in step 'a'"),
    ("steps:\n- {name: a, commands: x}\n- {name: a, commands: x}", "3:10: the name 'a' is taken by the step in line 2"),
    ("steps: [{name: a, commands: x, depends_on: a}]", "1:44: step 'a' depends on itself"),
    (
        "steps: [{name: a, commands: x, depends_on: [{name: b, optional: true}]}]",
        "1:52: step 'a' depends on 'b', and there is no such step",
    ),
    ("steps: [{name: a, commands: x, timeout: 0}]", "1:41: 'timeout' of step 'a' must be from 1s to 24h"),
    ("steps: [{name: a, commands: x, timeout: 90 s}]", "1:41: 'timeout' of step 'a' must be a duration"),
    ("steps: [{name: a, commands: x, timeout: 010}]", "1:41: 'timeout' of step 'a' must be a duration"),
    ("steps: [{name: a, commands: x, timeout: 1.5h}]", "must be a duration"),
    ("steps: [{name: a, commands: x, timeout: ''}]", "must be a duration"),
    ("steps: [{name: a, commands: x, timeout: -5}]", "must be a duration"),
    ("steps: [{name: a, commands: x, timeout: ٣}]", "must be a duration"),
    (f"steps: [{{name: a, commands: x, timeout: {'9' * 5000}}}]", "must be a duration"),
    ("steps: [{name: a, commands: x, when: push}]", "1:38: 'when' of step 'a' must be a mapping"),
    ("steps: [{name: a, commands: x, when: []}]", "1:38: 'when' of step 'a' needs at least one item"),
    ("steps: [{name: a, commands: x, when: {event: []}}]", "1:46: 'when.event' of step 'a' needs at least one item"),
    ("steps: [{name: a, commands: x, when: {branch: 'a['}}]", "'when.branch' of step 'a': 'a[' has a '['"),
    ("steps: [{name: a, commands: x, retry: 2}]", "1:39: 'retry' of step 'a' must be a mapping"),
    ("steps: [{name: a, commands: x, retry: {limit: 2}}]", "1:39: 'retry' of step 'a' needs 'on'"),
    ("steps: [{name: a, commands: x, retry: {on: 0}}]", "1:44: 'retry.on' of step 'a' must be"),
    ("steps: [{name: a, commands: x, retry: {on: cancelled}}]", "1:44: 'retry.on' of step 'a' must be"),
    ("steps: [{name: a, commands: x, retry: {on: {a: b}}}]", "1:44: 'retry.on' of step 'a' must be"),
    ("steps: [{name: a, commands: x, retry: {on: exit, limit: 11}}]", "must be a whole number from 0 to 10"),
    ("steps: [{name: a, commands: x, artifacts: [a, ../b]}]", "1:47: 'artifacts' of step 'a': '../b' has '..'"),
    ("steps: [{name: a, commands: x, artifacts: {name: b}}]", "1:43: 'artifacts' of step 'a' needs 'path'"),
    ("steps: [{name: a, commands: x, artifacts: {path: a, name: ../b}}]", "'artifacts.name' of step 'a': '../b' has"),
    ("steps: [{name: a, commands: x, artifacts: {path: a, name: b*}}]", "is a pattern; a name has no wildcards"),
    ("steps: [{name: a, commands: x, artifacts: {path: a, name: b/}}]", "ends with a slash"),
    ("steps: [{name: a, commands: x, artifacts: {path: a, expires: 366d}}]", "must be from 60s to 365d"),
    ("steps: [{name: a, commands: x, env: [A=b]}]", "1:37: 'env' of step 'a' must be a mapping of names to values"),
    ("steps: [{name: a, commands: x, env: {PERDURE_X: b}}]", "'PERDURE_X' is set by the platform"),
    ("steps: [{name: a, commands: x, env: {A: [b]}}]", "1:41: 'env.A' of step 'a' must be text, not a list"),
    ("steps: [{name: a, commands: x, image: --privileged}]", "is no image reference"),
    (
        "steps: [{name: a, commands: x, when: {status: failure}}]",
        "1:9: step 'a' runs only on failure, but it is the first step, so it would never run",
    ),
    (
        "steps: [{name: a, commands: x, depends_on: []}, {name: b, commands: x, when: {status: failure}}]",
        "1:49: step 'b' runs only on failure, but it depends on no step",
    ),
    ("steps: [{name: a, commands: x}]\nname: ''", "2:7: 'name': '' must be one line of 1 to 100 characters"),
    ('steps: [{name: a, commands: x}]\nname: "a\\nb"', r"2:7: 'name': 'a\nb' must be one line"),
    ("a: &a {x: 1}\nsteps: [{name: a, commands: x}]", "1:1: unknown key 'a' in the file"),
    ("steps: [{name: a, commands: x, name: b}]", "1:32: the key 'name' stands twice"),
    (f"steps: [{{name: a, commands: x, env: {{A: {'x' * 32769}}}}}]", "has 32769 characters; the limit is 32768"),
    (
        "steps: [{name: a, commands: x, env: {" + ", ".join(f"{name}: {'x' * 30_000}" for name in "ABC") + "}}]",
        "'env' of step 'a' has 90003 characters in all; the limit is 65536",
    ),
    (
        "steps: [{name: a, commands: x, artifacts: [" + "a, " * 51 + "]}]",
        "'artifacts' of step 'a' has too many items; the limit is 50",
    ),
    (
        "steps:\n" + "".join(f"- {{name: s{n}, commands: x}}\n" for n in range(STEPS_MAX + 1)),
        f"2:1: 'steps' has too many items; the limit is {STEPS_MAX}",
    ),
    (
        "steps:\n" + "".join(f"- {{name: s{n}, commands: x, when: {{path: {'x' * 250}}}}}\n" for n in range(20)),
        "1:1: all patterns of 'when.path' together have 5000 characters; the limit is 4096",
    ),
]


@pytest.mark.parametrize(("text", "message"), ONE_PROBLEM, ids=lambda value: str(value)[:50])
def test_a_mistake_is_one_problem_that_says_what_to_do(text: str, message: str) -> None:
    problems = problems_of(text)
    assert len(problems) == 1, [problem.render() for problem in problems]
    assert message in problems[0].render()


def test_two_circles_are_both_told() -> None:
    circles = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "e"), ("e", "c")]
    steps = "".join(f"- {{name: {name}, commands: x, depends_on: {other}}}\n" for name, other in circles)
    messages = [problem.message for problem in problems_of(f"steps:\n{steps}")]
    assert [message.partition(": ")[2] for message in messages] == ["b -> a -> b", "d -> e -> c -> d"]


def test_a_problem_in_an_anchored_mapping_stands_once_at_the_place_where_it_is_written() -> None:
    text = "steps:\n- &a {name: a, commands: x, timout: 5}\n- {<<: *a, name: b}\n"
    places = {(problem.line, problem.column) for problem in problems_of(text)}
    assert places == {(2, 29)}


HOSTILE = [
    "steps:\n" + "- {name: a, commands: x, depends_on: [" + "nosuch, " * 5000 + "]}\n",
    "steps:\n" + "- {}\n" * 5000,
    "steps: [{name: a, commands: x, when: {event: [" + "psh, " * 5000 + "]}}]",
    "{" + ", ".join(f"comands{n}: x" for n in range(4500)) + "}",
    "steps:\n" + "".join(f"- {{name: s{n}, commands: x, depends_on: s{n + 1}}}\n" for n in range(99)) + "- {name: s99}",
    "steps:\n- {name: a, commands: x}\n" + "- {name: b, commands: x, depends_on: [" + ", ".join(["a"] * 4900) + "]}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_costs_a_fraction_of_a_second(text: str) -> None:
    started = time.process_time()
    problems_of(text)
    assert time.process_time() - started < 1


WORDS = """
steps name commands env depends_on when event branch path status retry on limit failure artifacts services <<
push main ** *.py a b 1h 012 yes ~ null &a *a !t { } [ ] , : - ? | > ' " # % @ ` --- ... \\
"""
CHARACTERS = ["\0", "\t", " ", "\n", "\n  ", "\n- ", ": ", "\ufeff", "é", "\u2028", "\x85"]
FRAGMENTS = st.sampled_from([*WORDS.split(), *CHARACTERS, "steps:\n- name: a\n  commands: x\n  "])


@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=60).map("".join), st.binary()))
def test_any_text_is_a_pipeline_or_has_problems_with_places(text: str | bytes) -> None:
    try:
        parse_pipeline("p.yaml", text)
    except InvalidPipeline as error:
        problems = error.details["problems"]
        assert isinstance(problems, list)
        assert problems
        for problem in problems:
            assert Problem.model_validate(problem).render().isprintable()
            assert problem["line"] >= 1
            assert problem["column"] >= 1


YAML_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["a", "push", "exit", "1h"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(sorted({key for model in MODELS.values() for key in keys_of(model)} | {"A"})),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(keys_of(StepSpec))), YAML_VALUES))
def test_any_value_at_any_key_of_a_step_is_read_or_has_problems(step: dict[str, object]) -> None:
    message = ""
    try:  # JSON is YAML, so a tree of values becomes a file.
        parse_pipeline("p.yaml", json.dumps({"steps": [{"name": "a", "commands": "x", **step}]}))
    except InvalidPipeline as error:
        message = error.message
    assert "is not valid:" not in message, "a kind of pydantic's errors has no words of ours"


def test_a_step_has_the_documented_defaults() -> None:
    step = step_of("")
    assert (step.image, step.env, step.depends_on, step.when) == (None, {}, None, None)
    assert (step.timeout_seconds, step.retry, step.failure, step.artifacts) == (3600, (), FailurePolicy.FAIL, ())


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("90", 90), ("1d", 86400), ("'2h'", 7200)]
)
def test_a_duration_is_read_in_any_form(written: str, seconds: int) -> None:
    assert step_of(f"timeout: {written}").timeout_seconds == seconds


@pytest.mark.parametrize("value", ["on", "yes", "012", "1:30", "2026-01-01", "3.10", "1e3", "true", "0x1F"])
def test_a_variable_is_the_text_that_stands_in_the_file(value: str) -> None:
    assert step_of(f"env: {{A: {value}}}").env == {"A": value}


def test_a_command_may_look_like_any_other_value() -> None:
    text = "steps: [{name: a, commands: [true, 1, '', x]}]".replace("'', ", "")
    assert parse_pipeline("p.yaml", text).spec.steps[0].commands == ("true", "1", "x")
    assert step_of("env: {A: ''}").env == {"A": ""}


def test_one_value_and_a_list_of_it_are_the_same() -> None:
    pairs = [
        ("depends_on: []", "depends_on: []"),
        ("retry: {on: lost}", "retry: [{on: [lost]}]"),
        ("artifacts: dist", "artifacts: [{path: dist}]"),
        ("when: {event: push, branch: b, path: p}", "when: [{event: [push], branch: {include: [b]}, path: [p]}]"),
    ]
    for short, long in pairs:
        assert step_of(short) == step_of(long)


def test_conditions_retries_and_artifacts_are_read() -> None:
    step = step_of(
        "when: {event: [tag, push], branch: {exclude: wip/**}, status: [failure, success]},"
        " retry: {on: [oom, 75, 'exit:69'], limit: 3, delay: 1m}, artifacts: {path: dist, name: d, expires: 7d}"
    )
    assert step.when is not None
    assert step.when[0].event == (TriggerEvent.TAG, TriggerEvent.PUSH)
    assert step.when[0].branch == GlobFilter(exclude=("wip/**",))
    assert step.when[0].status == (RunOn.FAILURE, RunOn.SUCCESS)
    assert step.retry[0].on == (
        RetryCondition(cause=StepCause.OOM),
        RetryCondition(cause=StepCause.EXIT, exit_code=75),
        RetryCondition(cause=StepCause.EXIT, exit_code=69),
    )
    assert (step.retry[0].limit, step.retry[0].delay_seconds) == (3, 60)
    assert (step.artifacts[0].name, step.artifacts[0].expires_seconds) == ("d", 7 * 86400)


def test_a_dependency_may_be_optional() -> None:
    text = "steps: [{name: a, commands: x}, {name: b, commands: x, depends_on: [a, {name: a, optional: true}]}]"
    named = parse_pipeline("p.yaml", text).spec.steps[1].depends_on
    assert named is not None
    assert [(dependency.name, dependency.optional) for dependency in named] == [("a", False), ("a", True)]


def test_every_model_of_the_file_is_known_by_the_place_where_it_stands() -> None:
    assert set(MODELS.values()) == set(FileModel.__subclasses__())
    assert keys_at(("steps", 3, "when", 0)) == ("event", "branch", "path", "status")
    assert keys_at(("steps", 3, "commands", 0)) == ()
