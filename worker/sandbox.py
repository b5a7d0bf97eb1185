"""The workflow sandbox: one function builds the runner; workers, tests and the replayer use the same one.

Our packages are passed through, because otherwise workflow and activity would see two classes of one name. What is
passed through is no longer guarded by the sandbox, so the purity of ``domain`` and ``workflows`` is kept by lint
(``domain/ruff.toml``, ``workflows/ruff.toml``, the import contracts). What the sandbox still refuses are files, input
and the other built-ins that a workflow has no use for, and with ``UnintentionalPassthroughError`` any import of
another module while a workflow is loaded or runs.
"""

from dataclasses import dataclass

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info, SandboxImportNotificationPolicy

PASSED_THROUGH = ("activities", "domain", "temporal", "workflows")


class _WithoutContexts(WorkflowInstance):
    """A workflow whose payloads are encoded without asking it for their context.

    The SDK asks the sandboxed workflow up to three times for each payload of each task, and each question compiles and
    enters the sandbox anew: a tenth of the worker's processor time. Our converter (``temporal/converter.py``) has no
    use for the answers; a test holds it to that.
    """

    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._inner.activate(act)

    def get_serialization_context(self, _: object) -> None:
        return None

    def get_external_store_context(self, _: object) -> StorageDriverStoreContext:
        return StorageDriverStoreContext()

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


@dataclass(frozen=True)
class _Runner(SandboxedWorkflowRunner):
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _WithoutContexts(super().create_instance(det))


def workflow_runner(*more_packages: str) -> SandboxedWorkflowRunner:
    """Builds the runner.

    Args:
        more_packages: Further packages to pass through; for workflows that live among the tests.
    """
    policy = (
        SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        | SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
    )
    return _Runner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            *PASSED_THROUGH, *more_packages
        ).with_import_notification_policy(policy)
    )
