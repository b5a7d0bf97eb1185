"""What Temporal need not keep: ended maintenance.

The schedules that run twice a minute end 5,760 executions a day. All of them together say no more than the last hour
does, but kept for the namespace's whole retention they would be most of what the server stores and lists.
"""

from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import translated_errors
from temporal.names import PERDURE_KIND, Kind

MAINTENANCE_KEPT = timedelta(hours=1)
"""How long an ended execution of a schedule can be looked at."""
DELETED_AT_ONCE = 2_000
"""Executions per round. An hour ends 241; what an older version has left goes within a few days, unnoticed."""


class HistoryExpiry:
    """Removes what nobody needs any more; safe to run again, and beside another of its kind.

    Args:
        client: Of the namespace that is tidied.
        maintenance_kept: See ``MAINTENANCE_KEPT``.
        deleted_at_once: See ``DELETED_AT_ONCE``.
    """

    def __init__(
        self,
        client: Client,
        *,
        maintenance_kept: timedelta = MAINTENANCE_KEPT,
        deleted_at_once: int = DELETED_AT_ONCE,
    ) -> None:
        self._client = client
        self._maintenance_kept = maintenance_kept
        self._deleted_at_once = deleted_at_once

    async def expire(self) -> None:
        """Does one round.

        Raises:
            domain.errors.Unavailable: The server does not answer; the rest is done next time.
        """
        with translated_errors():
            await self._delete_maintenance()

    async def _delete_maintenance(self) -> None:
        closed_before = datetime.now(UTC) - self._maintenance_kept
        query = (
            f"{PERDURE_KIND.name} = '{Kind.MAINTENANCE.value}' AND ExecutionStatus != 'Running' "
            f"AND CloseTime < '{closed_before.isoformat(timespec='milliseconds')}'"
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
