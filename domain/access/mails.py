"""Links that are mailed: what they are for, how long they are good, and what the mail says.

A link's secret is derived from its row's id under the installation's key instead of being made up: whoever sends the
mail later, perhaps after a crash, knows it again, and it stands in no queue, history or log meanwhile. The database
holds its SHA-256 only.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class MailPurpose(StrEnum):
    """What the reader of a link may do."""

    VERIFY = "verify"
    """Prove that the address is theirs."""
    RESET = "reset"
    """Set a new password without the old one."""
    INVITE = "invite"
    """Set the first password; proves the address as well."""


LIFETIMES: dict[MailPurpose, timedelta] = {
    MailPurpose.VERIFY: timedelta(hours=24),
    # Short, because whoever reads the mailbox later must not find a key in it; it was asked for a moment ago.
    MailPurpose.RESET: timedelta(hours=1),
    # Nobody waits for it: it has to survive a weekend.
    MailPurpose.INVITE: timedelta(days=7),
}

SETS_PASSWORD = (MailPurpose.RESET, MailPurpose.INVITE)

_PATHS = {
    MailPurpose.VERIFY: "/verify",
    MailPurpose.RESET: "/password/new",
    MailPurpose.INVITE: "/password/new",
}


class SendMailInput(BaseModel):
    """Of ``SendMailWorkflow`` and its activity: which mail, and nothing of what it says."""

    model_config = ConfigDict(frozen=True)

    mail_id: UUID


class UnsentMails(BaseModel):
    """What the repair of mails finds."""

    model_config = ConfigDict(frozen=True)

    mail_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class MailText:
    """A mail before it has headers."""

    subject: str
    body: str


def link_secret(key: bytes, purpose: MailPurpose, mail_id: UUID) -> str:
    """The secret of a link: HMAC-SHA-256 in base64url, 43 characters."""
    digest = hmac.new(key, f"mail/{purpose.value}/{mail_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def link_url(public_url: str, purpose: MailPurpose, secret: str) -> str:
    """Where the link leads."""
    return f"{public_url}{_PATHS[purpose]}?token={secret}"


def mail_text(purpose: MailPurpose, *, name: str, public_url: str, url: str) -> MailText:
    """What the mail says: who it is for, what following the link does, and what to do if it surprises."""
    hours = int(LIFETIMES[purpose].total_seconds() // 3600)
    until = {1: "one hour"}.get(hours, f"{hours} hours" if hours <= 48 else f"{hours // 24} days")  # noqa: PLR2004  # two days are still read in hours
    if purpose is MailPurpose.VERIFY:
        subject = "Confirm your e-mail address"
        what = f"Open this link to confirm that this is the e-mail address of {name} at {public_url}:"
        surprised = "If you do not know what this is about, do nothing: without the link nothing changes."
    elif purpose is MailPurpose.RESET:
        subject = "Set a new password"
        what = f"Somebody asked for a new password for {name} at {public_url}. Open this link to set one:"
        surprised = "If that was not you, do nothing: your password stays as it is."
    else:
        subject = "You are invited"
        what = f"You were invited to {public_url}, where your name is {name}. Open this link to set your password:"
        surprised = "If you do not expect this, do nothing: nobody can sign in with this name until then."
    body = f"Hello {name},\n\n{what}\n\n{url}\n\nThe link is good once and for {until}.\n{surprised}\n"
    return MailText(f"{subject} - Perdure", body)
