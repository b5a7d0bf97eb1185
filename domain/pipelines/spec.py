"""The pipeline file as models: what may stand in it, with its defaults and limits.

These models are the one list of keys. ``read.py`` validates files with them, ``json_schema.py`` describes them to
editors, and ``docs/reference/pipelines.md`` explains them to people (a test compares). Field names carry their units;
the alias is the key in the file.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from domain.pipelines.fields import (
    EXIT_CODE_MAX,
    ArtifactName,
    Command,
    Delay,
    Env,
    Expiry,
    Flag,
    Glob,
    Image,
    OneOrMany,
    PathGlob,
    PipelineName,
    Shorthand,
    StepName,
    Timeout,
    refusal,
    whole_number,
    word_of,
)
from domain.pipelines.outline import RunOn
from domain.pipelines.problems import closest, quoted
from domain.pipelines.status import StepCause

STEPS_MAX = 100
COMMANDS_MAX = 200
"""The longest list that a file may have anywhere."""
GLOBS_MAX = 50
"""In one list of patterns."""
PATH_GLOB_CHARACTERS_MAX = 4096
"""In all ``when.path`` of a file, because each pattern is held against every changed file."""
CONDITIONS_MAX = 20
RETRY_RULES_MAX = 10
RETRY_LIMIT_MAX = 10
STEP_TIMEOUT_SECONDS_DEFAULT = 3600
RUN_TIMEOUT_SECONDS_DEFAULT = 3600
ARTIFACT_EXPIRES_SECONDS_DEFAULT = 30 * 24 * 3600


class TriggerEvent(StrEnum):
    """What may start a run (``when.event``)."""

    PUSH = "push"
    TAG = "tag"
    MANUAL = "manual"
    API = "api"


class FailurePolicy(StrEnum):
    """What a step's bad end means for the run."""

    FAIL = "fail"
    IGNORE = "ignore"


RETRY_CAUSES = (StepCause.LOST, StepCause.OOM, StepCause.TIMEOUT, StepCause.EXIT, StepCause.SIGNAL)
"""The endings that a file may speak of; the others are not cured by trying again, or are the platform's business."""


class RetryCondition(BaseModel):
    """One ending: a cause, or one exit code.

    Attributes:
        exit_code: 1 to 255; then ``cause`` is ``exit``.
    """

    model_config = ConfigDict(frozen=True)

    cause: StepCause
    exit_code: int | None = None


def _read_condition(value: object) -> RetryCondition:
    if isinstance(value, RetryCondition):
        return value
    causes = [cause.value for cause in RETRY_CAUSES]
    if not isinstance(value, str):
        raise refusal(f"must be {', '.join(causes)} or an exit code")
    if value in causes:
        return RetryCondition(cause=StepCause(value))
    code = value.removeprefix("exit:").strip()
    if code.isascii() and code.isdigit() and len(code) <= len(str(EXIT_CODE_MAX)) and 1 <= int(code) <= EXIT_CODE_MAX:
        return RetryCondition(cause=StepCause.EXIT, exit_code=int(code))
    message = (
        f"must be {', '.join(causes)} or an exit code from 1 to {EXIT_CODE_MAX} like 'exit:75', not {quoted(value)}"
    )
    raise refusal(message, closest(value, causes))


def _write_condition(condition: RetryCondition) -> str:
    return condition.cause.value if condition.exit_code is None else f"exit:{condition.exit_code}"


_Condition = Annotated[
    RetryCondition,
    PlainValidator(_read_condition),
    PlainSerializer(_write_condition),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [cause.value for cause in RETRY_CAUSES]},
                {"type": "integer", "minimum": 1, "maximum": EXIT_CODE_MAX},
                {"type": "string", "pattern": "^exit: ?[0-9]{1,3}$"},
            ]
        }
    ),
]


class FileModel(BaseModel):
    """The base of all parts of the file: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GlobFilter(FileModel):
    """Which branches to run for. Without ``include`` every one matches that ``exclude`` does not name."""

    include: Annotated[tuple[Glob, ...], Field(max_length=GLOBS_MAX), OneOrMany()] = ()
    exclude: Annotated[tuple[Glob, ...], Field(max_length=GLOBS_MAX), OneOrMany()] = ()


class PathFilter(FileModel):
    """Which changed files to run for. Without ``include`` every one counts that ``exclude`` does not name."""

    include: Annotated[tuple[PathGlob, ...], Field(max_length=GLOBS_MAX), OneOrMany()] = ()
    exclude: Annotated[tuple[PathGlob, ...], Field(max_length=GLOBS_MAX), OneOrMany()] = ()


class WhenSpec(FileModel):
    """A condition under which a step runs: all keys given must hold."""

    event: Annotated[
        tuple[Annotated[TriggerEvent, word_of(TriggerEvent)], ...],
        Field(min_length=1),
        OneOrMany(),
    ] = Field(default=tuple(TriggerEvent), description="What started the run.", examples=["push", ["tag", "manual"]])
    branch: Annotated[GlobFilter, Shorthand("include", many=True)] = Field(
        default=GlobFilter(),
        description="Globs of branch names. A run of no branch (a tag) never matches an 'include'.",
        examples=["main", ["main", "release/*"], {"exclude": "wip/**"}],
    )
    path: Annotated[PathFilter, Shorthand("include", many=True)] = Field(
        default=PathFilter(),
        description="Globs of changed files; one that matches is enough. Matches if the changes are not known.",
        examples=["src/**", {"include": "**/*.py", "exclude": "docs/**"}],
    )
    status: Annotated[
        tuple[Annotated[RunOn, word_of(RunOn)], ...],
        Field(min_length=1),
        OneOrMany(),
    ] = Field(
        default=(RunOn.SUCCESS,),
        description="Runs if the steps before it went well ('success'), badly ('failure'), or either way (both).",
        examples=["failure", ["success", "failure"]],
    )


class Dependency(FileModel):
    """A step to wait for."""

    name: StepName = Field(description="The step's name.")
    optional: Flag = Field(
        default=False,
        description="If 'when' leaves that step out, wait for nothing in its place.",
        json_schema_extra={"type": "boolean"},
    )


class RetrySpec(FileModel):
    """Tries the step again after some endings."""

    on: Annotated[tuple[_Condition, ...], Field(min_length=1, max_length=CONDITIONS_MAX), OneOrMany()] = Field(
        description="Causes and exit codes: lost, oom, timeout, exit (any code), signal, or 'exit:75', or 75.",
        examples=["lost", ["timeout", "exit:75"]],
    )
    limit: Annotated[int, Field(ge=0, le=RETRY_LIMIT_MAX), whole_number(0, RETRY_LIMIT_MAX)] = Field(
        default=1, description="How many further attempts, counted over the whole step; 0 forbids them.", examples=[2]
    )
    delay_seconds: Delay = Field(
        default=0, alias="delay", description="Wait before the next attempt, at most 1h.", examples=["10s"]
    )


class ArtifactSpec(FileModel):
    """Files to keep when the step ends."""

    path: PathGlob = Field(
        description="A glob below the workspace; a directory means all below it.", examples=["dist/**/*.whl", "report"]
    )
    name: ArtifactName | None = Field(
        default=None,
        description="Store the file under this name; if the path means several files, store them below it.",
        examples=["coverage"],
    )
    expires_seconds: Expiry = Field(
        default=ARTIFACT_EXPIRES_SECONDS_DEFAULT,
        alias="expires",
        description="How long to keep the files, at most 365d.",
        examples=["7d"],
    )


class StepSpec(FileModel):
    """One step: commands that run one after the other in a sandbox of their own."""

    name: StepName = Field(description="Unique in the file.", examples=["test"])
    image: Image | None = Field(
        default=None,
        description="Container image to run in; the local sandbox has the host's programs instead.",
        examples=["python:3.13"],
    )
    commands: Annotated[tuple[Command, ...], Field(min_length=1, max_length=COMMANDS_MAX), OneOrMany()] = Field(
        description="Shell command lines, run in order by /bin/sh until one fails.",
        examples=["make test", ["pip install .", "pytest"]],
    )
    env: Env = Field(
        default={}, description="Environment variables of this step; values are text.", examples=[{"MODE": "fast"}]
    )
    depends_on: (
        Annotated[tuple[Annotated[Dependency, Shorthand("name")], ...], Field(max_length=STEPS_MAX), OneOrMany()] | None
    ) = Field(
        default=None,
        description="Steps to wait for. As soon as one step of the file has this key, steps without it start at once.",
        examples=["build", ["build", {"name": "lint", "optional": True}], []],
    )
    when: Annotated[tuple[WhenSpec, ...], Field(min_length=1, max_length=CONDITIONS_MAX), OneOrMany()] | None = Field(
        default=None,
        description="Run only under this condition, or under one of several.",
        examples=[{"event": "push", "branch": "main"}],
    )
    timeout_seconds: Timeout = Field(
        default=STEP_TIMEOUT_SECONDS_DEFAULT,
        alias="timeout",
        description="Limit of one attempt, at most 24h.",
        examples=["10m"],
    )
    retry: Annotated[tuple[RetrySpec, ...], Field(max_length=RETRY_RULES_MAX), OneOrMany()] = Field(
        default=(),
        description="When to try again. A lost sandbox is tried again twice unless a rule names 'lost'.",
        examples=[{"on": "exit:75", "limit": 2, "delay": "10s"}],
    )
    failure: Annotated[FailurePolicy, word_of(FailurePolicy)] = Field(
        default=FailurePolicy.FAIL,
        description="'ignore': the run goes on as if the step went well.",
        examples=["ignore"],
    )
    artifacts: Annotated[
        tuple[Annotated[ArtifactSpec, Shorthand("path")], ...], Field(max_length=GLOBS_MAX), OneOrMany()
    ] = Field(
        default=(),
        description="Files to keep when the step ends, also when it failed.",
        examples=["dist/*.whl", [{"path": "coverage/**", "name": "coverage", "expires": "7d"}]],
    )


class PipelineSpec(FileModel):
    """A pipeline file of Perdure."""

    name: PipelineName | None = Field(
        default=None, description="Shown in lists; the name of the file if it is not given.", examples=["tests"]
    )
    timeout_seconds: Timeout = Field(
        default=RUN_TIMEOUT_SECONDS_DEFAULT,
        alias="timeout",
        description="Limit of the whole run, at most 24h.",
        examples=["1h30m"],
    )
    env: Env = Field(
        default={},
        description="Environment variables of all steps; a step's own win.",
        examples=[{"PIP_NO_CACHE_DIR": 1}],
    )
    steps: Annotated[tuple[StepSpec, ...], Field(min_length=1, max_length=STEPS_MAX)] = Field(
        description="In order: one after the other, unless one has 'depends_on'."
    )


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A good pipeline file: where it stands in the repository, and what it says."""

    path: str
    spec: PipelineSpec
