"""Audit rows: written in the transaction of the change that they tell of. The serving role can only insert."""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.audit_content import NOBODY, Entry, content_of
from database.store.audit_keys import AuditKeys, People, ensure_keys
from domain.actors import Actor
from domain.audit.actions import Action
from domain.audit.fields import NAMED_PEOPLE

Outcome = Literal["success", "denied", "failure"]

_PENDING = "audit"


async def record(  # noqa: PLR0917  # the order reads like the sentence: who did what to which
    session: AsyncSession,
    actor: Actor,
    action: Action,
    resource: str,
    resource_id: UUID | None,
    project_id: UUID | None = None,
    outcome: Outcome = "success",
    detail: Mapping[str, object] | None = None,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    person_id: UUID | None = None,
    trace_id: str | None = None,
) -> None:
    """Adds one row; it becomes visible with the caller's transaction or not at all.

    It is written as the last thing of the transaction (``write_recorded``), whose chain is locked that long only.

    Args:
        session: The transaction of the change, opened by ``Database.transaction``.
        actor: Who acts, with credential and origin.
        action: What is done. It is one of an enum, so that the reference of events lists all that is ever written; a
            denied attempt names the missing permission.
        resource: The kind of thing acted on, for instance ``project``.
        resource_id: Which one; ``None`` for the platform or what never came to be.
        project_id: The project that it belongs to.
        outcome: ``success``, ``denied`` (not allowed) or ``failure`` (tried, did not work).
        detail: Structured facts, for instance the reason. Fields that are secret or about a person are treated as
            ``domain.audit.fields`` says; free text about a person belongs into none of the others.
        before: What changed, as it was.
        after: What changed, as it is.
        person_id: Whose the personal fields are; by default the person acted on, else who acts.
        trace_id: Where it is not the one of the actor's origin.
    """
    acted_on = resource_id if resource in NAMED_PEOPLE and resource_id is not None else None
    entry = Entry(
        actor=actor,
        action=action,
        resource=resource,
        resource_id=resource_id,
        project_id=project_id,
        outcome=outcome,
        person_id=person_id or acted_on or actor.user_id,
        detail=detail,
        before=before,
        after=after,
        trace_id=trace_id,
    )
    # What the row tells of comes first: a change that the database refuses is refused where it was made.
    await session.flush()
    session.info.setdefault(_PENDING, []).append(entry)


async def write_recorded(session: AsyncSession, keys: AuditKeys | None) -> People:
    """Writes what was recorded in this transaction: one statement, and the last one before the commit.

    Locking a chain is the last lock that a transaction takes, so no transaction that holds one waits for another.

    Returns:
        The keys that were used, to be remembered once the transaction is committed.

    Raises:
        RuntimeError: Something was recorded on a ``Database`` that was opened without ``audit_keys``.
    """
    entries: list[Entry] = session.info.pop(_PENDING, [])
    if not entries:
        return {}
    if keys is None:
        raise RuntimeError("this Database was opened without audit_keys, so it cannot write the audit log")
    # What callers added and did not flush would otherwise take its locks after the chain's.
    await session.flush()
    people = await ensure_keys(session, keys, set().union(*(entry.people for entry in entries)))
    contents = [content_of(entry, keys, people) for entry in entries]
    await session.execute(
        text("INSERT INTO audit_log (content) SELECT * FROM unnest(CAST(:contents AS text[]))"), {"contents": contents}
    )
    return people


__all__ = ["NOBODY", "Outcome", "record", "write_recorded"]
