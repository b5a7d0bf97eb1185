"""Checkpoints of the audit log, made on demand, and where each of them is."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field
from temporalio.client import WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from adapters.objects.base import checkpoint_key
from api.services import Services
from database.store.audit_checkpoints import StoredCheckpoint
from domain.audit.checkpoints import statement_hash
from domain.audit.messages import MadeCheckpoint
from domain.errors import Conflict, NotFound, Unavailable
from domain.ids import audit_checkpoint_workflow_id
from temporal.client import translated_errors
from temporal.names import AUDIT_CHECKPOINT_WORKFLOW, ORCHESTRATION_QUEUE, Kind, search_attributes

TEMPORAL_TIMEOUT = timedelta(seconds=3)
# An hour of rows is signed and kept in well under a second; who waits longer reads the list.
MADE_TIMEOUT_SECONDS = 8.0
# A person waits for this page; a store that is slow is shown as one whose answer is not known.
STORE_TIMEOUT_SECONDS = 2.0


class State(StrEnum):
    """Where a checkpoint is."""

    PUBLISHED = "published"
    WAITING = "waiting"
    FORGED = "forged"
    UNKNOWN = "unknown"


class CheckpointView(BaseModel):
    """A signed statement of where every chain of the audit log stood."""

    number: int = Field(description="From 1, without gaps")
    at: datetime | None = Field(description="When it was made; null where what the database has is no checkpoint")
    rows: int | None = Field(description="How many rows came since the checkpoint before")
    rows_in_all: int | None = Field(description="How many rows the log had")
    hash: str = Field(
        description="SHA-256 (hex) of the statement. Note it with the number: `perdure audit verify FILE --noted "
        "NUMBER:HASH` finds out whether a file is of the same log"
    )
    key_id: str | None = Field(description="The key that signed it, as in `GET /api/v1/audit/key`")
    state: State = Field(
        description="`published`: the object store has it. `waiting`: signed, and not there yet. `forged`: the "
        "database has it, but nobody signed it. `unknown`: the object store does not answer"
    )


class SignedCheckpointView(CheckpointView):
    """A checkpoint with what is needed to check it."""

    statement: str = Field(description="What was signed, to the byte: canonical JSON")
    signature: str = Field(description="Ed25519 (RFC 8032) over the statement in UTF-8, hex")


async def views_of(services: Services, stored: Sequence[StoredCheckpoint]) -> list[CheckpointView]:
    """Checkpoints with where they are; the object store is asked for each, so that one that was removed shows."""
    states = await _states(services, stored)
    return [view_of(one, state) for one, state in zip(stored, states, strict=True)]


def view_of(stored: StoredCheckpoint, state: State) -> CheckpointView:
    """One checkpoint for a reader."""
    read = stored.read()
    return CheckpointView(
        number=stored.number,
        at=read.at if read else None,
        rows=read.rows if read else None,
        rows_in_all=sum(head.seq for head in read.heads.values()) if read else None,
        hash=statement_hash(stored.statement),
        key_id=read.key_id if read else None,
        state=state,
    )


async def _states(services: Services, stored: Sequence[StoredCheckpoint]) -> list[State]:
    try:
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            return list(await asyncio.gather(*(_state(services, one) for one in stored)))
    except (TimeoutError, Unavailable):
        return [State.FORGED if _is_forged(services, one) else State.UNKNOWN for one in stored]


async def _state(services: Services, stored: StoredCheckpoint) -> State:
    if _is_forged(services, stored):
        return State.FORGED
    try:
        await services.objects.stat(checkpoint_key(stored.number))
    except NotFound:
        return State.WAITING
    return State.PUBLISHED


def _is_forged(services: Services, stored: StoredCheckpoint) -> bool:
    """What is signed by a key of before cannot be told here; the verifier is given every key."""
    read, key = stored.read(), services.audit_key
    if read is None:
        return True
    return read.key_id == key.id and not key.is_signed(stored.statement.encode(), stored.signature)


async def have_made(services: Services, order_id: UUID, initiator: str) -> MadeCheckpoint | None:
    """Has the workflow make a checkpoint. The same order again is the same checkpoint.

    Returns:
        What was made and kept; ``None`` if that takes longer than anybody waits. The workflow goes on.

    Raises:
        Conflict: The log is not what was signed before (code ``audit_log_damaged``), or no checkpoint could be made
            (``checkpoint_failed``).
        Unavailable: Temporal is away, so nothing was begun.
    """
    workflow_id = audit_checkpoint_workflow_id(order_id)
    with translated_errors():
        with suppress(WorkflowAlreadyStartedError):  # by the same order
            await services.temporal.start_workflow(
                AUDIT_CHECKPOINT_WORKFLOW,
                id=workflow_id,
                task_queue=ORCHESTRATION_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=search_attributes(Kind.MAINTENANCE, initiator=initiator),
                rpc_timeout=TEMPORAL_TIMEOUT,
            )
        handle = services.temporal.get_workflow_handle(workflow_id, result_type=MadeCheckpoint)
        try:
            async with asyncio.timeout(MADE_TIMEOUT_SECONDS):
                made: MadeCheckpoint = await handle.result()
        except TimeoutError:
            return None
        except WorkflowFailureError as error:
            raise _failed(error) from error
    return made


def _failed(error: WorkflowFailureError) -> Conflict:
    cause: BaseException | None = error.cause
    while cause is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    if cause is not None and cause.type == "audit_log_damaged":
        return Conflict(cause.message, code=cause.type)
    return Conflict(
        f"No checkpoint was made: {cause or error.cause}. The hourly one will try again.", code="checkpoint_failed"
    )
