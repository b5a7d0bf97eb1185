"""What Temporal need not keep: ended maintenance, and large payloads of histories that are gone.

The schedules that run twice a minute end 5,760 executions a day. All of them together say no more than the last hour
does, but kept for the namespace's whole retention they would be most of what the server stores and lists.

Large payloads lie in the object store (``temporal.codec``), of which the server knows nothing: it forgets a history,
and its payloads stay.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import translated_errors
from temporal.codec import PAYLOAD_PREFIX
from temporal.names import PERDURE_KIND, Kind

MAINTENANCE_KEPT = timedelta(hours=1)
"""How long an ended execution of a schedule can be looked at."""
DELETED_AT_ONCE = 2_000
"""Executions per round. An hour ends 241; what an older version has left goes within a few days, unnoticed."""
PAYLOADS_MARGIN = timedelta(days=60)
"""How much longer than the namespace's retention a payload is kept: a history is kept from the end of its execution
on, and one that is reset takes its payloads along into a new one."""
_HANDED_ON_WITHIN = timedelta(days=1)
"""A child or successor begins with a payload that was written a moment before, perhaps before midnight."""


class Payloads(Protocol):
    """Where large payloads lie; ``adapters.objects.base.Objects`` is one."""

    async def list_keys(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are fine."""
        ...


class HistoryExpiry:
    """Removes what nobody needs any more; safe to run again, and beside another of its kind.

    Args:
        client: Of the namespace that is tidied.
        payloads: Where its large payloads lie.
        maintenance_kept: See ``MAINTENANCE_KEPT``.
        deleted_at_once: See ``DELETED_AT_ONCE``.
        payloads_margin: See ``PAYLOADS_MARGIN``.
    """

    def __init__(
        self,
        client: Client,
        payloads: Payloads,
        *,
        maintenance_kept: timedelta = MAINTENANCE_KEPT,
        deleted_at_once: int = DELETED_AT_ONCE,
        payloads_margin: timedelta = PAYLOADS_MARGIN,
    ) -> None:
        self._client = client
        self._payloads = payloads
        self._maintenance_kept = maintenance_kept
        self._deleted_at_once = deleted_at_once
        self._payloads_margin = payloads_margin

    async def expire(self) -> None:
        """Does one round.

        Raises:
            domain.errors.Unavailable: The server or the object store does not answer; the rest is done next time.
        """
        with translated_errors():
            await self._delete_maintenance()
            kept_from = await self._payloads_kept_from()
        keys = await self._payloads.list_keys(PAYLOAD_PREFIX)
        await self._payloads.delete([key for key in keys if (day := _day_of(key)) is not None and day < kept_from])

    async def _delete_maintenance(self) -> None:
        closed_before = datetime.now(UTC) - self._maintenance_kept
        query = (
            f"{PERDURE_KIND.name} = '{Kind.MAINTENANCE.value}' AND ExecutionStatus != 'Running' "
            f"AND CloseTime < '{_text(closed_before)}'"
        )
        # One after the other: the server has better things to do than to tidy up.
        async for ended in self._client.list_workflows(query, limit=self._deleted_at_once):
            await self._delete(ended.id, ended.run_id)

    async def _delete(self, workflow_id: str, run_id: str) -> None:
        # With its run id it can only be the one that has ended: without, the server would end and delete the present.
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )
        try:
            await self._client.workflow_service.delete_workflow_execution(request, retry=True)
        except RPCError as error:
            # The list lags behind: it was deleted before, here or by another worker.
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _payloads_kept_from(self) -> date:
        """The first day whose payloads a history may still refer to."""
        answer = await self._client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=self._client.namespace), retry=True
        )
        # Asked for, because an operator may have changed it.
        retention = answer.config.workflow_execution_retention_ttl.ToTimedelta()
        if not retention:
            return date.min
        oldest = datetime.now(UTC) - retention - self._payloads_margin
        # What runs for months, or did until lately, still needs what it began with.
        async for kept in self._client.list_workflows(f"StartTime < '{_text(oldest)}'"):
            oldest = min(oldest, kept.start_time - _HANDED_ON_WITHIN)
        return oldest.date()


def _day_of(key: str) -> date | None:
    """When a payload was written; ``None`` if this is no key of a payload."""
    try:
        return date.fromisoformat(key.removeprefix(PAYLOAD_PREFIX).partition("/")[0])
    except ValueError:
        return None


def _text(moment: datetime) -> str:
    """As queries want it (RFC 3339)."""
    return moment.isoformat(timespec="milliseconds")
