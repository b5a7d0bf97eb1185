"""Questions about executions that are asked from outside of them."""

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import translated_errors


class Executions:
    """Asks the server about workflows by their id."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def is_open(self, workflow_id: str) -> bool:
        """``False`` if the latest execution with this id ended in any way, or there never was one.

        Raises:
            domain.errors.Unavailable: The server does not answer.
        """
        with translated_errors():
            try:
                description = await self._client.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
        return description.status is WorkflowExecutionStatus.RUNNING
