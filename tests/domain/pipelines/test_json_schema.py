import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from domain.pipelines.json_schema import SCHEMA_PATH, pipeline_json_schema
from domain.pipelines.read import MODELS, keys_of, parse_pipeline

SCHEMA = pipeline_json_schema()
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "default", "examples"}


class EditorLoader(yaml.SafeLoader):
    """Reads a file as editors do (YAML 1.2): ``on`` and ``yes`` are text."""


EditorLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if first in "tTfF" or tag != "tag:yaml.org,2002:bool"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def as_editors_read(text: str) -> object:
    return yaml.load(text, Loader=EditorLoader)  # noqa: S506 -- a SafeLoader with fewer types


def faults(value: Any, schema: dict[str, Any]) -> Iterator[str]:  # noqa: ANN401 -- JSON
    """A small validator of the keywords that our schema uses; a keyword that it does not know fails the test."""
    for keyword, wanted in schema.items():
        if keyword not in ANNOTATIONS and not holds(keyword, wanted, value, schema):
            yield f"{keyword}: {wanted!r:.60} does not hold for {value!r:.60}"


def holds(keyword: str, wanted: Any, value: Any, schema: dict[str, Any]) -> bool:  # noqa: ANN401, PLR0911, C901, PLR0912 -- one case per keyword
    match keyword:
        case "$ref":
            return not list(faults(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")]))
        case "anyOf":
            return any(not list(faults(value, option)) for option in wanted)
        case "type":
            return any(is_a(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted))
        case "enum":
            return value in wanted
        case "properties":
            return not isinstance(value, dict) or not any(
                list(faults(value[key], inner)) for key, inner in wanted.items() if key in value
            )
        case "required":
            return not isinstance(value, dict) or set(wanted) <= set(value)
        case "additionalProperties":
            extra = set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else set()
            return not extra if wanted is False else not any(list(faults(value[key], wanted)) for key in extra)
        case "propertyNames":
            return not isinstance(value, dict) or not any(list(faults(key, wanted)) for key in value)
        case "items":
            return not isinstance(value, list) or not any(list(faults(item, wanted)) for item in value)
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "maxItems":
            return not isinstance(value, list) or len(value) <= wanted
        case "minLength":
            return not isinstance(value, str) or len(value) >= wanted
        case "maxLength":
            return not isinstance(value, str) or len(value) <= wanted
        case "minimum":
            return not is_a(value, "number") or value >= wanted
        case "maximum":
            return not is_a(value, "number") or value <= wanted
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
    raise AssertionError(f"the schema has the keyword {keyword}, which this test does not know")


def is_a(value: object, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


REFUSED = [
    "- a",
    "name: x",
    "steps: []",
    "steps: [{name: a}]",
    "steps: [{commands: a}]",
    "steps: [{name: A, commands: x}]",
    "steps: [{name: a, commands: []}]",
    "steps: [{name: a, commands: x, comands: x}]",
    "steps: [{name: a, commands: x, image: a b}]",
    "steps: [{name: a, commands: x, timeout: soon}]",
    "steps: [{name: a, commands: x, timeout: 1h30}]",
    "steps: [{name: a, commands: x, timeout: ''}]",
    "steps: [{name: a, commands: x, timeout: null}]",
    "steps: [{name: a, commands: x, depends_on: null}]",
    "steps: [{name: a, commands: x, env: {CI: x}}]",
    "steps: [{name: a, commands: x, env: {PERDURE_A: x}}]",
    "steps: [{name: a, commands: x, env: {a-b: x}}]",
    "steps: [{name: a, commands: x, env: {A: [x]}}]",
    "steps: [{name: a, commands: x, when: {event: psh}}]",
    "steps: [{name: a, commands: x, when: {branch: {inclde: x}}}]",
    "steps: [{name: a, commands: x, retry: {limit: 1}}]",
    "steps: [{name: a, commands: x, retry: {on: exit, limit: 11}}]",
    "steps: [{name: a, commands: x, retry: {on: 256}}]",
    "steps: [{name: a, commands: x, failure: ingore}]",
    "steps: [{name: a, commands: x, artifacts: [{name: b}]}]",
    "steps: [{name: a, commands: x}]\nservices: {}",
]
ACCEPTED = [
    "steps: [{name: a, commands: x}]",
    "name: n\ntimeout: 90\nenv: {A: 1, B: true, C: x}\nsteps: [{name: a, commands: [x, y], image: 'a/b:1'}]",
    "steps: [{name: a, commands: x, timeout: 1h30m, failure: ignore, depends_on: []}]",
    "steps: [{name: a, commands: x}, {name: b, commands: x, depends_on: [a, {name: a, optional: true}]}]",
    "steps: [{name: a, commands: x, when: {event: [push, tag], branch: main, path: {include: [a], exclude: b}}}]",
    "steps: [{name: a, commands: x, when: [{branch: [a, b], status: [success, failure]}, {event: api}]}]",
    "steps: [{name: a, commands: x, retry: [{on: [lost, 75, 'exit:69'], limit: 0, delay: 10s}, {on: oom}]}]",
    "steps: [{name: a, commands: x, artifacts: [dist, {path: a, name: b, expires: 7d}]}]",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_schema_refuses_is_a_problem_of_the_file_too(text: str) -> None:
    assert list(faults(as_editors_read(text), SCHEMA))
    with pytest.raises(Exception, match="problem"):
        parse_pipeline("p.yaml", text)


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_schema_accepts_is_a_pipeline(text: str) -> None:
    assert list(faults(as_editors_read(text), SCHEMA)) == []
    parse_pipeline("p.yaml", text)


def test_the_schema_has_exactly_the_keys_of_the_models_each_described() -> None:
    objects = {
        SCHEMA["title"]: SCHEMA,
        **{name: entry for name, entry in SCHEMA["$defs"].items() if "enum" not in entry},
    }
    assert {name: set(entry["properties"]) for name, entry in objects.items()} == {
        model.__name__: set(keys_of(model)) for model in MODELS.values()
    }
    for name, entry in objects.items():
        assert entry["additionalProperties"] is False
        assert entry["description"]
        for key, inner in entry["properties"].items():
            assert inner.get("description") or name in {"GlobFilter", "PathFilter"}, f"{name}.{key}"


def test_every_example_in_the_schema_is_valid_against_its_own_place() -> None:
    for entry in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, inner in entry.get("properties", {}).items():
            for example in inner.get("examples", ()):
                assert list(faults(example, inner)) == [], f"{key}: {example}"


def test_the_schema_says_what_it_is_and_is_plain_json() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == SCHEMA_PATH
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert '"null"' not in json.dumps(SCHEMA)
