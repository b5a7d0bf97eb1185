import pytest

from domain.pipelines.problems import PROBLEMS_SHOWN_MAX, Problem, closest, invalid_pipeline, quoted


def test_a_problem_is_one_line_that_editors_can_follow() -> None:
    problem = Problem(path=".platform.yaml", line=4, column=3, message="unknown key 'comands' in step 'a'")
    assert problem.render() == ".platform.yaml:4:3: unknown key 'comands' in step 'a'"
    meant = problem.model_copy(update={"suggestion": "commands"})
    assert meant.render() == ".platform.yaml:4:3: unknown key 'comands' in step 'a'; did you mean 'commands'?"


def test_the_error_has_each_problem_once_in_the_order_of_the_file() -> None:
    late, early = (Problem(path="p", line=line, column=1, message="m") for line in (9, 2))
    error = invalid_pipeline("p", [late, early, late])
    assert error.details == {"problems": [early.model_dump(), late.model_dump()]}
    assert "2 problems" in error.message
    assert error.message.splitlines()[1:] == ["p:2:1: m", "p:9:1: m"]


def test_too_many_problems_are_counted_not_listed() -> None:
    error = invalid_pipeline("p", [Problem(path="p", line=n, column=1, message="m") for n in range(1, 2001)])
    problems = error.details["problems"]
    assert isinstance(problems, list)
    assert len(problems) == PROBLEMS_SHOWN_MAX + 1
    assert problems[-1]["message"] == f"and {2000 - PROBLEMS_SHOWN_MAX} more problems from here on"
    assert problems[-1]["line"] == PROBLEMS_SHOWN_MAX + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", "'a'"), ("a\nb\0\x1b[1m", r"'a\nb\x00\x1b[1m'"), ("ü", "'ü'"), ("x" * 61, "'" + "x" * 59 + "…'")],
)
def test_quoted_text_is_safe_and_short(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_only_a_near_word_is_suggested() -> None:
    assert closest("Comands", ["commands", "env"]) == "commands"
    assert closest("zzz", ["commands", "env"]) is None
    assert closest("c" * 100_000, ["commands"]) is None
