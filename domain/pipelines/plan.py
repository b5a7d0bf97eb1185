"""From a pipeline file and what happened to the plan of one run. Pure: the same input gives the same plan."""

from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from domain.errors import InvalidInput
from domain.pipelines.fields import ENV_CHARACTERS_MAX, env_name_fault, env_value_fault
from domain.pipelines.files import default_name
from domain.pipelines.globs import glob_matches, is_wild, literal_directory, path_glob_matches
from domain.pipelines.outline import RetryRule, RunOn
from domain.pipelines.problems import quoted
from domain.pipelines.spec import (
    ArtifactSpec,
    Dependency,
    FailurePolicy,
    GlobFilter,
    PathFilter,
    PipelineFile,
    PipelineSpec,
    RetrySpec,
    StepSpec,
    TriggerEvent,
    WhenSpec,
)
from domain.pipelines.status import StepCause

CHANGED_PATHS_MAX = 1000
CHANGED_CHARACTERS_MAX = 64 * 1024
"""A push with more changed files, or longer names in all, counts as one whose changes are not known."""
VARIABLES_MAX = 100
LOST_RETRY = RetryRule(causes=(StepCause.LOST,), limit=2, delay_seconds=1)
"""What holds for a lost sandbox unless the file says otherwise: it was the platform's fault, so try again."""


class TriggerContext(BaseModel):
    """What happened.

    Attributes:
        ref: The full ref, such as ``refs/heads/main``.
        branch: Its short name, if it is a branch.
        tag: Its short name, if it is a tag.
        changed_paths: Files that differ from before; ``None`` if that is not known (a first push, a tag, a run by
            hand), and then every ``path`` filter matches.
        variables: Given by whoever started the run.
    """

    model_config = ConfigDict(frozen=True)

    event: TriggerEvent
    ref: str
    branch: str | None = None
    tag: str | None = None
    changed_paths: tuple[str, ...] | None = None
    variables: dict[str, str] = {}


class ArtifactRule(BaseModel):
    """Files to keep when a step ends.

    Attributes:
        pattern: A glob below the workspace (see ``globs``); a directory means all below it.
        name: See ``artifact_name``.
    """

    model_config = ConfigDict(frozen=True)

    pattern: str
    name: str | None = None
    expires_seconds: int


class PlannedStep(BaseModel):
    """One step of a run, with everything that its execution needs.

    Attributes:
        env: Of the file, of the step, and the run's variables; later ones win.
        depends_on: Names of included steps that must have ended before; the order of the file made explicit.
        included: ``False`` if ``when`` leaves the step out; then ``skip_reason`` says why.
        run_on: See ``StepOutline``.
        timeout_seconds: Limit of one attempt.
        failure_ignored: Its bad end does not trouble the run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    image: str | None = None
    commands: tuple[str, ...]
    env: dict[str, str] = {}
    depends_on: tuple[str, ...] = ()
    included: bool = True
    skip_reason: str | None = None
    run_on: tuple[RunOn, ...] = (RunOn.SUCCESS,)
    timeout_seconds: float
    retry: tuple[RetryRule, ...] = ()
    failure_ignored: bool = False
    artifacts: tuple[ArtifactRule, ...] = ()


class Plan(BaseModel):
    """What a run will do, in the order of the file."""

    model_config = ConfigDict(frozen=True)

    name: str
    config_path: str
    timeout_seconds: float
    steps: tuple[PlannedStep, ...] = Field(min_length=1)

    @property
    def has_work(self) -> bool:
        """Whether any step is included; if not, no run is made of the plan."""
        return any(step.included for step in self.steps)


def compile_plan(file: PipelineFile, trigger: TriggerContext) -> Plan:
    """Decides what a run of this file will do.

    A step that ``when`` leaves out hands its own dependencies on to the steps behind it, so that the order of the rest
    stands; an optional dependency on it is dropped instead.

    Raises:
        InvalidInput: The trigger's variables cannot be environment variables.
    """
    check_variables(trigger.variables)
    spec = file.spec
    reasons = {step.name: _reason_to_leave_out(step, trigger) for step in spec.steps}
    waits = _waits(spec, reasons)
    return Plan(
        name=spec.name or default_name(file.path),
        config_path=file.path,
        timeout_seconds=spec.timeout_seconds,
        steps=tuple(
            PlannedStep(
                name=step.name,
                image=step.image,
                commands=step.commands,
                env={**spec.env, **step.env, **trigger.variables},
                depends_on=waits[step.name],
                included=reasons[step.name] is None,
                skip_reason=reasons[step.name],
                run_on=_run_on(step, trigger),
                timeout_seconds=step.timeout_seconds,
                retry=_retry_rules(step.retry),
                failure_ignored=step.failure is FailurePolicy.IGNORE,
                artifacts=tuple(_artifact_rule(artifact) for artifact in step.artifacts),
            )
            for step in spec.steps
        ),
    )


def check_variables(variables: Mapping[str, str]) -> None:
    """Checks the variables that somebody starts a run with.

    Raises:
        InvalidInput: A name or value is not usable, or there are too many; ``details['variables']`` names them.
    """
    faults: dict[str, object] = {}
    for name, value in variables.items():
        name_fault, value_fault = env_name_fault(name), env_value_fault(value)
        if name_fault or value_fault:
            faults[name] = f"the name {name_fault}" if name_fault else f"the value {value_fault}"
    if faults:
        listed = "; ".join(f"{quoted(name)}: {fault}" for name, fault in list(faults.items())[:10])
        raise InvalidInput(
            f"These variables cannot be used, so no run was made. {listed}", details={"variables": faults}
        )
    if len(variables) > VARIABLES_MAX or sum(len(n) + len(v) for n, v in variables.items()) > ENV_CHARACTERS_MAX:
        raise InvalidInput(
            f"A run takes at most {VARIABLES_MAX} variables of {ENV_CHARACTERS_MAX} characters in all, so no run was"
            " made. Put the rest into a file of the repository."
        )


def artifact_name(rule: ArtifactRule, path: str) -> str | None:
    """Under which name a file is stored, or ``None`` if the rule does not mean it.

    Without a name in the rule it is the file's path. With one, a rule that means exactly this file gives that name;
    a rule with wildcards, or for a directory, gives the name, a slash, and the path from the first wildcard on.

    Args:
        rule: Of the step that has ended.
        path: Of a regular file, relative to the workspace, without ``./``.
    """
    if not path_glob_matches(rule.pattern, path):
        return None
    if rule.name is None:
        return path
    wanted = rule.pattern.removeprefix("./").rstrip("/")
    if path == wanted:
        return rule.name
    before = literal_directory(wanted) if is_wild(wanted) else f"{wanted}/"
    return f"{rule.name}/{path.removeprefix(before)}"


def _waits(spec: PipelineSpec, reasons: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """For each step the included steps that it waits for, without duplicates, in the order of the file."""
    named = _named_dependencies(spec)
    waits: dict[str, tuple[str, ...]] = {}

    def resolve(name: str) -> tuple[str, ...]:
        if name not in waits:
            found: set[str] = set()
            for dependency in named[name]:
                if reasons[dependency.name] is None:
                    found.add(dependency.name)
                elif not dependency.optional:
                    found.update(resolve(dependency.name))
            waits[name] = tuple(step.name for step in spec.steps if step.name in found)
        return waits[name]

    return {step.name: resolve(step.name) for step in spec.steps}


def _named_dependencies(spec: PipelineSpec) -> dict[str, Sequence[Dependency]]:
    """The dependencies of the file; if no step names any, each step waits for the one before."""
    if any(step.depends_on is not None for step in spec.steps):
        return {step.name: step.depends_on or () for step in spec.steps}
    before = [(), *((Dependency(name=step.name),) for step in spec.steps)]
    return {step.name: dependencies for step, dependencies in zip(spec.steps, before, strict=False)}


def _reason_to_leave_out(step: StepSpec, trigger: TriggerContext) -> str | None:
    """Why ``when`` leaves the step out; ``None`` if one of its conditions holds, or if it has none."""
    reasons = [_mismatch(clause, trigger) for clause in step.when or ()]
    if None in reasons or not reasons:
        return None
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason is not None))


def _mismatch(clause: WhenSpec, trigger: TriggerContext) -> str | None:
    """The first part of a condition that does not hold."""
    if trigger.event not in clause.event:
        return f"'when.event' has {', '.join(clause.event)}, and this is {trigger.event}"
    if not _branch_matches(clause.branch, trigger.branch):
        on = f"branch {quoted(trigger.branch)}" if trigger.branch is not None else f"{quoted(trigger.ref)}, no branch"
        return f"'when.branch' does not match {on}"
    if not _paths_match(clause.path, trigger.changed_paths):
        return "'when.path' matches no changed file"
    return None


def _branch_matches(wanted: GlobFilter, branch: str | None) -> bool:
    """A run of no branch matches no ``include``: a step for ``main`` must not run because somebody pushed a tag."""
    if branch is None:
        return not wanted.include
    return _chosen(branch, wanted.include, wanted.exclude, glob_matches)


def _paths_match(wanted: PathFilter, changed: tuple[str, ...] | None) -> bool:
    if not wanted.include and not wanted.exclude:
        return True
    if changed is None or len(changed) > CHANGED_PATHS_MAX or sum(map(len, changed)) > CHANGED_CHARACTERS_MAX:
        return True
    return any(_chosen(path, wanted.include, wanted.exclude, path_glob_matches) for path in changed)


def _chosen(text: str, include: Sequence[str], exclude: Sequence[str], matches: Callable[[str, str], bool]) -> bool:
    included = not include or any(matches(pattern, text) for pattern in include)
    return included and not any(matches(pattern, text) for pattern in exclude)


def _run_on(step: StepSpec, trigger: TriggerContext) -> tuple[RunOn, ...]:
    """In which state the step runs: that of the conditions that hold for this trigger, taken together."""
    if not step.when:
        return (RunOn.SUCCESS,)
    held = [clause for clause in step.when if _mismatch(clause, trigger) is None] or step.when
    wanted = {state for clause in held for state in clause.status}
    return tuple(state for state in RunOn if state in wanted)


def _retry_rules(specs: Sequence[RetrySpec]) -> tuple[RetryRule, ...]:
    """The file's rules in their order, and behind them the default for a lost sandbox."""
    rules = [
        RetryRule(
            causes=tuple(dict.fromkeys(entry.cause for entry in spec.on if entry.exit_code is None)),
            exit_codes=tuple(dict.fromkeys(entry.exit_code for entry in spec.on if entry.exit_code is not None)),
            limit=spec.limit,
            delay_seconds=spec.delay_seconds,
        )
        for spec in specs
    ]
    if any(rule.applies(StepCause.LOST, None) for rule in rules):
        return tuple(rules)
    return (*rules, LOST_RETRY)


def _artifact_rule(artifact: ArtifactSpec) -> ArtifactRule:
    return ArtifactRule(pattern=artifact.path, name=artifact.name, expires_seconds=artifact.expires_seconds)
