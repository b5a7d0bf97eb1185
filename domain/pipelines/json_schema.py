"""The JSON Schema of a pipeline file, for editors: made of the models that validate it, so it cannot fall behind."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from domain.pipelines.spec import PipelineSpec

SCHEMA_PATH = "/schemas/pipeline.json"


class _FileSchema(GenerateJsonSchema):
    """Leaves out the titles that only repeat the keys."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 -- pydantic's protocol
        return False


def pipeline_json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of ``.platform.yaml``, with descriptions and examples, to be served at its id.

    It tells an editor what may stand where. What one value must be to another (unique names, dependencies that exist,
    limits in all) only ``parse_pipeline`` knows.
    """
    described = PipelineSpec.model_json_schema(by_alias=True, schema_generator=_FileSchema)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": SCHEMA_PATH,
        **_without_null(described),
    }


def _without_null(value: Any) -> Any:  # noqa: ANN401 -- JSON
    """Takes ``null`` out of the alternatives: in the models it means "not given", in the file it is a problem."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_null(item) for key, item in value.items() if not (key == "default" and item is None)}
    alternatives = kept.get("anyOf")
    if isinstance(alternatives, list) and {"type": "null"} in alternatives:
        rest = [entry for entry in alternatives if entry != {"type": "null"}]
        del kept["anyOf"]
        kept = {**kept, **rest[0]} if len(rest) == 1 else {**kept, "anyOf": rest}
    return kept
