import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import domain
from domain.errors import InvalidPipeline
from domain.pipelines.problems import Problem
from domain.pipelines.source import (
    CHARACTERS_EXPANDED_MAX,
    DEPTH_MAX,
    NODES_MAX,
    SIZE_BYTES_MAX,
    Items,
    Mapping,
    Scalar,
    read_source,
)

ALIAS_BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
TEXT_BOMB = b"a: &a '" + b"x" * 100_000 + b"'\nb: [" + b"*a, " * 5000 + b"x]\n"

REFUSED = [
    (b"", 1, 1, "the file is empty"),
    (b"# only a comment\n", 1, 1, "the file is empty"),
    (b"a: \xe9", 1, 4, "byte 0xe9 is not UTF-8"),
    ("über: x\n".encode() + b"b: \xff", 2, 4, "byte 0xff is not UTF-8"),
    (b"\xff\xfea\x00", 1, 1, "UTF-16"),
    (b"a: b\nc: d\0", 2, 5, "a NUL character"),
    (b"a: \x1b[31m", 1, 4, "the control character U+001B"),
    (b"a:\n\t- b", 2, 1, "a tab stands where YAML wants spaces"),
    (b"a: 'x", 1, 6, "not valid YAML"),
    (b"a: [x", 2, 1, "did not find expected ',' or ']'"),
    (b"- echo a: b: c", 1, 12, "quote it or write it below a '|'"),
    (b'a: "\\ud800"', 1, 7, "invalid Unicode character escape code"),
    (b"%YAML 3.0\n---\na: b", 1, 1, "not valid YAML"),
    (b"--- a\n--- b", 2, 1, "a second document begins"),
    (b"a: *b", 1, 4, "'*b' names no anchor"),
    (b"a: &a [*a]", 1, 8, "'*a' stands inside itself"),
    (b"x: " + b"[" * 100_000, 1, 3 + DEPTH_MAX, "nested deeper than 20 levels"),
    (b"{" * 100_000, 1, 1 + DEPTH_MAX, "nested deeper than 20 levels"),
    (b"- " * 100_000, 1, 1 + 2 * DEPTH_MAX, "nested deeper than 20 levels"),
    (b"a: &a [[[[[[[[[[[x]]]]]]]]]]]\nb: [[[[[[[[[[*a]]]]]]]]]]", 2, 14, "once aliases are expanded"),
    (b"- x\n" * (NODES_MAX + 1), NODES_MAX + 1, 3, f"more than {NODES_MAX} values"),
    (ALIAS_BOMB, 5, 10, f"more than {NODES_MAX} values once aliases are expanded"),
    (TEXT_BOMB, 2, 41, f"more than {CHARACTERS_EXPANDED_MAX} characters once aliases are expanded"),
    (b"a" * (SIZE_BYTES_MAX + 1), 1, 1, f"the limit is {SIZE_BYTES_MAX}"),
    (b"a: [" + b"x, " * 350_000 + b"]", 1, 1, f"has 1050005 bytes; the limit is {SIZE_BYTES_MAX}"),
]

REPORTED = [
    (b"a: 1\nb: 2\na: 3", 3, 1, "the key 'a' stands twice; first in line 1"),
    (b"a: !!python/object/apply:os.system [x]", 1, 4, "python/object/apply:os.system' is not allowed"),
    (b"a: !custom x", 1, 4, "the tag '!custom' is not allowed"),
    (b"a: ! x", 1, 4, "the tag '!' is not allowed"),
    (b"a: !<tag:yaml.org,2002:str> x", 1, 4, "the tag"),
    (b"a:\n  {{ b }}: c", 2, 4, "a key must be text"),
    (b"? [a]\n: b", 1, 3, "a key must be text"),
    (b"<<: x", 1, 1, "'<<' merges mappings"),
    (b"a: &a [x]\n<<: [*a]", 2, 1, "'<<' merges mappings"),
]


def only_problem(data: bytes) -> Problem:
    with pytest.raises(InvalidPipeline) as raised:
        read_source(data, "p.yaml")
    problems = raised.value.details["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 1
    return Problem.model_validate(problems[0])


@pytest.mark.parametrize(("data", "line", "column", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_text_that_has_no_meaning_or_is_too_much_is_refused_at_its_place(
    data: bytes, line: int, column: int, message: str
) -> None:
    problem = only_problem(data)
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


@pytest.mark.parametrize("data", [ALIAS_BOMB, TEXT_BOMB, b"a" * 1024 * 1024, b"[" * SIZE_BYTES_MAX, b"- " * 131_072])
def test_hostile_text_is_refused_in_a_fraction_of_a_second(data: bytes) -> None:
    started = time.process_time()
    only_problem(data)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(("data", "line", "column", "message"), REPORTED, ids=lambda value: str(value)[:30])
def test_a_problem_that_hides_no_others_is_reported_beside_the_tree(
    data: bytes, line: int, column: int, message: str
) -> None:
    tree, problems = read_source(data, "p.yaml")
    assert isinstance(tree, Mapping)
    assert any((p.line, p.column) == (line, column) and message in p.message for p in problems)


@pytest.mark.parametrize("text", ["on", "yes", "012", "1:30", "2026-01-01", "1_000", "0x1f", ".inf", "1e3", "3.10"])
def test_a_scalar_is_the_text_that_stands_in_the_file(text: str) -> None:
    tree, problems = read_source(f"{text}: {text}".encode(), "p.yaml")
    assert isinstance(tree, Mapping)
    key, value = tree.entries[text]
    assert isinstance(value, Scalar)
    assert (key.text, value.text, value.is_null, problems) == (text, text, False, [])


@pytest.mark.parametrize(
    ("written", "is_null"), [("", True), ("~", True), ("null", True), ('""', False), ("'null'", False), ("nil", False)]
)
def test_only_a_plain_null_is_no_value(written: str, is_null: bool) -> None:
    tree, _ = read_source(f"a: {written}".encode(), "p.yaml")
    assert isinstance(tree, Mapping)
    value = tree.entries["a"][1]
    assert isinstance(value, Scalar)
    assert value.is_null is is_null


def test_places_are_counted_in_characters_from_one_and_a_byte_order_mark_counts_nothing() -> None:
    tree, _ = read_source(b"\xef\xbb\xbf" + "ä: [ö, x]\nb:\n  - c: d".encode(), "p.yaml")
    assert tree == Mapping(
        {
            "ä": (Scalar("ä", True, 1, 1), Items((Scalar("ö", True, 1, 5), Scalar("x", True, 1, 8)), 1, 4)),
            "b": (
                Scalar("b", True, 2, 1),
                Items((Mapping({"c": (Scalar("c", True, 3, 5), Scalar("d", True, 3, 8))}, 3, 5),), 3, 3),
            ),
        },
        1,
        1,
    )


def test_own_keys_win_over_merged_ones_and_earlier_merged_ones_over_later() -> None:
    data = b"a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}"
    tree, problems = read_source(data, "p.yaml")
    assert isinstance(tree, Mapping)
    merged = tree.entries["c"][1]
    assert isinstance(merged, Mapping)
    values = {key: value.text for key, (_, value) in merged.entries.items() if isinstance(value, Scalar)}
    assert (values, problems) == ({"x": "3", "y": "1", "z": "2"}, [])


def test_a_file_at_its_limits_is_read() -> None:
    nested = b"x: " + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1)
    assert read_source(nested, "p.yaml")[1] == []
    assert read_source(b"- x\n" * (NODES_MAX - 1), "p.yaml")[1] == []
    assert read_source(b"a: " + b"x" * (SIZE_BYTES_MAX - 3), "p.yaml")[1] == []


def test_only_one_module_of_domain_imports_yaml() -> None:
    root = Path(domain.__path__[0])
    importers = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "yaml" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "yaml")
    }
    assert importers == {"pipelines/source.py"}


def test_without_libyaml_the_import_fails_and_says_so() -> None:
    program = "import yaml; yaml.__with_libyaml__ = False; import domain.pipelines.source"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "ImportError: PyYAML is here without libyaml" in ended.stderr
