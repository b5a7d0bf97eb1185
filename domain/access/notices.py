"""Notices by mail that what protects an account was changed, so that its owner learns of what somebody else did."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from domain.access.mails import MailText


class Notice(StrEnum):
    """What happened to somebody's account."""

    EMAIL_CHANGED = "email_changed"
    FACTORS_RESET = "factors_reset"
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # an event
    PASSWORD_SET_BY_LINK = "password_set_by_link"  # noqa: S105  # an event
    RECOVERY_CODES_REPLACED = "recovery_codes_replaced"
    TOKEN_MADE = "token_made"  # noqa: S105  # an event
    TOTP_ADDED = "totp_added"
    TOTP_REMOVED = "totp_removed"


_SENTENCES: dict[Notice, str] = {
    Notice.EMAIL_CHANGED: "The e-mail address of your account was changed",
    Notice.FACTORS_RESET: "All second factors of your account were taken away",
    Notice.IDENTITY_LINKED: "An account at another provider was linked to yours",
    Notice.IDENTITY_UNLINKED: "An account at another provider was unlinked from yours",
    Notice.PASSKEY_ADDED: "A passkey was added to your account",
    Notice.PASSKEY_REMOVED: "A passkey was removed from your account",
    Notice.PASSWORD_CHANGED: "Your password was changed",
    Notice.PASSWORD_SET_BY_LINK: "A new password was set for you by a link",
    Notice.RECOVERY_CODES_REPLACED: "Your recovery codes were made anew",
    Notice.TOKEN_MADE: "An API token of yours was made",
    Notice.TOTP_ADDED: "An authenticator app was added to your account",
    Notice.TOTP_REMOVED: "The authenticator app was removed from your account",
}


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """What a notice tells.

    Attributes:
        name: The login name of its reader.
        at: When it happened.
        address: From which IP address; ``None`` if nobody knows.
        about: Which one, for instance the name of the token; whoever did it may have chosen the text.
        by: The login name of whoever did it, where that is somebody else.
    """

    notice: Notice
    name: str
    at: datetime
    address: str | None = None
    about: str | None = None
    by: str | None = None


def notice_text(facts: NoticeFacts, *, public_url: str) -> MailText:
    """What the mail says: what happened, when, from where, and what to do if it was not oneself."""
    sentence = _SENTENCES[facts.notice]
    lines = [
        ("When", f"{facts.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("From", facts.address or "an address that is not known"),
    ]
    if facts.about is not None:
        lines.insert(0, ("Which", _one_line(facts.about)))
    if facts.by is not None:
        lines.append(("By", facts.by))
    told = "".join(f"  {label + ':':<7}{text}\n" for label, text in lines)
    if facts.notice is Notice.EMAIL_CHANGED:
        # The reader of the old address can be sent no link any more.
        rescue = f"Tell whoever administers {public_url} at once: links that set a password go to the new address now."
    else:
        rescue = (
            f"Set a new password at {public_url}/password/reset, which signs out every browser; then look at "
            f"{public_url}/me and {public_url}/me/factors, end what you do not know, and tell whoever administers "
            "the platform."
        )
    body = (
        f"Hello {facts.name},\n\n{sentence} at {public_url}.\n\n{told}\n"
        f"If you did this, or asked for it, there is nothing to do.\n\n"
        f"If not, somebody else can use your account. {rescue}\n"
    )
    return MailText(f"{sentence} - Perdure", body)


def _one_line(text: str) -> str:
    """The text without what could look like more lines of the mail, or turn its letters round."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
