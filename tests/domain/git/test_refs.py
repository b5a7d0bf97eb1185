import pytest

from domain.git.refs import (
    are_in_each_others_way,
    branch_of,
    is_sha,
    pushable_ref_problem,
    ref_name_problem,
    revision_problem,
    short_name,
    tag_of,
)


@pytest.mark.parametrize(
    "name",
    [
        "", "main", "refs/", "refs/heads/", "refs/heads//x", "refs/heads/x/", "refs/heads/.x", "refs/heads/x.lock",
        "refs/heads/x.lock/y", "refs/heads/a..b", "refs/heads/a b", "refs/heads/a~b", "refs/heads/a^b",
        "refs/heads/a:b", "refs/heads/a?b", "refs/heads/a*b", "refs/heads/a[b", "refs/heads/a\\b", "refs/heads/a@{b",
        "refs/heads/a.", "refs/heads/a\x00b", "refs/heads/a\nb", "refs/heads/a\x7fb", "refs/heads/../../config",
        "refs/heads/" + "x" * 300, "refs/heads/" + "é" * 130, "refs/heads/" + "ab/" * 400 + "x", "refs/heads/\udcff",
    ],
)  # fmt: skip
def test_a_malformed_ref_name_is_told_why(name: str) -> None:
    assert ref_name_problem(name)
    assert pushable_ref_problem(name)


@pytest.mark.parametrize(
    "name",
    ["refs/notes/commits", "refs/pull/1/head", "refs/replace/x", "refs/heads/-x", "refs/tags/-d", "refs/heads/HEAD"],
)
def test_only_sensible_branches_and_tags_may_be_pushed(name: str) -> None:
    assert pushable_ref_problem(name)


@pytest.mark.parametrize(
    "name", ["refs/heads/main", "refs/heads/feature/a-b_c.d", "refs/tags/v1.0", "refs/heads/ünïcödé"]
)
def test_ordinary_names_may_be_pushed(name: str) -> None:
    assert pushable_ref_problem(name) is None


@pytest.mark.parametrize("text", ["", "-x", "--upload-pack=x", "main~1", "a..b", "@{1}", ":path", "HEAD^{tree}", "a b"])
def test_options_and_expressions_are_no_revisions(text: str) -> None:
    assert revision_problem(text)


@pytest.mark.parametrize("text", ["main", "v1.0", "refs/heads/main", "a" * 40, "feature/x"])
def test_names_are_revisions(text: str) -> None:
    assert revision_problem(text) is None


def test_the_parts_of_a_name() -> None:
    assert short_name("refs/heads/a/b") == "a/b"
    assert short_name("refs/tags/v1") == "v1"
    assert short_name("refs/heads/refs/tags/x") == "refs/tags/x"
    assert (branch_of("refs/heads/x"), tag_of("refs/heads/x")) == ("x", None)
    assert (branch_of("refs/tags/x"), tag_of("refs/tags/x")) == (None, "x")
    assert is_sha("0" * 40)
    assert not is_sha("A" * 40)
    assert not is_sha("0" * 39)


def test_a_ref_is_in_the_way_of_those_below_it() -> None:
    assert are_in_each_others_way("refs/heads/a", "refs/heads/a")
    assert are_in_each_others_way("refs/heads/a", "refs/heads/a/b")
    assert are_in_each_others_way("refs/heads/a/b", "refs/heads/a")
    assert not are_in_each_others_way("refs/heads/a", "refs/heads/ab")
