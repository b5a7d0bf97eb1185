import pytest

from domain.pipelines.files import FILES_MAX, default_name, pipeline_files, skip_requested


def test_a_file_that_only_looks_like_a_pipeline_is_told() -> None:
    chosen = pipeline_files([".platform.yml", ".platform/a.yml", ".platform/b.YAML", ".platform/.yaml"])
    assert chosen.paths == ()
    assert [problem.path for problem in chosen.problems] == [
        ".platform.yml",
        ".platform/.yaml",
        ".platform/a.yml",
        ".platform/b.YAML",
    ]
    assert "rename it to .platform.yaml" in chosen.problems[0].message


def test_files_beyond_the_limit_are_told_not_dropped() -> None:
    listing = [f".platform/{n:02}.yaml" for n in range(FILES_MAX + 2)]
    chosen = pipeline_files(listing)
    assert chosen.paths == tuple(listing[:FILES_MAX])
    assert [problem.path for problem in chosen.problems] == listing[FILES_MAX:]


def test_the_root_file_and_those_directly_in_the_directory_are_chosen_in_order() -> None:
    listing = [
        "src/.platform.yaml",
        ".platform/z.yaml",
        ".platform/a.yaml",
        ".platform/deep/x.yaml",
        ".platform/README.md",
        ".platform.yaml",
        ".platform.yaml.bak",
        "platform.yaml",
        "README.md",
    ]
    chosen = pipeline_files(listing)
    assert chosen.paths == (".platform.yaml", ".platform/a.yaml", ".platform/z.yaml")
    assert chosen.problems == ()


@pytest.mark.parametrize(
    ("path", "name"), [(".platform.yaml", "platform"), (".platform/a.b.yaml", "a.b"), (".platform/.x.yaml", "x")]
)
def test_a_pipeline_is_called_like_its_file(path: str, name: str) -> None:
    assert default_name(path) == name


@pytest.mark.parametrize(
    ("message", "options", "expected"),
    [
        ("Fix", [], False),
        ("Skip ci", [], False),
        ("[skip cinema]", [], False),
        ("Fix", ["ci.skipped", "ci.skip=false", "other"], False),
        ("Docs [skip ci]", [], True),
        ("Docs\n\nbody [CI Skip] more", [], True),
        ("[no-ci]", [], True),
        ("[skip pipeline]", [], True),
        ("Fix", ["other", "ci.skip"], True),
        ("Fix", ["CI.SKIP=true"], True),
    ],
)
def test_a_push_can_ask_for_no_pipeline(message: str, options: list[str], expected: bool) -> None:
    assert skip_requested(message, options) is expected
