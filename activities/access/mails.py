"""Sending links that people asked for or were invited with, and notices of what was changed about their accounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import urlsplit

from temporalio import activity

from adapters.channels.base import Mailer
from database.engine import Database
from database.store.access.mails import MailToSend, mark_sent, take_mail, unsent_mails
from database.store.access.notices import NoticeToSend, take_notice
from database.store.clock import now
from domain.access.mails import MailText, SendMailInput, UnsentMails, link_secret, link_url, mail_text
from domain.access.notices import notice_text
from domain.access.tokens import hash_secret

REPAIRED_AFTER = timedelta(seconds=30)
REPAIRED_AT_ONCE_MAX = 500


@dataclass(frozen=True, slots=True)
class MailPolicy:
    """What every mail needs to know.

    Attributes:
        public_url: Where links lead, without a slash at the end.
        sender: The From header: ``Name <address>``.
        secret_keys: The installation's key and those of before: a link is derived from the one that was in use.
    """

    public_url: str
    sender: str
    secret_keys: Sequence[bytes]


class MailActivities:
    """Activities of mails."""

    def __init__(self, database: Database, mailer: Mailer, policy: MailPolicy) -> None:
        self._database = database
        self._mailer = mailer
        self._policy = policy

    @activity.defn
    async def send_mail(self, order: SendMailInput) -> None:
        """Sends one mail, if it still is to be sent. At least once: after a crash with the same ``Message-ID`` again.

        Raises:
            Unavailable: The database or the mailer is away.
        """
        async with self._database.transaction() as session:
            mail = await take_notice(session, order.mail_id) or await take_mail(session, order.mail_id)
            if mail is None:
                return
            date = format_datetime(await now(session))
        text = self._text_of(mail)
        if text is None:
            activity.logger.warning("mail %s was ordered under a key that is no longer known; it is not sent", mail.id)
        else:
            await self._mailer.send(self._message(mail, text, date))
        async with self._database.transaction() as session:
            await mark_sent(session, mail)

    @activity.defn
    async def unsent_mails(self) -> UnsentMails:
        """Mails that were ordered, and whose workflow did not start or did not end well."""
        async with self._database.transaction() as session:
            found = await unsent_mails(session, older_than=REPAIRED_AFTER, limit=REPAIRED_AT_ONCE_MAX)
        return UnsentMails(mail_ids=tuple(found))

    def _text_of(self, mail: MailToSend | NoticeToSend) -> MailText | None:
        public_url = self._policy.public_url
        if isinstance(mail, NoticeToSend):
            return notice_text(mail.facts, public_url=public_url)
        secret = self._secret_of(mail)
        if secret is None:
            return None
        url = link_url(public_url, mail.purpose, secret)
        return mail_text(mail.purpose, name=mail.name, public_url=public_url, url=url)

    def _secret_of(self, mail: MailToSend) -> str | None:
        secrets = (link_secret(key, mail.purpose, mail.id) for key in self._policy.secret_keys)
        return next((secret for secret in secrets if hash_secret(secret) == mail.secret_hash), None)

    def _message(self, mail: MailToSend | NoticeToSend, text: MailText, date: str) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._policy.sender
        message["To"] = mail.email
        message["Subject"] = text.subject
        message["Date"] = date
        # Of the row, so that a mail that is sent twice is recognised as one.
        message["Message-ID"] = f"<{mail.id}@{self._host()}>"
        # RFC 3834: no out-of-office answers, please.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text.body, cte="7bit" if text.body.isascii() else "8bit")
        return message

    def _host(self) -> str:
        return parseaddr(self._policy.sender)[1].partition("@")[2] or urlsplit(self._policy.public_url).hostname or "-"
