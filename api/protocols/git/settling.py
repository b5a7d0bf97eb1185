"""After git has ended: hands the push to its workflow and words what came of it for the pusher's terminal."""

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from adapters.repositories.base import PushLock
from api.services import Services
from database.store import git as store
from database.store.git import PushRecord
from domain.actors import Actor
from domain.errors import PerdureError
from domain.git.receive_pack import RefUpdate
from domain.git.refs import are_in_each_others_way
from domain.ids import push_workflow_id
from domain.pipelines.messages import SettlePushInput, SettlePushResult, StartedRun
from domain.pipelines.status import RunStatus
from domain.projects import ProjectView
from temporal.names import ORCHESTRATION_QUEUE, PUSH_WORKFLOW, push_attributes

logger = logging.getLogger(__name__)

ANSWER_WAIT_SECONDS = 5.0
"""How long a pusher waits for the addresses of the runs; they start all the same."""
_OLDER_PUSH_WAIT_SECONDS = 5.0
_OLDER_PUSH_POLL_SECONDS = 0.05
_PROBLEM_LINES_MAX = 30


async def settle(services: Services, actor: Actor, project: ProjectView, push_id: UUID, lock: PushLock) -> list[str]:
    """Settles a push whose git has ended, and returns the lines for the terminal.

    A push that moved nothing is closed here. Any other goes to ``PushWorkflow``; if that cannot be reached now, the
    open row is found by the sweep (promise D1).
    """
    try:
        async with services.database.transaction() as session:
            push = await store.push_of(session, push_id, lock=True)
            if push is None:
                return ["the project was deleted during this push."]
            moved = services.repositories.moved_updates(project.id, push_id, push.updates)
            if not any(moved):
                result = SettlePushResult().model_dump(mode="json")
                await store.settle_push(session, push, moved=(), runs=(), result=result)
    except PerdureError as error:
        logger.warning("push %s stays open for the sweep: %s", push_id, error.message)
        return [_LATER]
    if not any(moved):
        lock.remove()
        return []
    lock.close()
    result_or_none = await _result(services, actor, project, push)
    return [_LATER] if result_or_none is None else _lines(services, project, result_or_none)


_LATER = "the push is recorded; its pipelines start as soon as the workers are reachable again."


async def _result(services: Services, actor: Actor, project: ProjectView, push: PushRecord) -> SettlePushResult | None:
    try:
        async with asyncio.timeout(ANSWER_WAIT_SECONDS):
            handle = await _start(services, actor, project, push)
            return await handle.result()
    except (TimeoutError, RPCError, RuntimeError, WorkflowFailureError) as error:
        logger.warning("push %s is not settled yet, the sweep will see to it: %r", push.id, error)
    try:
        # A long poll of Temporal can be late although all is done: the row knows.
        async with services.database.transaction() as session:
            now = await store.push_of(session, push.id)
    except PerdureError:
        return None
    return None if now is None or now.result is None else SettlePushResult.model_validate(now.result)


async def _start(
    services: Services, actor: Actor, project: ProjectView, push: PushRecord
) -> WorkflowHandle[object, SettlePushResult]:
    workflow_id = push_workflow_id(push.id)
    try:
        return await services.temporal.start_workflow(
            PUSH_WORKFLOW,
            SettlePushInput(push_id=push.id),
            id=workflow_id,
            task_queue=ORCHESTRATION_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=push_attributes(project.full_name, push.updates[0].ref, actor.name),
            result_type=SettlePushResult,
        )
    except WorkflowAlreadyStartedError:
        return services.temporal.get_workflow_handle(workflow_id, result_type=SettlePushResult)


def _lines(services: Services, project: ProjectView, result: SettlePushResult) -> list[str]:
    lines = list(result.notes)
    for run in result.runs:
        address = f"{services.public_url}/{project.full_name}/pipelines/{run.run_id}"
        if run.status is RunStatus.ERROR:
            lines += [f"pipeline {run.name} #{run.number} cannot run, {run.config_path} is not valid: {address}"]
            lines += _shown(run)
        else:
            lines.append(f"pipeline {run.name} #{run.number} started: {address}")
    return lines


def _shown(run: StartedRun) -> list[str]:
    shown = [f"  {problem}" for problem in run.problems[:_PROBLEM_LINES_MAX]]
    if len(run.problems) > len(shown):
        shown.append(f"  and {len(run.problems) - len(shown)} more")
    return shown


async def note_what_will_vanish(services: Services, project_id: UUID, updates: Sequence[RefUpdate]) -> dict[str, str]:
    """Before a push may delete a ref: keeps what older, unsettled pushes did to it, because its reflog goes too.

    Returns:
        Reasons to refuse the push: a ref that an older push is still working on. Empty if it may go on.
    """
    deleted = [update.ref for update in updates if update.deletes]
    if not deleted:
        return {}
    deadline = asyncio.get_running_loop().time() + _OLDER_PUSH_WAIT_SECONDS
    while True:
        busy = await _note_once(services, project_id, deleted)
        if not busy or asyncio.get_running_loop().time() > deadline:
            return dict.fromkeys(busy, "another push to it is still under way; push again when it has ended")
        await asyncio.sleep(_OLDER_PUSH_POLL_SECONDS)


async def _note_once(services: Services, project_id: UUID, deleted: Sequence[str]) -> list[str]:
    """Notes what can be noted; returns the refs that a push still works on."""
    busy: list[str] = []
    async with services.database.transaction() as session:
        older = await store.open_pushes_of(session, project_id)
        for push in older:
            touched = [
                ref for ref in deleted if any(are_in_each_others_way(ref, update.ref) for update in push.updates)
            ]
            if not touched or push.moved is not None:
                continue
            lock = services.repositories.lock_push(push.id)
            if lock is None:
                busy += touched
                continue
            try:
                facts = services.repositories.moved_updates(project_id, push.id, push.updates)
                moved = [update.ref for update, happened in zip(push.updates, facts, strict=True) if happened]
                await store.note_moved(session, push.id, moved)
            finally:
                lock.close()
    return busy
