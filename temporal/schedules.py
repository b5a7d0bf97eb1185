"""Everything that happens by the clock, in one table, brought to the server by ``reconcile`` at worker start.

To change what runs when, change ``SCHEDULES``; to stop one for a while, pause it in the Temporal UI (a pause survives
reconciliation). Schedules outside our prefix are never touched.
"""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import translated_errors
from temporal.names import (
    AUDIT_CHECKPOINT_WORKFLOW,
    EXPIRE_WORKFLOW,
    MAINTAIN_REPOSITORIES_WORKFLOW,
    ORCHESTRATION_QUEUE,
    REPAIR_MAILS_WORKFLOW,
    REPAIR_RUNS_WORKFLOW,
    ROTATE_SIGNING_KEYS_WORKFLOW,
    SWEEP_PUSHES_WORKFLOW,
    Kind,
    search_attributes,
)

PREFIX = "perdure/"


@dataclass(frozen=True)
class DeclaredSchedule:
    """One row of the table.

    Attributes:
        name: What follows ``PREFIX`` in the schedule's id.
        workflow: The workflow type; it takes no input.
        every: The interval, counted from the epoch.
        overlap: What happens when the workflow before still runs.
        catch_up: How far back actions are made up for after the server was away.
        limit: A workflow that is not done by then is ended, so that one that is stuck does not stop the schedule.
        note: Why it exists, for whoever reads the Temporal UI.
        queue: Where the workflow runs.
    """

    name: str
    workflow: str
    every: timedelta
    overlap: ScheduleOverlapPolicy
    catch_up: timedelta
    limit: timedelta
    note: str
    queue: str = ORCHESTRATION_QUEUE

    @property
    def id(self) -> str:
        """The schedule's id on the server."""
        return PREFIX + self.name


SCHEDULES: tuple[DeclaredSchedule, ...] = (
    DeclaredSchedule(
        name="repair-runs",
        workflow=REPAIR_RUNS_WORKFLOW,
        every=timedelta(seconds=30),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(seconds=30),
        limit=timedelta(minutes=10),
        note="Starts the workflows of runs whose row was committed just before a crash, and removes what was left.",
    ),
    DeclaredSchedule(
        name="repair-mails",
        workflow=REPAIR_MAILS_WORKFLOW,
        every=timedelta(minutes=1),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(minutes=1),
        limit=timedelta(minutes=10),
        note="Sends mails whose row was committed just before a crash.",
    ),
    DeclaredSchedule(
        name="sweep-pushes",
        workflow=SWEEP_PUSHES_WORKFLOW,
        every=timedelta(seconds=30),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(seconds=30),
        limit=timedelta(minutes=10),
        note="Settles pushes that an API process left behind when it was killed (promise D1).",
    ),
    DeclaredSchedule(
        name="expire",
        workflow=EXPIRE_WORKFLOW,
        every=timedelta(hours=1),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(hours=1),
        limit=timedelta(hours=6),
        note="Removes artifacts past their date and objects that nothing refers to.",
    ),
    DeclaredSchedule(
        name="maintain-repositories",
        workflow=MAINTAIN_REPOSITORIES_WORKFLOW,
        every=timedelta(hours=1),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(hours=1),
        limit=timedelta(hours=12),
        note="Joins the packs that pushes left, so that clones stay quick.",
    ),
    DeclaredSchedule(
        name="audit-checkpoint",
        workflow=AUDIT_CHECKPOINT_WORKFLOW,
        every=timedelta(hours=1),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(hours=1),
        limit=timedelta(minutes=50),
        note="Signs where the audit log stands and keeps that in the object store. A failure may mean tampering.",
    ),
    DeclaredSchedule(
        name="rotate-signing-keys",
        workflow=ROTATE_SIGNING_KEYS_WORKFLOW,
        every=timedelta(hours=1),
        overlap=ScheduleOverlapPolicy.SKIP,
        catch_up=timedelta(hours=1),
        limit=timedelta(minutes=30),
        note="Publishes the next keys of identity tokens a day before they sign, and removes those that are over.",
    ),
)


@dataclass(frozen=True)
class Reconciled:
    """What ``reconcile`` did, by schedule id."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


async def reconcile(
    client: Client, declared: tuple[DeclaredSchedule, ...] = SCHEDULES, *, prefix: str = PREFIX
) -> Reconciled:
    """Makes the server's schedules with our prefix those of the table. Several workers may do so at the same time.

    Raises:
        domain.errors.Unavailable: The server does not answer; what was done so far stays and is fine.
    """
    created, updated = [], []
    with translated_errors():
        # The list may lag behind what was created a moment ago, so it only serves to find what to delete.
        wanted = {row.id for row in declared}
        present = [listed.id async for listed in await client.list_schedules() if listed.id.startswith(prefix)]
        deleted = [schedule_id for schedule_id in present if schedule_id not in wanted]
        for schedule_id in deleted:
            await _delete(client, schedule_id)
        for row in declared:
            if await _create(client, row):
                created.append(row.id)
            elif await _update(client, row):
                updated.append(row.id)
    return Reconciled(tuple(created), tuple(updated), tuple(deleted))


def _schedule(row: DeclaredSchedule, state: ScheduleState) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            row.workflow,
            id=f"schedule/{row.name}",
            task_queue=row.queue,
            execution_timeout=row.limit,
            typed_search_attributes=search_attributes(Kind.MAINTENANCE, initiator="system"),
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=row.every)]),
        policy=SchedulePolicy(overlap=row.overlap, catchup_window=row.catch_up),
        state=state,
    )


async def _create(client: Client, row: DeclaredSchedule) -> bool:
    try:
        await client.create_schedule(row.id, _schedule(row, ScheduleState(note=row.note)))
    except ScheduleAlreadyRunningError:
        return False
    return True


async def _update(client: Client, row: DeclaredSchedule) -> bool:
    handle = client.get_schedule_handle(row.id)
    if _same(_schedule(row, ScheduleState()), (await handle.describe()).schedule):
        return False

    def renew(present: ScheduleUpdateInput) -> ScheduleUpdate:
        # A person's pause, and the note in which the UI keeps its reason, are theirs.
        return ScheduleUpdate(schedule=_schedule(row, present.description.schedule.state))

    await handle.update(renew)
    return True


def _same(wanted: Schedule, present: Schedule) -> bool:
    """Whether what the table governs is equal; state is a person's."""
    one, other = wanted.action, present.action
    if not isinstance(one, ScheduleActionStartWorkflow) or not isinstance(other, ScheduleActionStartWorkflow):
        return False
    return (
        (one.workflow, one.id, one.task_queue, one.execution_timeout)
        == (other.workflow, other.id, other.task_queue, other.execution_timeout)
        and [interval.every for interval in wanted.spec.intervals]
        == [interval.every for interval in present.spec.intervals]
        and not present.spec.calendars
        and (wanted.policy.overlap, wanted.policy.catchup_window)
        == (present.policy.overlap, present.policy.catchup_window)
    )


async def _delete(client: Client, schedule_id: str) -> None:
    try:
        await client.get_schedule_handle(schedule_id).delete()
    except RPCError as error:
        # Another worker was faster, or the list still showed one that is gone.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
