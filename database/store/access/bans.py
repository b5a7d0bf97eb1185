"""Failed proofs and the bans that follow them; see ``domain.access.bans``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import SignInBan
from database.store.audit import record
from domain.access.bans import BanPolicy, Subject, SubjectKind
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import TooManyRequests


class Banned(TooManyRequests):
    """Too many wrong proofs; the same answer for names that exist and that do not."""

    code = "banned"
    title = "Too many failed attempts"

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"There were too many failed attempts. Nothing was checked; try again in {seconds} s.",
            retry_after_seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class CountedAttempt:
    """An attempt that may be made.

    Attributes:
        address: ``None`` if nobody knows where it comes from.
        ban_seconds: How long the ban lasts that it lays on its name unless it succeeds; ``None`` for no ban.
    """

    name: Subject
    address: Subject | None
    ban_seconds: int | None


_SECONDS_LEFT = "CASE WHEN banned_until > now() THEN ceil(extract(epoch FROM banned_until - now()))::int END"

_COUNT = f"""
    INSERT INTO sign_in_bans AS b (kind, subject, failures, last_failure_at) VALUES (:kind, :subject, 1, now())
    ON CONFLICT (kind, subject) DO UPDATE SET
        failures = CASE WHEN b.banned_until IS NOT NULL OR b.last_failure_at < now() - CAST(:window AS interval)
            THEN 1 ELSE b.failures + 1 END,
        bans = CASE WHEN b.last_failure_at < now() - CAST(:remembered AS interval) THEN 0 ELSE b.bans END,
        banned_until = CASE WHEN b.banned_until > now() THEN b.banned_until END,
        last_failure_at = now()
    RETURNING failures, bans, {_SECONDS_LEFT} AS seconds_left"""  # noqa: S608  # constants


async def count_attempt(
    session: AsyncSession, name: Subject, address: Subject | None, policy: BanPolicy
) -> CountedAttempt:
    """Counts an attempt for its name before it is made, as if it had failed.

    The row is locked until the transaction ends, so attempts at the same time follow one another. Call ``forgive``,
    ``withdraw`` or ``count_failure`` afterwards.

    Raises:
        Banned: The name or the address may not try. Let it end the transaction, so that nothing is counted.
    """
    if address is not None:
        found = await session.execute(
            text(f"SELECT {_SECONDS_LEFT} FROM sign_in_bans WHERE kind = :kind AND subject = :subject"),  # noqa: S608  # a constant
            _key(address),
        )
        seconds_left = found.scalar_one_or_none()
        if seconds_left is not None:
            raise Banned(seconds_left)
    return CountedAttempt(name, address, await _count(session, name, policy))


async def _count(session: AsyncSession, subject: Subject, policy: BanPolicy) -> int | None:
    """Counts for one subject; the length of the ban in seconds, if this is the failure that leads to one."""
    values = _key(subject) | {"window": policy.window, "remembered": policy.remembered}
    row = (await session.execute(text(_COUNT), values)).one()
    if row.seconds_left is not None:
        raise Banned(row.seconds_left)
    if row.failures < policy.failures_max(subject.kind):
        return None
    ban = policy.ban(row.bans)
    await session.execute(
        text(
            "UPDATE sign_in_bans SET banned_until = now() + CAST(:ban AS interval), bans = bans + 1 "
            "WHERE kind = :kind AND subject = :subject"
        ),
        _key(subject) | {"ban": ban},
    )
    return math.ceil(ban.total_seconds())


async def forgive(session: AsyncSession, attempt: CountedAttempt) -> None:
    """The attempt succeeded: its name begins anew.

    Its address does not: whoever has an account of their own could clear the address from which they guess at others.
    """
    await session.execute(
        text("DELETE FROM sign_in_bans WHERE kind = :kind AND subject = :subject"), _key(attempt.name)
    )


async def withdraw(session: AsyncSession, attempt: CountedAttempt) -> None:
    """The attempt was not made after all (the machine was too busy to check it)."""
    ban = "" if attempt.ban_seconds is None else ", bans = greatest(bans - 1, 0), banned_until = NULL"
    await session.execute(
        text(
            f"UPDATE sign_in_bans SET failures = greatest(failures - 1, 0){ban} "  # noqa: S608  # a constant
            "WHERE kind = :kind AND subject = :subject"
        ),
        _key(attempt.name),
    )


async def count_failure(session: AsyncSession, actor: Actor, attempt: CountedAttempt, policy: BanPolicy) -> None:
    """The attempt failed: counts it for its address too, and writes an audit row for each ban that it leads to.

    Args:
        actor: Whom somebody tried to be.
    """
    if attempt.ban_seconds is not None:
        await _record_ban(session, actor, {"by": "name", "seconds": attempt.ban_seconds})
    if attempt.address is None:
        return
    try:
        seconds = await _count(session, attempt.address, policy)
    except Banned:
        return  # Another failure laid the ban while this one was looked at.
    if seconds is not None:
        await _record_ban(session, actor, {"by": "address", "address": attempt.address.text, "seconds": seconds})


async def _record_ban(session: AsyncSession, actor: Actor, detail: dict[str, object]) -> None:
    user_id = actor.user_id if actor.user_id.int else None
    await record(session, actor, AuditAction.BAN_CREATE, "user", user_id, detail=detail)


@dataclass(frozen=True, slots=True)
class Ban:
    """A subject that may not try at the moment.

    Attributes:
        address: ``None`` for a name: what was typed is not kept.
        bans: How many there were in a row.
    """

    kind: SubjectKind
    address: str | None
    bans: int
    banned_until: datetime


async def present_bans(session: AsyncSession, *, limit: int) -> list[Ban]:
    """Who may not try now, those that last longest first."""
    rows = await session.execute(
        select(SignInBan)
        .where(text("banned_until > now()"))
        .order_by(text("banned_until DESC, kind, subject"))
        .limit(limit)
    )
    return [
        Ban(
            cast("SubjectKind", row.kind),
            row.subject if row.kind == "address" else None,
            row.bans,
            cast("datetime", row.banned_until),
        )
        for row in rows.scalars()
    ]


async def lift_bans(session: AsyncSession, actor: Actor, subjects: Sequence[Subject], detail: dict[str, object]) -> int:
    """Lets subjects try again at once and forgets their failures; returns how many had any."""
    lifted = 0
    for subject in subjects:
        gone = await session.execute(
            text("DELETE FROM sign_in_bans WHERE kind = :kind AND subject = :subject RETURNING 1"), _key(subject)
        )
        lifted += len(gone.all())
    if lifted:
        await record(session, actor, AuditAction.BAN_DELETE, "ban", None, detail=detail)
    return lifted


def _key(subject: Subject) -> dict[str, object]:
    return {"kind": subject.kind, "subject": subject.text}
