"""What happens around every workflow and activity: errors cross the boundary, and the actor travels along.

Errors: a ``PerdureError`` becomes ``ApplicationError(type=code, non_retryable=not retryable)``, here and nowhere else.
Whatever else an activity raises is retried, and its text is cut to one short line: exceptions of libraries quote
statements and their parameters, which may hold what nobody should read in a history.

Actor: a workflow whose input has an ``actor`` hands it to its activities and child workflows in a header, where
``temporal.acting.current_actor`` finds it. A workflow without one hands on what it was handed.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from domain.actors import SYSTEM, Actor
from domain.errors import PerdureError, TooManyRequests
from temporal.acting import acting
from temporal.names import ACTOR_HEADER

UNEXPECTED = "unexpected"
"""The ``type`` of failures that are bugs or unforeseen conditions."""
UNEXPECTED_TEXT_LENGTH_MAX = 300

_log = logging.getLogger(__name__)


class PerdureInterceptor(Interceptor):
    """For every worker (and the replayer, because it is part of how a workflow runs)."""

    def intercept_activity(self, following: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wraps each activity."""
        return _Activity(following)

    def workflow_interceptor_class(self, _: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Wraps each workflow."""
        return _Workflow


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, call: ExecuteActivityInput) -> object:
        with acting(_actor_of(call.headers)):
            try:
                return await super().execute_activity(call)
            except PerdureError as error:
                _raise_translated(error)
            except (FailureError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001  # every way to fail crosses the boundary here
                _log.exception("activity %s raised something unexpected", activity.info().activity_type)
                # Without the cause: the failure converter would write its whole text into the history.
                raise ApplicationError(_one_line(error), type=UNEXPECTED).with_traceback(error.__traceback__) from None


class _Workflow(WorkflowInboundInterceptor):
    """Keeps the header for the outbound side; created once per workflow execution."""

    def __init__(self, following: WorkflowInboundInterceptor) -> None:
        super().__init__(following)
        self.header: Payload | None = None

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound, self))

    async def execute_workflow(self, call: ExecuteWorkflowInput) -> object:
        self.header = call.headers.get(ACTOR_HEADER)
        own = getattr(call.args[0], "actor", None) if call.args else None
        if isinstance(own, Actor):
            self.header = workflow.payload_converter().to_payload(own)
        try:
            return await super().execute_workflow(call)
        except PerdureError as error:
            # It fails the workflow. Any other exception fails only the task, so that a bug can be fixed and deployed.
            _raise_translated(error)


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, following: WorkflowOutboundInterceptor, inbound: _Workflow) -> None:
        super().__init__(following)
        self._inbound = inbound

    def start_activity(self, call: StartActivityInput) -> workflow.ActivityHandle[Any]:
        call.headers = self._with_actor(call.headers)
        return super().start_activity(call)

    def start_local_activity(self, call: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        call.headers = self._with_actor(call.headers)
        return super().start_local_activity(call)

    async def start_child_workflow(
        self,
        call: StartChildWorkflowInput,
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        call.headers = self._with_actor(call.headers)
        return await super().start_child_workflow(call)

    def _with_actor(self, headers: Mapping[str, Payload]) -> Mapping[str, Payload]:
        if self._inbound.header is None:
            return headers
        return {**headers, ACTOR_HEADER: self._inbound.header}


def _actor_of(headers: Mapping[str, Payload]) -> Actor:
    header = headers.get(ACTOR_HEADER)
    if header is None:
        return SYSTEM
    actor: Actor = activity.payload_converter().from_payload(header, Actor)
    return actor


def _raise_translated(error: PerdureError) -> NoReturn:
    # Only a limit that was set on purpose knows better than the caller's retry policy when to come back.
    delay = timedelta(seconds=error.retry_after_seconds) if isinstance(error, TooManyRequests) else None
    raise ApplicationError(
        error.message,
        error.details,
        type=error.specific_code,
        non_retryable=not error.retryable,
        next_retry_delay=delay,
    ).with_traceback(error.__traceback__) from None


def _one_line(error: Exception) -> str:
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first}"[:UNEXPECTED_TEXT_LENGTH_MAX]
