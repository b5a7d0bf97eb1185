"""Questions about executions that are asked from outside of them."""

from typing import Literal

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import translated_errors


class Executions:
    """Asks the server about workflows by their id."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def state(self, workflow_id: str) -> Literal["open", "ended", "absent"]:
        """Where the latest execution with this id stands; ``absent`` if the server knows of none.

        Raises:
            domain.errors.Unavailable: The server does not answer.
        """
        with translated_errors():
            try:
                description = await self._client.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return "absent"
        return "open" if description.status is WorkflowExecutionStatus.RUNNING else "ended"
