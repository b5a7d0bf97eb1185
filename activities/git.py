"""What follows a push: which refs it really moved, and the runs that come of that (promise D1)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity

from activities.heartbeat import heartbeating
from adapters.bus.base import Bus, run_channel
from adapters.repositories.base import Commit, ObjectReader, Repositories
from adapters.repositories.pipeline_files import read_pipeline_files
from database.engine import Database, Session
from database.store import git as store
from database.store.access.standing import standing_of
from database.store.audit import record
from database.store.git import PushRecord
from database.store.pipelines.runs import NewRun, create_run
from database.store.projects import full_name_of
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.errors import Conflict, NotFound
from domain.git.receive_pack import RefUpdate
from domain.git.refs import branch_of, short_name, tag_of
from domain.pipelines.files import ROOT_FILE, skip_requested
from domain.pipelines.messages import OpenPushes, SettlePushInput, SettlePushResult, StartedRun
from domain.pipelines.plan import CHANGED_PATHS_MAX, TriggerContext
from domain.pipelines.problems import Problem
from domain.pipelines.spec import TriggerEvent
from domain.pipelines.trigger import PlannedRun, refused_file, runs_for

REFS_WITH_RUNS_MAX = 20
"""A push of more refs (a mirror, all tags) starts pipelines for none beyond this many."""
SWEPT_AFTER = timedelta(seconds=15)
SWEPT_AT_ONCE_MAX = 200
LOCK_KEPT_SECONDS = 60.0
"""Of a push whose API was killed between lock and row: nobody holds it and no row asks for it."""
CROWDED_PACKS_MIN = 30
"""Each push leaves a pack; with more than some dozens git has to look into too many of them."""
MAINTAINED_AT_ONCE_MAX = 20
_SHORT_SHA_LENGTH = 8


class PushInProgress(Conflict):
    """The push is still being received; it can be settled when git has ended. Tried again."""

    code = "push_in_progress"
    retryable = True


@dataclass
class _Planned:
    """What one moved ref asks for."""

    update: RefUpdate
    commit: Commit | None = None
    runs: list[PlannedRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class GitActivities:
    """Activities of pushes."""

    def __init__(self, database: Database, repositories: Repositories, bus: Bus) -> None:
        self._database = database
        self._repositories = repositories
        self._bus = bus

    @activity.defn(name="settle_push")
    async def settle_push(self, order: SettlePushInput) -> SettlePushResult:
        """Makes the runs of a push and closes it, in one transaction. Repeating it returns what came of it.

        Raises:
            NotFound: There is no such push.
            PushInProgress: Git still works on it; to be tried again.
        """
        async with heartbeating():
            return await self._settle_once(order)

    async def _settle_once(self, order: SettlePushInput) -> SettlePushResult:
        async with self._database.transaction() as session:
            push = await store.push_of(session, order.push_id)
            if push is None:
                raise NotFound(f"There is no push {order.push_id}.")
            address = await full_name_of(session, push.project_id)
        if push.result is not None:
            return SettlePushResult.model_validate(push.result)
        lock = self._repositories.lock_push(push.id)
        if lock is None:
            raise PushInProgress("The push is still being received; its pipelines start when git has ended.")
        try:
            result = await self._settle(push, address)
            lock.remove()
        finally:
            lock.close()
        for run in result.runs:
            await self._bus.publish(run_channel(run.run_id))
        return result

    @activity.defn(name="sweep_pushes")
    async def sweep_pushes(self) -> OpenPushes:
        """Pushes opened a while ago that nobody receives any more; clears away locks that nobody needs."""
        async with self._database.transaction() as session:
            found = await store.open_pushes(session, older_than=SWEPT_AFTER, limit=SWEPT_AT_ONCE_MAX)
        left = []
        for push_id in found:
            lock = self._repositories.lock_push(push_id)
            if lock is not None:
                lock.close()
                left.append(push_id)
        if len(found) < SWEPT_AT_ONCE_MAX:
            self._repositories.discard_locks(unused_seconds=LOCK_KEPT_SECONDS, keep=frozenset(found))
        return OpenPushes(push_ids=tuple(left))

    @activity.defn(name="maintain_repositories")
    async def maintain_repositories(self) -> None:
        """Joins the packs that pushes left, in the repositories that have most of them. Repeating it does no harm."""
        for project_id in await self._repositories.crowded(packs_min=CROWDED_PACKS_MIN, limit=MAINTAINED_AT_ONCE_MAX):
            activity.heartbeat()
            await self._repositories.maintain(project_id)

    async def _settle(self, push: PushRecord, address: str) -> SettlePushResult:
        moved = self._moved(push)
        planned, notes = await self._plan(push, moved)
        async with self._database.transaction() as session:
            present = await store.push_of(session, push.id, lock=True)
            if present is None:
                raise NotFound(f"There is no push {push.id}.")
            if present.result is not None:
                return SettlePushResult.model_validate(present.result)
            actor, refusal = await self._may_start(session, push, planned)
            if refusal is not None:
                notes, planned = [*notes, refusal], []
            runs: list[StartedRun] = []
            for one in planned:
                for run in one.runs:
                    new = _new_run(push, one, run, actor)
                    created = await create_run(session, new)
                    runs.append(
                        StartedRun(
                            run_id=created.run_id,
                            number=created.number,
                            name=run.name,
                            config_path=run.config_path,
                            status=created.status,
                            problems=tuple(Problem(**problem).render() for problem in run.problems),
                            actor=actor,
                            project=address,
                            git_ref=one.update.ref,
                        )
                    )
            result = SettlePushResult(runs=tuple(runs), notes=tuple(notes))
            await store.settle_push(
                session,
                push,
                moved=[update.ref for update in moved],
                runs=[run.run_id for run in runs],
                result=result.model_dump(mode="json"),
            )
        return result

    async def _may_start(
        self, session: Session, push: PushRecord, planned: Sequence[_Planned]
    ) -> tuple[Actor, str | None]:
        """For whom the runs act, and why there are none: whoever pushed may perhaps not run pipelines, or not any more.

        The push itself was decided before git moved a ref.
        """
        if not any(one.runs for one in planned):
            return push.actor, None
        standing = await standing_of(session, push.actor, Permission.PIPELINE_RUN, push.project_id)
        if standing.verdict.allowed:
            return standing.actor, None
        detail: dict[str, object] = {"permission": Permission.PIPELINE_RUN.value, "reason": standing.verdict.reason}
        await record(
            session,
            push.actor,
            Permission.PIPELINE_RUN,
            "project",
            push.project_id,
            push.project_id,
            outcome="denied",
            detail=detail | {"push_id": str(push.id)},
        )
        return push.actor, f"No pipeline was started: this needs pipeline:run, and {standing.verdict.reason}."

    def _moved(self, push: PushRecord) -> list[RefUpdate]:
        if push.moved is not None:
            return [update for update in push.updates if update.ref in push.moved]
        facts = self._repositories.moved_updates(push.project_id, push.id, push.updates)
        return [update for update, happened in zip(push.updates, facts, strict=True) if happened]

    async def _plan(self, push: PushRecord, moved: Sequence[RefUpdate]) -> tuple[list[_Planned], list[str]]:
        """Reads and plans outside of the transaction, which only has rows to write then."""
        arrived = [update for update in moved if not update.deletes]
        if not arrived:
            return [], []
        notes = []
        if len(arrived) > REFS_WITH_RUNS_MAX:
            notes.append(
                f"{len(arrived)} refs were pushed at once: pipelines start for the first {REFS_WITH_RUNS_MAX} only. "
                "Push the others in smaller groups, or start their pipelines by hand."
            )
        planned = []
        async with self._repositories.reader(push.project_id) as reader:
            for update in arrived[:REFS_WITH_RUNS_MAX]:
                one = await self._plan_ref(push, update, reader)
                planned.append(one)
                notes += one.notes
        return planned, notes

    async def _plan_ref(self, push: PushRecord, update: RefUpdate, reader: ObjectReader) -> _Planned:
        planned = _Planned(update)
        name = short_name(update.ref)
        commit = planned.commit = await reader.commit(update.new)
        if commit is None:
            planned.notes.append(f"{name} does not point at a commit: no pipeline.")
            return planned
        if skip_requested(commit.message, push.push_options):
            planned.notes.append(f"{name}: pipelines skipped as asked.")
            return planned
        found = await read_pipeline_files(reader, commit.sha)
        refused = [refused_file(problem) for problem in (*found.not_meant, *found.too_large)]
        if not found.contents and not refused:
            planned.notes.append(f"{name}: no {ROOT_FILE} in {commit.sha[:_SHORT_SHA_LENGTH]}, so no pipeline.")
            return planned
        trigger = await self._trigger(push, update, commit)
        # In a thread: a file as large as the limit allows takes long enough to parse to delay heartbeats.
        for run in [*refused, *await asyncio.to_thread(runs_for, found.contents, trigger)]:
            if run.note is not None:
                planned.notes.append(f"{name}: {run.note}")
            else:
                planned.runs.append(run)
        return planned

    async def _trigger(self, push: PushRecord, update: RefUpdate, commit: Commit) -> TriggerContext:
        tag = tag_of(update.ref)
        changed = None
        if tag is None and not update.creates:
            changed = await self._repositories.changed_paths(
                push.project_id, update.old, commit.sha, limit=CHANGED_PATHS_MAX
            )
        return TriggerContext(
            event=TriggerEvent.PUSH if tag is None else TriggerEvent.TAG,
            ref=update.ref,
            branch=branch_of(update.ref),
            tag=tag,
            changed_paths=changed,
        )


def _new_run(push: PushRecord, planned: _Planned, run: PlannedRun, actor: Actor) -> NewRun:
    commit = planned.commit
    return NewRun(
        project_id=push.project_id,
        actor=actor,
        trigger="push",
        git_ref=planned.update.ref,
        commit_sha=planned.update.new if commit is None else commit.sha,
        commit_title="" if commit is None else commit.title,
        config_path=run.config_path,
        name=run.name,
        plan=run.plan,
        problems=run.problems,
        push_id=push.id,
    )
