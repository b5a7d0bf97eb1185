"""The kinds of values in a pipeline file: how each is read from text, and how the JSON Schema describes it.

The YAML source gives text, lists and mappings and nothing else, so a field alone decides what its text means. Every
validator's message is the end of a sentence that begins with the field's name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from domain.pipelines.globs import GLOB_CHARACTERS_MAX, glob_fault, is_wild, path_glob_fault
from domain.pipelines.problems import closest, quoted

DAY_SECONDS = 24 * 60 * 60
TEXT_CHARACTERS_MAX = 32 * 1024
"""Of one command or environment value; a Linux process takes no single argument of 128 KiB or more."""
ENV_CHARACTERS_MAX = 64 * 1024
"""Of all names and values of one ``env``."""
EXIT_CODE_MAX = 255

_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ENV_RESERVED = re.compile(r"PERDURE(_.*)?|CI", re.ASCII)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def refusal(message: str, suggestion: str | None = None) -> PydanticCustomError:
    """The error of a value that cannot be used; ``read_pipeline`` puts the field's name and place to it."""
    # The braces of a template would be filled in by pydantic, so the message travels as a value of it.
    return PydanticCustomError("refused", "{message}", {"message": message, "suggestion": suggestion})


def parse_duration(text: str) -> int:
    """Seconds from ``90s``, ``10m``, ``1h30m``, ``7d`` or a bare number of seconds.

    Raises:
        ValueError: It is none of these.
    """
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def env_name_fault(name: str) -> str | None:
    """What is wrong with the name of an environment variable that a user sets; ``None`` if it is good."""
    if not _ENV_NAME.fullmatch(name):
        return "must have letters, digits and '_' only, and not begin with a digit"
    if _ENV_RESERVED.fullmatch(name):
        return "is set by the platform; choose another name"
    return None


def env_value_fault(value: str) -> str | None:
    """What is wrong with the value of an environment variable; ``None`` if it is good."""
    if len(value) > TEXT_CHARACTERS_MAX:
        return f"has {len(value)} characters; the limit is {TEXT_CHARACTERS_MAX}. Put it into a file of the repository"
    if _LONE_SURROGATE.search(value):
        return "is not Unicode text: it holds half of a surrogate pair"
    return "holds a NUL character" if "\0" in value else None


def artifact_name_fault(name: str) -> str | None:
    """What is wrong with the name under which an artifact is stored; ``None`` if it is good."""
    if is_wild(name):
        return "is a pattern; a name has no wildcards"
    return "ends with a slash" if name.endswith("/") else path_glob_fault(name)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        raise refusal("must be text, not a mapping; text with ': ' in it needs quotes, or a '|' and a line of its own")
    raise refusal("must be text, not a list" if isinstance(value, list) else "has no value")


def _checked(fault: Callable[[str], str | None]) -> AfterValidator:
    """Refuses text that has a fault, and quotes it."""

    def check(value: str) -> str:
        found = fault(value)
        if found is not None:
            raise refusal(f"{quoted(value)} {found}")
        return value

    return AfterValidator(check)


def _pattern(pattern: str, must: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)
    return _checked(lambda value: None if compiled.fullmatch(value) else must)


def _command(value: str) -> str:
    if not value.strip():
        raise refusal("has an empty command")
    fault = env_value_fault(value)
    if fault is not None:
        raise refusal(f"has a command that {fault}")
    return value


def _env(value: object) -> dict[str, str]:
    """Refuses what is no mapping, or too much; names and values are then checked one by one."""
    if not isinstance(value, dict):
        raise refusal("must be a mapping of names to values, as in 'MODE: fast'")
    characters = sum(len(str(name)) + len(str(content)) for name, content in value.items())
    if characters > ENV_CHARACTERS_MAX:
        raise refusal(f"has {characters} characters in all; the limit is {ENV_CHARACTERS_MAX}")
    return value


def _duration_between(least_seconds: int, most_seconds: int) -> BeforeValidator:
    def read(value: object) -> int:
        text = _text(value)
        try:
            seconds = parse_duration(text)
        except ValueError:
            raise refusal(f"must be a duration like '90s', '10m' or '1h30m', not {quoted(text)}") from None
        if not least_seconds <= seconds <= most_seconds:
            raise refusal(f"must be from {_as_duration(least_seconds)} to {_as_duration(most_seconds)}")
        return seconds

    return BeforeValidator(read)


def _as_duration(seconds: int) -> str:
    for unit, length in (("d", DAY_SECONDS), ("h", 3600), ("m", 60)):
        if seconds > length and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _duration_schema(examples: list[str]) -> WithJsonSchema:
    schema = {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {
                "type": "string",
                "pattern": r"^(?=.)(0|[1-9][0-9]{0,8}|([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?)$",
            },
        ],
        "examples": examples,
    }
    return WithJsonSchema(schema)


def whole_number(least: int, most: int) -> BeforeValidator:
    """Reads a whole number in decimal; ``012`` is refused, because YAML 1.1 and people disagree about it."""

    def read(value: object) -> int:
        text = _text(value)
        if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise refusal(f"must be a whole number from {least} to {most}, not {quoted(text)}")
        return int(text)

    return BeforeValidator(read)


def word_of(words: type[StrEnum]) -> BeforeValidator:
    """Reads one word of an enumeration, and suggests the one that was meant."""

    def read(value: object) -> str:
        text = _text(value)
        known = [word.value for word in words]
        if text not in known:
            raise refusal(f"must be one of {', '.join(known)}, not {quoted(text)}", closest(text, known))
        return text

    return BeforeValidator(read)


def _flag(value: object) -> bool:
    text = _text(value)
    if text not in {"true", "false"}:
        raise refusal(f"must be true or false, not {quoted(text)}")
    return text == "true"


@dataclass(frozen=True)
class OneOrMany:
    """Marks a list that may also be written as its only item."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 -- pydantic's protocol
        def as_list(value: object) -> object:
            return value if isinstance(value, list | tuple) else [value]

        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


@dataclass(frozen=True)
class Shorthand:
    """Marks a mapping that may also be written as the value of one of its keys.

    Attributes:
        key: Whose value it is.
        many: Whether that value may be a list too.
    """

    key: str
    many: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 -- pydantic's protocol
        def as_mapping(value: object) -> object:
            short = isinstance(value, str) or (self.many and isinstance(value, list))
            return {self.key: value} if short else value

        return core_schema.no_info_before_validator_function(as_mapping, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = {"type": "string"}
        short: list[JsonSchemaValue] = [text, {"type": "array", "items": text}] if self.many else [text]
        return {"anyOf": [*short, handler(schema)]}


_STEP_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
_PIPELINE_NAME = r"[^\x00-\x1f\x7f-\xa0\u2028\u2029]([^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,99})"
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}"

_Text = Annotated[str, BeforeValidator(_text)]
StepName = Annotated[
    _Text,
    _pattern(_STEP_NAME, "must have lower-case letters, digits, '-' and '_' only, at most 63, not '-' or '_' first"),
    Field(json_schema_extra={"pattern": f"^{_STEP_NAME}$"}),
]
PipelineName = Annotated[
    _Text,
    _pattern(_PIPELINE_NAME, "must be one line of 1 to 100 characters"),
    Field(json_schema_extra={"minLength": 1, "maxLength": 100}),
]
Image = Annotated[
    _Text,
    _pattern(_IMAGE, "is no image reference; write one like 'python:3.13' or 'registry.example.org/team/tool:1.2'"),
    Field(json_schema_extra={"pattern": f"^{_IMAGE}$"}),
]
Command = Annotated[_Text, AfterValidator(_command)]
Env = Annotated[
    dict[
        Annotated[str, _checked(env_name_fault)],
        Annotated[_Text, _checked(env_value_fault)],
    ],
    BeforeValidator(_env),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": r"^(?!PERDURE(_|$)|CI$)[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    ),
]
Glob = Annotated[
    _Text, _checked(glob_fault), Field(json_schema_extra={"minLength": 1, "maxLength": GLOB_CHARACTERS_MAX})
]
PathGlob = Annotated[
    _Text, _checked(path_glob_fault), Field(json_schema_extra={"minLength": 1, "maxLength": GLOB_CHARACTERS_MAX})
]
ArtifactName = Annotated[
    _Text, _checked(artifact_name_fault), Field(json_schema_extra={"minLength": 1, "maxLength": GLOB_CHARACTERS_MAX})
]
Timeout = Annotated[int, _duration_between(1, DAY_SECONDS), _duration_schema(["90s", "10m", "1h30m"])]
Delay = Annotated[int, _duration_between(0, 3600), _duration_schema(["10s", "5m"])]
Expiry = Annotated[int, _duration_between(60, 365 * DAY_SECONDS), _duration_schema(["7d", "30d", "365d"])]
Flag = Annotated[bool, BeforeValidator(_flag)]
