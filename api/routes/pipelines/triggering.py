"""From a name that a caller gives (branch, tag, commit) to the runs that are to be made of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.repositories.base import Commit, ObjectReader, Repositories, Resolved
from api.dependencies import ProjectAccess
from api.services import Services
from database.store.pipelines.runs import NewRun
from domain.errors import InvalidInput, NotFound
from domain.pipelines.files import DIRECTORY, ROOT_FILE, PipelineFiles, pipeline_files
from domain.pipelines.plan import TriggerContext, check_variables
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.trigger import PlannedRun, runs_for

BRANCH_PREFIX = "refs/heads/"
TAG_PREFIX = "refs/tags/"
# More than a pipeline file may have, so that its own parser refuses it, with its own words.
FILE_READ_BYTES_MAX = 4 * 1024**2


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
    resolved = await services.repositories.resolve(access.project.id, wish.ref)
    commit, planned, notes = await _plan(services.repositories, access, resolved, wish)
    return Prepared(tuple(_new_run(access, resolved, commit, run, wish) for run in planned), notes)


async def _plan(
    repositories: Repositories, access: ProjectAccess, resolved: Resolved, wish: Wish
) -> tuple[Commit, Sequence[PlannedRun], tuple[str, ...]]:
    async with repositories.reader(access.project.id) as reader:
        commit = await reader.commit(resolved.commit_sha)
        if commit is None:
            raise NotFound(f"There is no commit {resolved.commit_sha} in {access.project.full_name}.")
        blobs = await _blobs(reader, commit.sha)
        files = pipeline_files(blobs)
        chosen = _chosen(files, wish.config_path, commit.sha)
        contents = {path: await reader.blob(blobs[path], size_bytes_max=FILE_READ_BYTES_MAX) for path in chosen}
    runs = runs_for(contents, _trigger(resolved, wish))
    notes = tuple(problem.render() for problem in files.problems) + tuple(run.note for run in runs if run.note)
    with_work = [run for run in runs if not run.nothing_to_do]
    if not with_work:
        raise InvalidInput(
            "Nothing to run: " + " ".join(notes) + " Change `when` in the file, or trigger another ref.",
            code="nothing_to_run",
        )
    return commit, with_work, notes


def _trigger(resolved: Resolved, wish: Wish) -> TriggerContext:
    ref = resolved.ref or resolved.commit_sha
    return TriggerContext(
        event=wish.event,
        ref=ref,
        branch=ref.removeprefix(BRANCH_PREFIX) if ref.startswith(BRANCH_PREFIX) else None,
        tag=ref.removeprefix(TAG_PREFIX) if ref.startswith(TAG_PREFIX) else None,
        variables=wish.variables,
    )


async def _blobs(reader: ObjectReader, commit_sha: str) -> dict[str, str]:
    """Path to blob id of every file that may be a pipeline."""
    root = {entry.name: entry.sha for entry in await reader.tree(commit_sha) if entry.kind == "blob"}
    below = {
        DIRECTORY + entry.name: entry.sha
        for entry in await reader.tree(commit_sha, DIRECTORY.rstrip("/"))
        if entry.kind == "blob"
    }
    return root | below


def _chosen(files: PipelineFiles, config_path: str | None, commit_sha: str) -> tuple[str, ...]:
    if not files.paths:
        hints = "".join(f" {problem.render()}." for problem in files.problems)
        raise InvalidInput(
            f"Commit {commit_sha[:12]} has no pipeline file. Add {ROOT_FILE} with a step and push it.{hints}",
            code="no_pipeline",
        )
    if config_path is None:
        return files.paths
    if config_path not in files.paths:
        raise InvalidInput(
            f"{config_path} is no pipeline file of commit {commit_sha[:12]}; it has {', '.join(files.paths)}.",
            code="no_pipeline",
            details={"config_paths": list(files.paths)},
        )
    return (config_path,)


def _new_run(access: ProjectAccess, resolved: Resolved, commit: Commit, planned: PlannedRun, wish: Wish) -> NewRun:
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
