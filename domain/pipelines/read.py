"""A pipeline file to its specification, or to all of its problems at once.

Three passes over one tree add to one list: the YAML source (duplicate keys, tags), the models of ``spec.py`` (keys and
values), and the dependencies between steps, which are looked at even where other parts of the steps are wrong. Only
then is a file that has problems refused.
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from domain.pipelines.dependencies import check_dependencies, check_reachable
from domain.pipelines.problems import PROBLEMS_SHOWN_MAX, Problem, closest, invalid_pipeline, quoted
from domain.pipelines.source import Items, Mapping, Node, Scalar, read_source
from domain.pipelines.spec import (
    COMMANDS_MAX,
    PATH_GLOB_CHARACTERS_MAX,
    ArtifactSpec,
    Dependency,
    GlobFilter,
    PathFilter,
    PipelineFile,
    PipelineSpec,
    RetrySpec,
    StepSpec,
    WhenSpec,
)

MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): PipelineSpec,
    ("steps",): StepSpec,
    ("steps", "depends_on"): Dependency,
    ("steps", "when"): WhenSpec,
    ("steps", "when", "branch"): GlobFilter,
    ("steps", "when", "path"): PathFilter,
    ("steps", "retry"): RetrySpec,
    ("steps", "artifacts"): ArtifactSpec,
}
"""Which model describes the mapping that stands under these keys."""

_NOT_SUPPORTED = {
    "services": "services are not supported yet; start what you need in the step's own commands",
    "privileged": "a step cannot be privileged",
    "volumes": "a step cannot mount volumes; all steps of a run share its workspace",
    "include": "a file cannot include others; YAML anchors and '<<' work inside one file",
}
_OTHER_WORDS = {
    "script": "commands",
    "run": "commands",
    "cmd": "commands",
    "needs": "depends_on",
    "requires": "depends_on",
    "environment": "env",
    "variables": "env",
    "if": "when",
    "only": "when",
    "rules": "when",
    "allow_failure": "failure",
    "continue-on-error": "failure",
    "container": "image",
    "jobs": "steps",
    "pipeline": "steps",
    "stages": "steps",
    "expire_in": "expires",
    "paths": "path",
    "branches": "branch",
}
"""What other systems call a key, for the suggestion."""

Location = tuple[str | int, ...]


def parse_pipeline(path: str, data: bytes | str) -> PipelineFile:
    """Reads a pipeline file.

    Args:
        path: Where it stands in the repository; named in each problem.
        data: The file's content.

    Raises:
        InvalidPipeline: The file cannot be used; ``details['problems']`` lists every problem, each with ``path``,
            ``line``, ``column``, ``message`` and ``suggestion``.
    """
    # A lone surrogate cannot come from a file; as bytes it is refused like all that is not UTF-8.
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    root, problems = read_source(raw, path)
    reader = _Reader(root, path, problems)
    plain = reader.plain(root, ())
    check_dependencies(root, path, problems)
    spec: PipelineSpec | None = None
    try:
        spec = PipelineSpec.model_validate(plain)
    except ValidationError as error:
        for entry in error.errors(include_url=False, include_input=False):
            reader.add(entry["type"], entry["loc"], entry.get("ctx", {}), entry["msg"])
    if spec is not None:
        check_reachable(spec, root, path, problems)
        reader.check_path_globs(spec)
    if spec is None or problems:
        raise invalid_pipeline(path, problems)
    return PipelineFile(path, spec)


class _Reader:
    """Turns places in the models back into places in the file."""

    def __init__(self, root: Node, path: str, problems: list[Problem]) -> None:
        self.root = root
        self.path = path
        self.problems = problems

    def plain(self, node: Node, location: Location) -> object:
        """The tree as ``dict``, ``list``, ``str`` and ``None``; a key without a value is a problem and left out."""
        if isinstance(node, Scalar):
            return None if node.is_null else node.text
        if isinstance(node, Items):
            # One item too many is enough for the models to refuse the list, and thousands would cost.
            items = node.items[: COMMANDS_MAX + 1]
            return [self.plain(item, (*location, index)) for index, item in enumerate(items)]
        values: dict[str, object] = {}
        for text, (_, value) in node.entries.items():
            here = (*location, text)
            if isinstance(value, Scalar) and value.is_null:
                advice = (
                    'write "" for an empty text' if location[-1:] == ("env",) else "give it one, or leave the key out"
                )
                self._problem(value, f"{self._name(here)} has no value; {advice}")
            else:
                values[text] = self.plain(value, here)
        return values

    def add(self, kind: str, location: Location, context: dict[str, Any], fallback: str) -> None:
        """Adds the problem for one error of the models."""
        node, key, resolved = self._resolve(location[:-1] if kind == "missing" else location)
        if kind == "extra_forbidden":
            self._unknown_key(key or node, resolved)
        elif kind == "missing":
            missing = str(location[-1])
            if not (isinstance(node, Mapping) and missing in node.entries):  # There, but without a value: told already.
                self._problem(node, f"{self._name(resolved)} needs '{missing}'")
        elif kind == "refused":
            at = key if location[-1:] == ("[key]",) and key is not None else node
            colon = ":" if context["message"].startswith("'") else ""
            self._problem(at, f"{self._name(resolved)}{colon} {context['message']}", context["suggestion"])
        elif kind != "too_short" or (isinstance(node, Items) and not node.items):  # Pydantic counts good items only.
            self._problem(node, f"{self._name(resolved)} {_sentence_end(kind, context, fallback)}")

    def check_path_globs(self, spec: PipelineSpec) -> None:
        """Keeps the work of matching changed files small."""
        filters = [clause.path for step in spec.steps for clause in step.when or ()]
        characters = sum(len(pattern) for path in filters for pattern in (*path.include, *path.exclude))
        if characters > PATH_GLOB_CHARACTERS_MAX:
            limit = f"the limit is {PATH_GLOB_CHARACTERS_MAX}"
            self._problem(self.root, f"all patterns of 'when.path' together have {characters} characters; {limit}")

    def _problem(self, node: Node, message: str, suggestion: str | None = None) -> None:
        problem = Problem(path=self.path, line=node.line, column=node.column, message=message, suggestion=suggestion)
        self.problems.append(problem)

    def _unknown_key(self, node: Node, location: Location) -> None:
        key = str(location[-1])
        where = self._name(location[:-1])
        if key in _NOT_SUPPORTED:
            self._problem(node, f"{_NOT_SUPPORTED[key]} (the key '{key}' in {where})")
            return
        known = keys_at(location[:-1])
        other = _OTHER_WORDS.get(key.casefold())
        suggestion = other if other in known else None
        if (
            suggestion is None and len(self.problems) < PROBLEMS_SHOWN_MAX
        ):  # Comparing costs; what is hidden needs none.
            suggestion = closest(key, known)
        message = f"unknown key {quoted(key)} in {where}"
        if len(location) == 1 and key in keys_of(StepSpec):
            message, suggestion = f"{message}; it belongs in a step", None
        self._problem(node, message, suggestion)

    def _resolve(self, location: Location) -> tuple[Node, Scalar | None, Location]:
        """The deepest node of the file on the way, its key, and the part of the location that the file really has.

        The models see a list where the file may have its only item, and a mapping where it may have a shorthand.
        """
        node, key, resolved = self.root, None, []
        for part in location:
            if isinstance(node, Mapping) and part in node.entries:
                key, node = node.entries[str(part)]
            elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
                node, key = node.items[part], None
            else:
                continue
            resolved.append(part)
        return node, key, tuple(resolved)

    def _name(self, location: Location) -> str:
        """What people call this place: "the file", "step 'test'", "'when.branch' of step 'test'"."""
        keys = ".".join(
            part if part.isprintable() else quoted(part)[1:-1] for part in location if isinstance(part, str)
        )
        if location[:1] != ("steps",) or len(location) == 1:
            return f"'{_short(keys)}'" if location else "the file"
        step = self._step_name(location[1])
        rest = keys.removeprefix("steps").removeprefix(".")
        return f"'{_short(rest)}' of {step}" if rest else step

    def _step_name(self, index: str | int) -> str:
        steps = self.root.entries["steps"][1] if isinstance(self.root, Mapping) else self.root
        if isinstance(steps, Items) and isinstance(index, int):
            step = steps.items[index]
            name = step.entries.get("name", (None, None))[1] if isinstance(step, Mapping) else None
            if isinstance(name, Scalar) and not name.is_null:
                return f"step {quoted(name.text)}"
            return f"step {index + 1}"
        return "'steps'"


def _short(text: str) -> str:
    return quoted(text)[1:-1]


def _sentence_end(kind: str, context: dict[str, Any], fallback: str) -> str:
    """What pydantic's own errors mean for a pipeline file."""
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return "must be a mapping of keys to values"
    if kind in {"tuple_type", "list_type"}:
        return "must be a list"
    if kind == "too_short":
        return "needs at least one item"
    if kind == "too_long":
        return f"has too many items; the limit is {context['max_length']}"
    return f"is not valid: {fallback}"


def keys_at(location: Location) -> tuple[str, ...]:
    """The keys that are known in the mapping at this place."""
    model = MODELS.get(tuple(part for part in location if isinstance(part, str)))
    return keys_of(model) if model is not None else ()


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a model as they stand in the file."""
    return tuple(info.alias or name for name, info in model.model_fields.items())
