import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pipelines.globs import glob_fault, glob_matches, literal_directory, path_glob_fault, path_glob_matches


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("", "is empty"),
        ("x" * 257, "longer than 256"),
        ("a\0b", "NUL"),
        ("{a,b}", "braces"),
        ("a**", "next to other characters"),
        ("a/**b/c", "next to other characters"),
        ("a[bc", "without its ']'"),
        ("[a/b]", "without its ']'"),
        ("a[]", "without its ']'"),
        ("[!]", "without its ']'"),
    ],
)
def test_a_pattern_that_cannot_mean_what_it_says_is_faulted(pattern: str, fault: str) -> None:
    assert fault in (glob_fault(pattern) or "")
    assert fault in (path_glob_fault(pattern) or "")


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("/etc/passwd", "absolute"),
        ("../x", "'..'"),
        ("a/../../x", "'..'"),
        ("a/..", "'..'"),
        ("./../x", "'..'"),
        ("a//b", "empty segment"),
        ("a/./b", "empty segment or '.'"),
        (".", "empty segment or '.'"),
        ("./", "empty segment"),
    ],
)
def test_a_pattern_of_files_stays_below_the_root(pattern: str, fault: str) -> None:
    assert fault in (path_glob_fault(pattern) or "")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("main", "main2", False),
        ("release/*", "release/1.2", True),
        ("release/*", "release/1/2", False),
        ("release/*", "release", False),
        ("*", ".hidden", True),
        ("*", "a/b", False),
        ("**", "a/b/c", True),
        ("**/*.py", "a.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("**/*.py", "a/b/c.pyc", False),
        ("src/**/test/*.py", "src/test/a.py", True),
        ("src/**/test/*.py", "src/a/test/b/test/c.py", True),
        ("src/**/test/*.py", "src/a/test/b/c.py", False),
        ("**/a/**/b/**", "x/a/y/b/z", True),
        ("**/a/**/b/**", "x/b/y/a/z", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("v[0-9].*", "v1.2", True),
        ("v[!0-9].*", "v1.2", False),
        ("[]]", "]", True),
        ("a[*]b", "a*b", True),
        ("a[*]b", "axb", False),
        ("a.b", "axb", False),
        ("a+b(c)|d$", "a+b(c)|d$", True),
        ("dist/**", "dist", True),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, path: str, expected: bool) -> None:
    assert glob_fault(pattern) is None
    assert glob_matches(pattern, path) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("dist", "dist/a/b.txt", True),
        ("dist/", "dist/a", True),
        ("./dist", "dist", True),
        ("dist", "dist2/a", False),
        ("*/out", "a/out/b", True),
        ("dist/*.whl", "dist/a.whl", True),
        ("dist/*.whl", "dist/sub/a.whl", False),
    ],
)
def test_a_pattern_of_files_means_all_below_a_directory_too(pattern: str, path: str, expected: bool) -> None:
    assert path_glob_fault(pattern) is None
    assert path_glob_matches(pattern, path) is expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 127 + "b", "a" * 4000),
        ("**/a/" * 50 + "b", "a/" * 2000 + "c"),
        ("**/" + "*a/" * 80 + "**/b", "a/" * 2000),
    ],
)
def test_a_hostile_pattern_costs_little(pattern: str, path: str) -> None:
    started = time.process_time()
    assert not path_glob_matches(pattern, path)
    assert time.process_time() - started < 0.5


def test_the_literal_directory_ends_before_the_first_wildcard() -> None:
    assert [literal_directory(p) for p in ("*.log", "a.txt", "a/b/*.log", "./a/**/b", "a*/b/c", "a/b/")] == [
        "",
        "",
        "a/b/",
        "a/",
        "",
        "a/",
    ]


def matches_by_trying_everything(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(matches_by_trying_everything(pattern[1:], path[taken:]) for taken in range(len(path) + 1))
    simple = re.escape(pattern[0]).replace(r"\*", ".*").replace(r"\?", ".")
    return bool(path) and bool(re.fullmatch(simple, path[0])) and matches_by_trying_everything(pattern[1:], path[1:])


@given(
    st.lists(st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=4)), min_size=1, max_size=5),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=6),
)
def test_the_fast_matcher_agrees_with_one_that_tries_everything(pattern: list[str], path: list[str]) -> None:
    written = "/".join(pattern)
    if glob_fault(written) is None:
        assert glob_matches(written, "/".join(path)) is matches_by_trying_everything(pattern, path)
