"""The names that processes agree on: queues, workflow types, search attributes.

Constants only. Workflows, activities and the API import this module, so it does no I/O and imports nothing that does.
A name is part of every history and schedule that was ever written: it is never changed, only added.
"""

from enum import StrEnum

from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)

ORCHESTRATION_QUEUE = "orchestration"
"""Workflows of short activities, and activities that take milliseconds (database, git on the same host)."""
EXECUTION_QUEUE = "execution"
"""Long activities that watch sandboxes and heartbeat, and the workflows that live of them."""

PIPELINE_RUN_WORKFLOW = "PipelineRunWorkflow"
PUSH_WORKFLOW = "PushWorkflow"
REPAIR_RUNS_WORKFLOW = "RepairRunsWorkflow"
SWEEP_PUSHES_WORKFLOW = "SweepPushesWorkflow"
EXPIRE_WORKFLOW = "ExpireWorkflow"
MAINTAIN_REPOSITORIES_WORKFLOW = "MaintainRepositoriesWorkflow"
AUDIT_CHECKPOINT_WORKFLOW = "AuditCheckpointWorkflow"
SEND_MAIL_WORKFLOW = "SendMailWorkflow"
REPAIR_MAILS_WORKFLOW = "RepairMailsWorkflow"
ROTATE_SIGNING_KEYS_WORKFLOW = "RotateSigningKeysWorkflow"

PERDURE_PROJECT = SearchAttributeKey.for_keyword("PerdureProject")
"""Whose is it: ``owner/name``."""
PERDURE_KIND = SearchAttributeKey.for_keyword("PerdureKind")
"""What is it: a value of ``Kind``."""
PERDURE_REF = SearchAttributeKey.for_keyword("PerdureRef")
"""The git ref that it is about."""
PERDURE_INITIATOR = SearchAttributeKey.for_keyword("PerdureInitiator")
"""The name of the actor that caused it."""
PERDURE_SESSION = SearchAttributeKey.for_keyword("PerdureSession")
"""The agent session that it belongs to, where one does."""
PERDURE_HEALTH = SearchAttributeKey.for_keyword("PerdureHealth")
"""Why is it waiting: a value of ``Health``."""
PERDURE_LAST_ERROR = SearchAttributeKey.for_keyword("PerdureLastError")
"""What went wrong last, for a person; unset while all is well."""

SEARCH_ATTRIBUTES: tuple[SearchAttributeKey[str], ...] = (
    PERDURE_PROJECT,
    PERDURE_KIND,
    PERDURE_REF,
    PERDURE_INITIATOR,
    PERDURE_SESSION,
    PERDURE_HEALTH,
    PERDURE_LAST_ERROR,
)
"""All of them; the SQLite store of the development server has room for ten of this type."""

KEYWORD_LENGTH_MAX = 255
"""Characters; the SQL visibility stores of Temporal keep keywords in ``VARCHAR(255)``."""

ACTOR_HEADER = "perdure-actor"
"""The Temporal header in which a workflow hands its actor on to activities and child workflows."""


class Kind(StrEnum):
    """What a workflow is, in the words of the features."""

    PIPELINE_RUN = "pipeline_run"
    PUSH = "push"
    MAIL = "mail"
    MAINTENANCE = "maintenance"


class Health(StrEnum):
    """How a workflow is doing, as far as a person is concerned."""

    OK = "ok"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    WAITING_APPROVAL = "waiting_approval"
    WAITING_SLOT = "waiting_slot"


def keyword(text: str) -> str:
    """The text as a keyword: one line, cut to ``KEYWORD_LENGTH_MAX`` characters with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= KEYWORD_LENGTH_MAX else line[: KEYWORD_LENGTH_MAX - 1] + "…"


def search_attributes(
    kind: Kind, *, project: str = "", git_ref: str = "", initiator: str = "", session: str = ""
) -> TypedSearchAttributes:
    """The attributes that a workflow starts with; those that are empty are left unset."""
    values = (
        (PERDURE_KIND, kind.value),
        (PERDURE_PROJECT, project),
        (PERDURE_REF, git_ref),
        (PERDURE_INITIATOR, initiator),
        (PERDURE_SESSION, session),
        (PERDURE_HEALTH, Health.OK.value),
    )
    return TypedSearchAttributes([SearchAttributePair(key, keyword(value)) for key, value in values if value])


def pipeline_run_attributes(project: str, git_ref: str, initiator: str) -> TypedSearchAttributes:
    """The attributes that ``PipelineRunWorkflow`` starts with."""
    return search_attributes(Kind.PIPELINE_RUN, project=project, git_ref=git_ref, initiator=initiator)


def push_attributes(project: str, git_ref: str, initiator: str) -> TypedSearchAttributes:
    """The attributes that ``PushWorkflow`` starts with."""
    return search_attributes(Kind.PUSH, project=project, git_ref=git_ref, initiator=initiator)


def health_update(health: Health, error: str | None = None) -> list[SearchAttributeUpdate[str]]:
    """The updates that record a change of health; ``error`` says why, and is unset when there is none."""
    last_error = PERDURE_LAST_ERROR.value_set(keyword(error)) if error else PERDURE_LAST_ERROR.value_unset()
    return [PERDURE_HEALTH.value_set(health.value), last_error]
