"""The house keeps its own rules: sizes, names, no shadowing. A rule that is broken says how to mend it."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "activities", "adapters", "api", "bench", "cli", "database", "deploy", "domain", "migrations", "settings",
    "temporal", "tests", "worker", "workflows",
)  # fmt: skip
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
# A first migration lists every column: splitting it would hide the schema, not clarify it.
LONG_FUNCTIONS_ALLOWED = {
    (f"migrations/versions/{migration}.py", "_create_tables")
    for migration in ("0001_spine", "0002_access", "0003_credentials")
}
NAMES_REFUSED = {"utils", "common", "helpers", "schemas", "misc", "services_layer"}
FOLDERS_REFUSED = {"services", "utils", "common", "helpers"}


def tracked(suffix: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"*{suffix}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


PYTHON_FILES = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in PACKAGES]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    assert len(PYTHON_FILES) > 50


def test_no_file_is_too_long() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in PYTHON_FILES if (lines := _lines(path)) > FILE_LINES_MAX}
    assert not long, f"make a package of the same name of each: {long}"


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_function_is_too_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in PYTHON_FILES
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
        and (str(path.relative_to(ROOT)), function.name) not in LONG_FUNCTIONS_ALLOWED
    ]
    assert not long, f"keep the branching in the parent and move the leaves out: {long}"


def test_names_say_what_a_file_is_about() -> None:
    bad = [
        str(path.relative_to(ROOT))
        for path in PYTHON_FILES
        if path.stem in NAMES_REFUSED or FOLDERS_REFUSED & set(path.relative_to(ROOT).parts[:-1])
    ]
    assert not bad, f"name them after their feature: {bad}"


def test_no_installed_package_is_shadowed() -> None:
    ours = set(PACKAGES)
    installed = {
        name
        for name, distributions in importlib.metadata.packages_distributions().items()
        if set(distributions) != {"perdure"}
    }
    assert not ours & installed, "an installed distribution has a top-level package of the same name"
    assert not ours & set(sys.stdlib_module_names), "a module of the standard library has the same name"


@pytest.mark.parametrize("suffix", [".py", ".md", ".toml", ".html", ".js", ".css", ".sh"])
def test_nothing_is_left_to_do_and_no_path_of_a_machine_is_written(suffix: str) -> None:
    refused = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "/wo" + "rk/main", "/wo" + "rk/shared")
    vendored = ROOT / "api" / "static" / "vendor"
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked(suffix)
        if vendored not in path.parents
        for word in refused
        if word in path.read_text(errors="replace")
    ]
    assert not found


def test_workflow_files_have_their_activities_tests_and_reference() -> None:
    for workflow in (ROOT / "workflows").glob("*.py"):
        feature = workflow.stem
        if feature == "__init__":
            continue
        here = [ROOT / "activities" / feature, ROOT / "activities" / f"{feature}.py"]
        assert any(place.exists() for place in here), f"activities/{feature} is missing"
        assert (ROOT / "docs" / "reference" / f"{feature}.md").exists(), f"docs/reference/{feature}.md is missing"
        tests = [ROOT / "tests" / "workflows" / f"test_{feature}.py", ROOT / "tests" / "workflows" / feature]
        assert any(place.exists() for place in tests), f"tests/workflows/test_{feature}.py is missing"
