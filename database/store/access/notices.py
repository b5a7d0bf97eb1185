"""Notices of what was changed about an account: ordered in the transaction of the change, mailed afterwards.

A row without ``sent_at`` is the obligation to send it, as for the links of ``database.store.access.mails``.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.notices import Notice, NoticeFacts
from domain.actors import Actor

THE_OPERATOR = "whoever runs this installation"

_ORDERED = "notices"

_ORDER = text("""
    INSERT INTO security_notices (user_id, notice, email, about, made_by, ip_addr)
    SELECT u.id, :notice, COALESCE(CAST(:address_of_before AS varchar), u.email), CAST(:about AS varchar),
        CAST(:made_by AS varchar), CAST(:ip AS varchar)
    FROM users u WHERE u.id = :user AND u.kind = 'user'
        AND (CAST(:address_of_before AS varchar) IS NOT NULL OR u.email_verified_at IS NOT NULL)
    RETURNING id""")


@dataclass(frozen=True, slots=True)
class NoticeToSend:
    """A notice whose time has come.

    Attributes:
        email: Where it goes.
    """

    id: UUID
    user_id: UUID
    email: str
    facts: NoticeFacts


async def order_notice(
    session: AsyncSession,
    actor: Actor,
    user_id: UUID,
    notice: Notice,
    *,
    about: str | None = None,
    address_of_before: str | None = None,
) -> None:
    """Has a person told by mail what ``actor`` changed about their account, if a verified address of theirs is known.

    In a transaction of ``api.mails.mailing`` the mail is on its way after the commit; else the repair of mails sends
    it within some minutes.

    Args:
        user_id: Whose account it is.
        about: Which one, for instance the name of a token.
        address_of_before: Where it goes instead of the present verified address: one that was verified until now.
    """
    made_by = THE_OPERATOR if actor.kind == "system" else actor.name
    ordered = await session.execute(
        _ORDER,
        {
            "user": user_id,
            "notice": notice.value,
            "about": about,
            "address_of_before": address_of_before,
            "made_by": None if actor.user_id == user_id else made_by,
            "ip": actor.origin.ip,
        },
    )
    session.info.setdefault(_ORDERED, []).extend(ordered.scalars())


def ordered_notices(session: AsyncSession) -> tuple[UUID, ...]:
    """What was ordered in this transaction."""
    return tuple(session.info.get(_ORDERED, ()))


async def take_notice(session: AsyncSession, notice_id: UUID) -> NoticeToSend | None:
    """What is to be sent now; ``None`` if it was sent, or is too old to help anybody (``expire_access``)."""
    found = await session.execute(
        text("""
            SELECT n.id, n.user_id, n.notice, n.email, n.about, n.made_by, n.ip_addr, n.created_at, u.name
            FROM security_notices n JOIN users u ON u.id = n.user_id WHERE n.id = :id AND n.sent_at IS NULL"""),
        {"id": notice_id},
    )
    row = found.one_or_none()
    if row is None:
        return None
    facts = NoticeFacts(
        notice=Notice(row.notice),
        name=row.name,
        at=row.created_at,
        address=row.ip_addr,
        about=row.about,
        by=row.made_by,
    )
    return NoticeToSend(row.id, row.user_id, row.email, facts)
