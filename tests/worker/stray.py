"""A workflow with an import that has no business in one; see ``test_registry``."""

import httpx
from temporalio import workflow


@workflow.defn
class StrayWorkflow:
    """Never runs."""

    @workflow.run
    async def run(self) -> str:
        return httpx.__name__
