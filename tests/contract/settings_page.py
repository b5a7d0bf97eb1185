"""Writes ``docs/reference/settings.md`` from ``settings/values.py``: ``python -m tests.contract.settings_page``.

The test beside this module fails when the page and the settings differ.
"""

import inspect
import types
import typing
from datetime import timedelta
from pathlib import Path

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from settings.values import Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

Every program reads them once, at its start: from the TOML file that `PERDURE_SETTINGS` names (keep it at mode 0600, it
holds credentials), and over it from environment variables: `PERDURE_API__PORT` is `port` of the group `[api]`; lists
and tables are JSON there. `perdure up` writes the file as `settings.toml` in its directory, with its own
credentials, and keeps what you add to it. A setting that is missing or malformed ends the program with its name.

Durations are ISO 8601 (`PT90S`, `P14D`) or seconds. Sizes are bytes. A secret is never shown in an error or a log.

This page is written by `python -m tests.contract.settings_page` from `settings/values.py`.
"""

_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def _nested(annotation: object) -> type[BaseModel] | None:
    """The settings of each entry, where a setting is a table of tables."""
    if typing.get_origin(annotation) is not dict:
        return None
    inner = typing.get_args(annotation)[1]
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _kind(annotation: object) -> str:
    """What one may write, for a person."""
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not type(None))
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"table of {_kind(arguments[1])}" if _nested(annotation) is None else "a table for each"
    if annotation is SecretStr:
        return "secret text"
    if annotation is timedelta:
        return "duration"
    assert isinstance(annotation, type)
    return _KINDS[annotation]


def _bounds(field: FieldInfo) -> str:
    bounds = {type(one): one for one in field.metadata}
    least, most = bounds.get(annotated_types.Ge), bounds.get(annotated_types.Le)
    words = []
    if isinstance(least, annotated_types.Ge):
        words.append(f"at least {least.ge}")
    if isinstance(most, annotated_types.Le):
        words.append(f"at most {most.le}")
    return ", ".join(words)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "**required**"
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        return f"`PT{seconds}S`" if seconds % 86_400 else f"`P{seconds // 86_400}D`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 1024**2:
        return f"`{value}` ({value // 1024**2} MiB)"
    return f"`{value}`" if value != "" else "empty"


def _rows(group: type[BaseModel]) -> list[str]:
    rows = ["| setting | what it takes | default | meaning |", "|---|---|---|---|"]
    for name, field in group.model_fields.items():
        takes = ", ".join(part for part in (_kind(field.annotation), _bounds(field)) if part)
        meaning = field.description or ""
        assert meaning, f"{group.__name__}.{name} has no description"
        rows.append(f"| `{name}` | {takes} | {_default(field)} | {meaning[0].upper()}{meaning[1:]} |")
    return rows


def page() -> str:
    """The page as the code stands."""
    lines = [HEAD]
    for name, field in Settings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type)
        assert issubclass(group, BaseModel)
        lines += [f"## `[{name}]`", "", inspect.getdoc(group) or "", "", *_rows(group), ""]
        for key, inner in group.model_fields.items():
            entry = _nested(inner.annotation)
            if entry is not None:
                heading = f"## `[{name}.{key}.NAME]`"
                lines += [heading, "", inspect.getdoc(entry) or "", "", *_rows(entry), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
