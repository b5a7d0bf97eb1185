"""What was mailed, read like a person would."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from activities.access.mails import MailActivities, MailPolicy
from adapters.channels.outbox import FileOutbox
from api.services import Services
from database.store.access.mails import unsent_mails
from domain.access.mails import SendMailInput


@dataclass
class Mailbox:
    """An outbox, and the activities that fill it from a server's database."""

    directory: Path
    services: Services

    @property
    def activities(self) -> MailActivities:
        """As the worker has them."""
        policy = MailPolicy(self.services.public_url, "Perdure <perdure@localhost>", (self.services.secret_key,))
        return MailActivities(self.services.database, FileOutbox(self.directory), policy)

    async def deliver(self) -> None:
        """Sends what waits, without Temporal."""
        async with self.services.database.transaction() as session:
            waiting = await unsent_mails(session, older_than=timedelta(0), limit=1000)
        for mail_id in waiting:
            await self.activities.send_mail(SendMailInput(mail_id=mail_id))

    def mails_to(self, address: str) -> Sequence[EmailMessage]:
        """Those that lie in the outbox, oldest first."""
        files = sorted(self.directory.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
        read = [message_from_bytes(file.read_bytes(), policy=default) for file in files]
        return [mail for mail in read if mail["To"] == address]

    def tokens_to(self, address: str) -> list[str]:
        """The secrets of the links in them."""
        return [link_token(mail) for mail in self.mails_to(address)]


def link_token(mail: EmailMessage) -> str:
    """The secret of the link in a mail."""
    found = re.search(r"\?token=([A-Za-z0-9_-]{43})\s", mail.get_content())
    assert found is not None
    return found.group(1)
