"""The reference of the pipeline file tells the truth: its examples are pipelines, and no key or limit is missing."""

import re
from pathlib import Path

import pytest

from domain.pipelines import fields, files, globs, plan, source, spec
from domain.pipelines.outline import RunOn
from domain.pipelines.read import MODELS, keys_of, parse_pipeline
from tests.domain.pipelines.test_json_schema import SCHEMA, as_editors_read, faults

REFERENCE = (Path(__file__).parents[3] / "docs/reference/pipelines.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_pipeline_to_the_parser_and_to_the_schema(example: str) -> None:
    parse_pipeline(".platform.yaml", example)
    assert list(faults(as_editors_read(example), SCHEMA)) == []


@pytest.mark.parametrize("word", sorted({key for model in MODELS.values() for key in keys_of(model)}))
def test_every_key_is_explained(word: str) -> None:
    assert f"`{word}`" in REFERENCE or f"`{word}:" in REFERENCE


@pytest.mark.parametrize(
    "word", [*spec.TriggerEvent, *spec.FailurePolicy, *RunOn, *(cause.value for cause in spec.RETRY_CAUSES)]
)
def test_every_word_that_a_value_may_be_is_explained(word: str) -> None:
    assert f"`{word}`" in REFERENCE


@pytest.mark.parametrize(
    "limit",
    [
        source.SIZE_BYTES_MAX,
        source.DEPTH_MAX,
        source.NODES_MAX,
        source.CHARACTERS_EXPANDED_MAX,
        spec.STEPS_MAX,
        spec.COMMANDS_MAX,
        spec.GLOBS_MAX,
        spec.PATH_GLOB_CHARACTERS_MAX,
        spec.RETRY_RULES_MAX,
        spec.RETRY_LIMIT_MAX,
        globs.GLOB_CHARACTERS_MAX,
        fields.TEXT_CHARACTERS_MAX,
        fields.ENV_CHARACTERS_MAX,
        files.FILES_MAX,
        plan.CHANGED_PATHS_MAX,
        plan.CHANGED_CHARACTERS_MAX,
    ],
)
def test_every_limit_is_named(limit: int) -> None:
    assert re.search(rf"(?<![\d,]){limit:,}(?![\d,]\d)", REFERENCE)
