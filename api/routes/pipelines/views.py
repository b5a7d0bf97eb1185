"""How runs, steps and artifacts look to an API client."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.services import Services
from database.models.pipelines import Artifact, Pipeline, PipelineStep
from database.store.pipelines.listing import ListedRun
from domain.ids import pipeline_run_workflow_id
from domain.pipelines.status import RUN_ENDED, RunStatus, StepCause, StepStatus


class View(BaseModel):
    """The base of all answers: built once, never changed."""

    model_config = ConfigDict(frozen=True)


class ProblemView(View):
    """One thing to correct in a pipeline file."""

    path: str
    line: int
    column: int
    message: str
    suggestion: str | None = None


class StepView(View):
    """One step of a run.

    Attributes:
        attempt: 1-based; 0 before the first start.
        cause: Why it ended other than well.
        reason: The same for a person, or why it was skipped.
        duration_ms: Over all attempts; null until the step ended.
        log_size_bytes: How much of the log can be read now.
    """

    name: str
    status: StepStatus
    attempt: int
    image: str
    depends_on: tuple[str, ...]
    cause: StepCause | None
    reason: str | None
    exit_code: int | None
    failure_ignored: bool
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    log_size_bytes: int
    log_url: str


class RunSummary(View):
    """One run of one pipeline file.

    Attributes:
        number: Counts up per project, for people.
        ref: The full ref name, or the commit's id where it was asked for directly.
        error: For a person, why the run ended as ``error`` or was cancelled.
        problems: Where the file is invalid: every place to correct.
        waiting_for: For a person, what the run waits for now; null while it works or has ended.
        rerun_of: The run that this one repeats.
        url: Of the page for people.
        workflow_id: In Temporal; null for a run that never had one because its file is invalid.
        workflow_url: The same in the Temporal UI; null where no UI is configured.
    """

    id: UUID
    number: int
    project: str
    name: str
    config_path: str
    trigger: Literal["push", "api", "schedule", "mr"]
    triggered_by: str
    ref: str
    commit_sha: str | None
    commit_title: str | None
    status: RunStatus
    error: str | None
    problems: tuple[ProblemView, ...]
    waiting_for: str | None
    rerun_of: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    url: str
    workflow_id: str | None
    workflow_url: str | None


class RunView(RunSummary):
    """A run with its steps, in the order of the file."""

    variables: dict[str, str]
    steps: tuple[StepView, ...]


class RunPage(View):
    """One page of runs, newest first; ``next`` is the address of the page after it."""

    items: tuple[RunSummary, ...]
    next: str | None


class StartedRuns(View):
    """The runs that a trigger made.

    Attributes:
        notes: What the caller should know: files left out, a run that waits until Temporal is back.
    """

    items: tuple[RunView, ...]
    notes: tuple[str, ...] = ()


class ArtifactView(View):
    """A file that a step left.

    Attributes:
        sha256: Hex, of the content; the ETag of its download.
        expires_at: When it will be removed; null for never.
        expired: Whether that moment has passed.
    """

    id: UUID
    step: str
    name: str
    content_type: str | None
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None
    expired: bool
    url: str


class ArtifactList(View):
    """Every artifact of a run; at most 1,000 a step, so there are no pages."""

    items: tuple[ArtifactView, ...]
    next: str | None = None


class TriggerRequest(BaseModel):
    """Asks for runs of a commit.

    Attributes:
        ref: A branch, a tag, a full ref name or a commit's id.
        variables: Handed to every step as environment.
        config_path: Only this pipeline file; without it every one of the commit.
    """

    model_config = ConfigDict(extra="forbid")

    ref: str = Field(min_length=1, max_length=1024)
    variables: dict[str, str] = Field(default={}, max_length=100)
    config_path: str | None = Field(default=None, max_length=1024)


class CancelRequest(BaseModel):
    """Cancels a run."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=500)


def api_run_url(project: str, run_id: UUID) -> str:
    """The path of a run in the API."""
    return f"/api/v1/projects/{project}/pipelines/{run_id}"


def waiting_for(run: ListedRun) -> str | None:
    """What a run that has not ended waits for, in words."""
    if run.status in RUN_ENDED:
        return None
    if run.cancel_requested_at is not None:
        return "its steps to stop: it is being cancelled"
    if run.waiting_for is not None:
        return run.waiting_for
    return "a worker to pick it up" if run.status == RunStatus.PENDING else None


def _summary(services: Services, project: str, run: ListedRun) -> dict[str, Any]:
    workflow_id = pipeline_run_workflow_id(run.id) if run.has_plan else None
    return {
        "id": run.id,
        "number": run.number,
        "project": project,
        "name": run.name,
        "config_path": run.config_path,
        "trigger": run.trigger,
        "triggered_by": run.triggered_by,
        "ref": run.git_ref,
        "commit_sha": run.commit_sha,
        "commit_title": run.commit_title,
        "status": run.status,
        "error": run.error,
        "problems": tuple(run.problems),
        "waiting_for": waiting_for(run),
        "rerun_of": run.rerun_of,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "url": f"{services.public_url}/{project}/pipelines/{run.id}",
        "workflow_id": workflow_id,
        "workflow_url": None if workflow_id is None else services.workflow_url(workflow_id),
    }


def summarise(services: Services, project: str, run: ListedRun) -> RunSummary:
    """A run as it stands in a list."""
    return RunSummary.model_validate(_summary(services, project, run))


def view_run(services: Services, project: str, run: Pipeline, steps: Sequence[PipelineStep]) -> RunView:
    """A run with its steps."""
    run_url = api_run_url(project, run.id)
    views = tuple(view_step(run_url, step) for step in steps)
    return RunView.model_validate(
        {**_summary(services, project, ListedRun.of(run)), "variables": run.variables, "steps": views},
    )


def view_step(run_url: str, step: PipelineStep) -> StepView:
    """One step."""
    return StepView(
        name=step.name,
        status=StepStatus(step.status),
        attempt=step.attempt,
        image=step.image,
        depends_on=tuple(step.depends_on),
        cause=None if step.cause is None else StepCause(step.cause),
        reason=step.reason,
        exit_code=step.exit_code,
        failure_ignored=bool(step.spec.get("failure_ignored", False)),
        started_at=step.started_at,
        finished_at=step.finished_at,
        duration_ms=step.duration_ms,
        log_size_bytes=step.log_size_bytes,
        log_url=f"{run_url}/steps/{quote(step.name, safe='')}/log",
    )


def view_artifact(run_url: str, step_name: str, artifact: Artifact) -> ArtifactView:
    """One artifact."""
    return ArtifactView(
        id=artifact.id,
        step=step_name,
        name=artifact.name,
        content_type=artifact.content_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        created_at=artifact.created_at,
        expires_at=artifact.expires_at,
        expired=artifact.expires_at is not None and artifact.expires_at <= datetime.now(UTC),
        url=f"{run_url}/artifacts/{artifact.id}",
    )
