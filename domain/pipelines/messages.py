"""What the pipeline workflows and activities tell each other. Fields are added with defaults, never reordered."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from domain.actors import Actor
from domain.pipelines.outline import StepOutline
from domain.pipelines.status import RunStatus, StepCause, StepStatus


class Message(BaseModel):
    """The base of all messages: frozen, because a history cannot change."""

    model_config = ConfigDict(frozen=True)


class PipelineRunInput(Message):
    """Starts ``PipelineRunWorkflow``.

    Attributes:
        run_id: The row, committed before the workflow starts.
        actor: On whose authority the run acts.
        project: ``owner/name``, for the search attributes.
        git_ref: For the search attributes.
    """

    run_id: UUID
    actor: Actor
    project: str = ""
    git_ref: str = ""


class PipelineRunResult(Message):
    """How the run ended."""

    status: RunStatus


class PrepareRunInput(Message):
    """Asks for the workspace at the commit and the outline of the steps.

    Attributes:
        actor: For whom the run acts; ``None`` in older histories: as the run's row says.
    """

    run_id: UUID
    actor: Actor | None = None


class PrepareRunResult(Message):
    """The run is ready, or needs nothing done.

    Attributes:
        status: ``running``, or the end that the run already has.
        steps: In the order of the file.
        statuses: For each step's name where it stands (steps left out by ``when`` are ``skipped`` already).
        timeout_seconds: For the whole run.
    """

    status: RunStatus
    steps: tuple[StepOutline, ...] = ()
    statuses: dict[str, StepStatus] = {}
    timeout_seconds: float = 3600


class RunStepInput(Message):
    """Runs one attempt of a step to its end, or re-attaches to it.

    Attributes:
        attempt: 1-based; a new number means a new sandbox.
        previous: Why the attempt before ended, for the log.
        actor: For whom the run acts; ``None`` in older histories: as the run's row says.
    """

    run_id: UUID
    step_id: UUID
    attempt: int
    previous: str | None = None
    actor: Actor | None = None


class RunStepResult(Message):
    """How the attempt ended. A failing step is a result, never an exception.

    Attributes:
        retry_after_seconds: If the step's retry rules grant another attempt, how long to wait before it; then the
            step is still ``running`` in the database.
    """

    status: StepStatus
    cause: StepCause | None = None
    exit_code: int | None = None
    reason: str | None = None
    retry_after_seconds: float | None = None


class SkipStepsInput(Message):
    """Records steps that will not run, with the reason of each."""

    run_id: UUID
    reasons: dict[UUID, str]


class SetWaitingInput(Message):
    """Says, for a person, what a run waits for; ``None``: it just works."""

    run_id: UUID
    waiting_for: str | None = None


class StopRunInput(Message):
    """Kills everything that runs for a run."""

    run_id: UUID


class FinishRunInput(Message):
    """Records the end of a run and removes its workspace.

    Attributes:
        status: How the run ended; steps that have not ended become ``cancelled``.
        error: For a person, where it did not simply succeed or fail.
    """

    run_id: UUID
    status: RunStatus
    error: str | None = None


class SettlePushInput(Message):
    """Settles one push of the outbox; starts ``PushWorkflow`` too."""

    push_id: UUID


class StartedRun(Message):
    """A run that a push made.

    Attributes:
        number: Counts up per project.
        problems: Rendered, where the file is invalid; such a run has ended as ``error`` already.
    """

    run_id: UUID
    number: int
    name: str
    config_path: str
    status: RunStatus
    problems: tuple[str, ...] = ()
    actor: Actor
    project: str = ""
    git_ref: str = ""


class SettlePushResult(Message):
    """What came of a push.

    Attributes:
        runs: Those whose workflow is to be started, and those that ended as ``error``.
        notes: Lines for the pusher's terminal.
    """

    runs: tuple[StartedRun, ...] = ()
    notes: tuple[str, ...] = ()


class RunsToRepair(Message):
    """What the repair schedule found.

    Attributes:
        start: Rows whose workflow seems never to have started.
        cancel: Ids of runs whose cancel was noted but whose workflow was perhaps never told.
    """

    start: tuple[PipelineRunInput, ...] = ()
    cancel: tuple[UUID, ...] = ()


class OpenPushes(Message):
    """Pushes of the outbox that nobody is receiving any more and nobody has settled."""

    push_ids: tuple[UUID, ...] = ()
