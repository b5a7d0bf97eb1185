"""Mails with links: ordered in the transaction of what they are for, sent afterwards, followed once.

A row without ``sent_at`` is the obligation to send it: the workflow is started after the commit, and what a crash in
between leaves is found by ``unsent_mails``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.notices import NoticeToSend, order_notice
from database.store.audit import record
from domain.access.identities import Identity
from domain.access.mails import LIFETIMES, MailPurpose, link_secret
from domain.access.notices import Notice
from domain.access.tokens import hash_secret
from domain.actors import NOBODY, SYSTEM, Actor, Origin
from domain.audit.actions import AuditAction
from domain.errors import Conflict, InvalidInput


class InvalidLink(InvalidInput):
    """A mailed link that is unknown, used, void or expired, or whose account or address changed; which is not told."""

    code = "invalid_link"
    title = "This link is not good"

    def __init__(self) -> None:
        super().__init__(
            "This link is not good (any more): it may have been used, replaced by a newer one, or be too old. Nothing "
            "was changed; ask for a new one."
        )


# In a link of a person without an address: it is void once they have one, as others are once it is another.
_NO_ADDRESS = ""


@dataclass(frozen=True, slots=True)
class MailToSend:
    """A mail whose time has come.

    Attributes:
        name: The login name of its reader.
        secret_hash: What the link's secret must hash to.
    """

    id: UUID
    purpose: MailPurpose
    user_id: UUID
    name: str
    email: str
    secret_hash: str


@dataclass(frozen=True, slots=True)
class Followed:
    """A link that is good, and whose it is."""

    id: UUID
    purpose: MailPurpose
    user_id: UUID
    name: str
    display_name: str | None
    email: str

    def actor(self, origin: Origin) -> Actor:
        """The reader of the link, as who they are trusted to be."""
        return Actor(user_id=self.user_id, name=self.name, origin=origin)


async def order_reset(session: AsyncSession, origin: Origin, email: str, key: bytes) -> UUID:
    """Orders a mail with which its reader sets a new password; returns its id.

    Nobody looks here whether the address is anybody's: that is found out when the mail is sent (``take_mail``), so
    asking costs the same time and leaves the same rows for every address.
    """
    mail_id = await _order(session, MailPurpose.RESET, None, email, key)
    await record(session, NOBODY.model_copy(update={"origin": origin}), AuditAction.PASSWORD_RESET, "user", None)
    return mail_id


async def order_invitation(session: AsyncSession, actor: Actor, user_id: UUID, email: str, key: bytes) -> UUID:
    """Orders a mail with which a new person sets their first password; links of before are void. Returns its id.

    After the commit hand the id to ``api.mails.start_mail``.
    """
    await _void(session, user_id, MailPurpose.INVITE)
    mail_id = await _order(session, MailPurpose.INVITE, user_id, email, key)
    await record(session, actor, AuditAction.USER_INVITE, "user", user_id)
    return mail_id


async def order_verification(session: AsyncSession, actor: Actor, user_id: UUID, email: str, key: bytes) -> UUID:
    """Orders a mail that proves an address, the present one or a new one; links of before are void. Returns its id.

    A new address takes the place of the old one when its link is followed, not before.
    """
    await _void(session, user_id, MailPurpose.VERIFY)
    mail_id = await _order(session, MailPurpose.VERIFY, user_id, email, key)
    await record(session, actor, AuditAction.EMAIL_VERIFY, "user", user_id)
    return mail_id


async def make_reset_link(session: AsyncSession, person: Identity, key: bytes) -> str:
    """Makes a link with which ``person`` sets a new password and mails it to nobody; returns its secret.

    For whoever runs the installation, who hands it over. No address has to be known, let alone proven.

    Raises:
        Conflict: It is no person, or was deactivated (code ``no_password_possible``).
    """
    if person.kind != "user" or not person.is_active:
        why = "is deactivated" if person.kind == "user" else "is no person, so it has no password"
        raise Conflict(f"{person.name} {why}. No link was made.", code="no_password_possible")
    link_id = await _order(session, MailPurpose.RESET, person.id, person.email or _NO_ADDRESS, key)
    await session.execute(text("UPDATE email_tokens SET sent_at = now() WHERE id = :id"), {"id": link_id})
    await record(session, SYSTEM, AuditAction.PASSWORD_RESET, "user", person.id, detail={"by": "host"})
    return link_secret(key, MailPurpose.RESET, link_id)


async def _order(session: AsyncSession, purpose: MailPurpose, user_id: UUID | None, email: str, key: bytes) -> UUID:
    mail_id = uuid4()
    await session.execute(
        text(
            "INSERT INTO email_tokens (id, user_id, purpose, email, token_hash, expires_at) "
            "VALUES (:id, :user, :purpose, :email, :hash, now() + CAST(:lifetime AS interval))"
        ),
        {
            "id": mail_id,
            "user": user_id,
            "purpose": purpose.value,
            "email": email,
            "hash": hash_secret(link_secret(key, purpose, mail_id)),
            "lifetime": LIFETIMES[purpose],
        },
    )
    return mail_id


async def _void(session: AsyncSession, user_id: UUID, purpose: MailPurpose) -> None:
    await session.execute(
        text(
            "UPDATE email_tokens SET used_at = now() WHERE user_id = :user AND purpose = :purpose AND used_at IS NULL"
        ),
        {"user": user_id, "purpose": purpose.value},
    )


async def take_mail(session: AsyncSession, mail_id: UUID) -> MailToSend | None:
    """What is to be sent now; ``None`` if it was sent, is void or expired, or is for nobody.

    A reset is for the person whose *verified* address it names and who has a password: an address that nobody proved
    may be a stranger's, and whoever signs in through another provider gets no second way in.
    """
    await session.execute(
        text(
            "UPDATE email_tokens e SET user_id = u.id FROM users u WHERE e.id = :id AND e.user_id IS NULL "
            "AND u.email = e.email AND u.email_verified_at IS NOT NULL AND u.password_hash IS NOT NULL"
        ),
        {"id": mail_id},
    )
    found = await session.execute(
        text(
            "SELECT e.id, e.purpose, e.email, e.token_hash, u.id AS user_id, u.name FROM email_tokens e "
            "JOIN users u ON u.id = e.user_id AND u.is_active AND u.kind = 'user' "
            "WHERE e.id = :id AND e.sent_at IS NULL AND e.used_at IS NULL AND e.expires_at > now()"
        ),
        {"id": mail_id},
    )
    row = found.one_or_none()
    if row is None:
        await session.execute(
            text("UPDATE email_tokens SET sent_at = now(), used_at = now() WHERE id = :id AND sent_at IS NULL"),
            {"id": mail_id},
        )
        return None
    return MailToSend(row.id, MailPurpose(row.purpose), row.user_id, row.name, row.email, row.token_hash)


async def mark_sent(session: AsyncSession, mail: MailToSend | NoticeToSend) -> None:
    """The mail was handed over; saying so twice is fine."""
    if isinstance(mail, NoticeToSend):
        table, detail = "security_notices", {"notice": mail.facts.notice.value}
    else:
        table, detail = "email_tokens", {"purpose": mail.purpose.value}
    changed = await session.execute(
        text(f"UPDATE {table} SET sent_at = now() WHERE id = :id AND sent_at IS NULL RETURNING 1"),  # noqa: S608  # constants
        {"id": mail.id},
    )
    if changed.one_or_none() is not None:
        await record(session, SYSTEM, AuditAction.MAIL_SEND, "user", mail.user_id, detail=detail)


async def unsent_mails(session: AsyncSession, *, older_than: timedelta, limit: int) -> list[UUID]:
    """Mails and notices that should have been sent by now, oldest first."""
    rows = await session.execute(
        text("""
            SELECT id FROM (
                SELECT id, created_at FROM email_tokens WHERE sent_at IS NULL
                UNION ALL SELECT id, created_at FROM security_notices WHERE sent_at IS NULL
            ) unsent WHERE created_at < now() - CAST(:age AS interval) ORDER BY created_at LIMIT :limit"""),
        {"age": older_than, "limit": limit},
    )
    return list(rows.scalars())


async def link_of(
    session: AsyncSession, purposes: Sequence[MailPurpose], secret: str, *, follow: bool = False
) -> Followed:
    """Whose link this is.

    Args:
        purposes: What the link may be for.
        follow: Uses it up. It is locked first, so of two who follow it at the same time one is refused.

    Raises:
        InvalidLink: It is not good (any more).
    """
    found = await session.execute(
        text(
            "SELECT e.id, e.purpose, e.email, u.id AS user_id, u.name, u.display_name FROM email_tokens e "  # noqa: S608  # constants
            "JOIN users u ON u.id = e.user_id AND u.is_active AND u.kind = 'user' "
            "WHERE e.token_hash = :hash AND e.purpose = ANY(CAST(:purposes AS text[])) "
            "AND e.used_at IS NULL AND e.expires_at > now() "
            "AND (e.purpose = 'verify' OR COALESCE(u.email, '') = e.email)" + (" FOR UPDATE OF e" if follow else "")
        ),
        {"hash": hash_secret(secret), "purposes": [one.value for one in purposes]},
    )
    row = found.one_or_none()
    if row is None:
        raise InvalidLink
    if follow:
        await session.execute(text("UPDATE email_tokens SET used_at = now() WHERE id = :id"), {"id": row.id})
    return Followed(row.id, MailPurpose(row.purpose), row.user_id, row.name, row.display_name, row.email)


async def verify_email(session: AsyncSession, actor: Actor, link: Followed) -> None:
    """Makes the address of a link that was followed the verified one of its user.

    Raises:
        Conflict: It has become somebody else's meanwhile (code ``email_taken``).
    """
    try:
        async with session.begin_nested():
            changed = await session.execute(
                text(
                    "UPDATE users u SET email = :email, email_verified_at = now(), updated_at = now() "
                    "FROM users before WHERE u.id = :id AND before.id = u.id "
                    "RETURNING before.email IS DISTINCT FROM u.email AS is_new, "
                    "CASE WHEN before.email_verified_at IS NOT NULL THEN before.email END AS verified_before"
                ),
                {"email": link.email, "id": link.user_id},
            )
            is_new, verified_before = changed.one()
    except IntegrityError as error:
        raise Conflict(
            "This e-mail address belongs to another account by now, so it cannot be this one's. Nothing was changed.",
            code="email_taken",
        ) from error
    if is_new:
        # A link that was mailed to the old address must not set a password any more.
        for purpose in MailPurpose:
            await _void(session, link.user_id, purpose)
        if verified_before is not None:
            await order_notice(session, actor, link.user_id, Notice.EMAIL_CHANGED, address_of_before=verified_before)
        await order_notice(session, actor, link.user_id, Notice.EMAIL_CHANGED)
    await record(session, actor, AuditAction.EMAIL_CONFIRM, "user", link.user_id, detail={"is_new": bool(is_new)})
