"""From the pipeline files of a commit to the runs that a trigger makes: shared by pushes and by the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.errors import InvalidPipeline
from domain.pipelines.files import default_name
from domain.pipelines.plan import Plan, TriggerContext, compile_plan
from domain.pipelines.problems import Problem
from domain.pipelines.read import parse_pipeline


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What one pipeline file asks for.

    Attributes:
        plan: What would run; ``None`` where the file is invalid, and then ``problems`` says why.
        problems: ``[{path, line, column, message, suggestion}]``.
    """

    config_path: str
    name: str
    plan: Plan | None
    problems: tuple[dict[str, Any], ...] = ()

    @property
    def nothing_to_do(self) -> bool:
        """Whether the file is valid and leaves out every step for this trigger; then no run is made of it."""
        return self.plan is not None and not self.plan.has_work

    @property
    def note(self) -> str | None:
        """A line for the person who triggered, where no run is made."""
        return f"{self.config_path}: no step matches this trigger, so nothing runs." if self.nothing_to_do else None


def runs_for(files: Mapping[str, bytes], trigger: TriggerContext) -> list[PlannedRun]:
    """Plans every pipeline file of a commit.

    Args:
        files: Path to content, as chosen by ``domain.pipelines.files``.
        trigger: What happened.

    Returns:
        One per file, in the order of the paths. An invalid file is a run without a plan, never an exception.
    """
    return [_planned(path, files[path], trigger) for path in sorted(files)]


def refused_file(problem: Problem) -> PlannedRun:
    """What comes of a file that cannot even be read: a run that says why."""
    return PlannedRun(problem.path, default_name(problem.path), None, (problem.model_dump(),))


def _planned(path: str, content: bytes, trigger: TriggerContext) -> PlannedRun:
    try:
        plan = compile_plan(parse_pipeline(path, content), trigger)
    except InvalidPipeline as error:
        problems = error.details["problems"]
        return PlannedRun(path, default_name(path), None, tuple(problems) if isinstance(problems, list) else ())
    return PlannedRun(path, plan.name, plan)
