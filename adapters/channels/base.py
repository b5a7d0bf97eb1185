"""The mailer protocol: hands one mail over to whoever delivers it."""

from email.message import EmailMessage
from typing import Protocol


class Mailer(Protocol):
    """A way for mails to leave."""

    async def send(self, message: EmailMessage) -> None:
        """Hands a mail over; when this returns, it survives a crash of ours.

        Sent again with the same ``Message-ID`` (after a crash nobody knows whether it was), it should arrive once.

        Raises:
            domain.errors.Unavailable: It was not handed over; try again later.
        """
        ...
