"""The workflow sandbox: one function builds the runner; workers, tests and the replayer use the same one.

Our packages are passed through, because otherwise workflow and activity would see two classes of one name. What is
passed through is no longer guarded by the sandbox, so the purity of ``domain`` and ``workflows`` is kept by lint
(``domain/ruff.toml``, ``workflows/ruff.toml``, the import contracts). What the sandbox still refuses are files, input
and the other built-ins that a workflow has no use for, and with ``UnintentionalPassthroughError`` any import of
another module while a workflow is loaded or runs.
"""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

PASSED_THROUGH = ("activities", "domain", "temporal", "workflows")


def workflow_runner(*more_packages: str) -> SandboxedWorkflowRunner:
    """Builds the runner.

    Args:
        more_packages: Further packages to pass through; for workflows that live among the tests.
    """
    policy = (
        SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        | SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
    )
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            *PASSED_THROUGH, *more_packages
        ).with_import_notification_policy(policy)
    )
