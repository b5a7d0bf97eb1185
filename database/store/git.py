"""The push outbox (promise D1): a row before git may move a ref, settled when the push's runs are rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.git import Push
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.git.receive_pack import RefUpdate


@dataclass(frozen=True, slots=True)
class PushRecord:
    """A push of the outbox.

    Attributes:
        updates: As the client asked; which of them happened is told by ``moved``.
        moved: The refs that this push moved; ``None`` while only git knows.
        result: What came of it, as it was stored; ``None`` while it is open.
    """

    id: UUID
    project_id: UUID
    actor: Actor
    updates: tuple[RefUpdate, ...]
    push_options: tuple[str, ...]
    is_settled: bool
    moved: frozenset[str] | None
    result: dict[str, Any] | None
    created_at: datetime


def _record_of(row: Push) -> PushRecord:
    outcome = row.outcome or {}
    moved = outcome.get("moved")
    return PushRecord(
        id=row.id,
        project_id=row.project_id,
        actor=Actor.model_validate(row.actor),
        updates=tuple(RefUpdate(**one) for one in row.updates),
        push_options=tuple(row.push_options),
        is_settled=row.status == "settled",
        moved=None if moved is None else frozenset(moved),
        result=outcome.get("result"),
        created_at=row.created_at,
    )


async def open_push(
    session: AsyncSession,
    actor: Actor,
    push_id: UUID,
    project_id: UUID,
    *,
    updates: Sequence[RefUpdate],
    push_options: Sequence[str] = (),
) -> None:
    """Writes down that a push is about to happen. To be committed with the push's lock in hand, before git starts."""
    await session.execute(
        insert(Push).values(
            id=push_id,
            project_id=project_id,
            actor=actor.model_dump(mode="json"),
            updates=[{"old": one.old, "new": one.new, "ref": one.ref} for one in updates],
            push_options=list(push_options),
        )
    )


async def push_of(session: AsyncSession, push_id: UUID, *, lock: bool = False) -> PushRecord | None:
    """The push, with its row locked until the end of the transaction where ``lock`` says so."""
    statement = select(Push).where(col(Push.id) == push_id)
    row = (await session.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    return None if row is None else _record_of(row)


async def open_pushes_of(session: AsyncSession, project_id: UUID) -> list[PushRecord]:
    """The project's pushes that are not settled, oldest first."""
    statement = (
        select(Push)
        .where(col(Push.project_id) == project_id, col(Push.status) == "open")
        .order_by(col(Push.created_at))
    )
    return [_record_of(row) for row in (await session.execute(statement)).scalars()]


async def open_pushes(session: AsyncSession, *, older_than: timedelta, limit: int) -> list[UUID]:
    """Pushes of all projects that were opened some time ago and never settled, oldest first."""
    statement = (
        select(col(Push.id))
        .where(col(Push.status) == "open", col(Push.created_at) < func.now() - older_than)
        .order_by(col(Push.created_at))
        .limit(limit)
    )
    return list((await session.execute(statement)).scalars())


async def note_moved(session: AsyncSession, push_id: UUID, moved: Sequence[str]) -> None:
    """Keeps which refs an open push moved, because git's own evidence is about to go (a deletion takes it along)."""
    await session.execute(
        update(Push)
        .where(col(Push.id) == push_id, col(Push.status) == "open", col(Push.outcome).is_(None))
        .values(outcome={"moved": list(moved)})
    )


async def settle_push(
    session: AsyncSession, push: PushRecord, *, moved: Sequence[str], runs: Sequence[UUID], result: dict[str, Any]
) -> None:
    """Closes a push that is open, with its audit row. The caller holds the row's lock (``push_of(lock=True)``).

    Args:
        moved: The refs that really moved.
        runs: The runs made of it, in this transaction.
        result: What to answer whoever asks again.
    """
    outcome = {"moved": list(moved), "runs": [str(run) for run in runs], "result": result}
    await session.execute(
        update(Push)
        .where(col(Push.id) == push.id, col(Push.status) == "open")
        .values(status="settled", outcome=outcome, settled_at=func.now())
    )
    happened: Literal["success", "failure"] = "success" if moved else "failure"
    await record(
        session,
        push.actor,
        AuditAction.GIT_PUSH,
        "project",
        push.project_id,
        push.project_id,
        outcome=happened,
        detail={
            "push_id": str(push.id),
            "updates": [{"old": one.old, "new": one.new, "ref": one.ref} for one in push.updates[:100]],
            "updates_count": len(push.updates),
            "moved_count": len(moved),
            "runs": [str(run) for run in runs],
        },
    )


async def record_refused_push(
    session: AsyncSession, actor: Actor, project_id: UUID | None, *, reasons: dict[str, str]
) -> None:
    """The audit row of a push that was refused before git saw it."""
    # A malformed name may hold what JSON in PostgreSQL cannot (a NUL, half a character): shown escaped.
    shown: dict[str, object] = {
        ref if ref.isprintable() else ascii(ref): reason for ref, reason in list(reasons.items())[:100]
    }
    await record(
        session, actor, AuditAction.GIT_PUSH, "project", project_id, project_id, outcome="denied", detail=shown
    )


async def record_fetch(session: AsyncSession, actor: Actor, project_id: UUID) -> None:
    """The audit row of a clone or fetch that is about to send objects."""
    await record(session, actor, AuditAction.GIT_FETCH, "project", project_id, project_id)
