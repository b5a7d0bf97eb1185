"""From a name that a caller gives (branch, tag, commit) to the runs that are to be made of it."""

import asyncio
from dataclasses import dataclass

from adapters.repositories.base import Resolved
from adapters.repositories.pipeline_files import PipelineSources, read_pipeline_files
from api.dependencies import ProjectAccess
from api.services import Services
from database.store.pipelines.runs import NewRun
from domain.errors import InvalidInput
from domain.git.refs import branch_of, tag_of
from domain.pipelines.files import ROOT_FILE
from domain.pipelines.plan import TriggerContext, check_variables
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.trigger import PlannedRun, refused_file, runs_for


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants to run.

    Attributes:
        event: ``api``, or ``manual`` for a person at the dashboard.
        config_path: Only this file; ``None`` for all.
    """

    ref: str
    event: TriggerEvent
    variables: dict[str, str]
    config_path: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a wish comes to: the runs to be made, and what the caller should know."""

    new: tuple[NewRun, ...]
    notes: tuple[str, ...]


async def prepare(services: Services, access: ProjectAccess, wish: Wish) -> Prepared:
    """Finds the commit and plans its pipeline files: one run for each that has work for this trigger.

    Raises:
        InvalidInput: A variable's name or value is not possible, the commit has no pipeline file (code
            ``no_pipeline``), or no step matches (code ``nothing_to_run``).
        NotFound: There is no such branch, tag or commit.
    """
    check_variables(wish.variables)
    async with services.repositories.reader(access.project.id) as reader:
        resolved = await reader.resolve(wish.ref)
        found = await read_pipeline_files(reader, resolved.commit.sha)
    chosen = _chosen(found, wish.config_path, resolved.commit.sha)
    # In a thread: a file as large as the limit allows takes long enough to parse to delay other requests.
    runs = await asyncio.to_thread(runs_for, chosen.contents, _trigger(resolved, wish))
    runs += [refused_file(problem) for problem in chosen.too_large]
    notes = tuple(problem.render() for problem in chosen.not_meant) + tuple(run.note for run in runs if run.note)
    with_work = [run for run in runs if not run.nothing_to_do]
    if not with_work:
        raise InvalidInput(
            "Nothing to run: " + " ".join(notes) + " Change `when` in the file, or trigger another ref.",
            code="nothing_to_run",
        )
    return Prepared(tuple(_new_run(access, resolved, run, wish) for run in with_work), notes)


def _trigger(resolved: Resolved, wish: Wish) -> TriggerContext:
    ref = resolved.ref or resolved.commit.sha
    return TriggerContext(
        event=wish.event,
        ref=ref,
        branch=branch_of(ref),
        tag=tag_of(ref),
        variables=wish.variables,
    )


def _chosen(found: PipelineSources, config_path: str | None, commit_sha: str) -> PipelineSources:
    if not found.paths:
        hints = "".join(f" {problem.render()}." for problem in found.not_meant)
        raise InvalidInput(
            f"Commit {commit_sha[:12]} has no pipeline file. Add {ROOT_FILE} with a step and push it.{hints}",
            code="no_pipeline",
        )
    if config_path is None:
        return found
    if config_path not in found.paths:
        raise InvalidInput(
            f"{config_path} is no pipeline file of commit {commit_sha[:12]}; it has {', '.join(found.paths)}.",
            code="no_pipeline",
            details={"config_paths": list(found.paths)},
        )
    return found.only(config_path)


def _new_run(access: ProjectAccess, resolved: Resolved, planned: PlannedRun, wish: Wish) -> NewRun:
    commit = resolved.commit
    return NewRun(
        project_id=access.project.id,
        actor=access.actor,
        trigger="api",
        git_ref=resolved.ref or commit.sha,
        commit_sha=commit.sha,
        commit_title=commit.title,
        config_path=planned.config_path,
        name=planned.name,
        plan=planned.plan,
        problems=planned.problems,
        variables=wish.variables,
    )
