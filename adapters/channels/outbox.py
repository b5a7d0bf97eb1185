"""Mails as files (RFC 5322) in a directory, for something else to deliver, or for a person to read."""

import asyncio
import hashlib
import os
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path

from domain.errors import Unavailable

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class FileOutbox:
    """``Mailer`` that writes ``<hash of the Message-ID>.eml``, whole or not at all.

    Files hold links that are as good as a password, so only their owner may read them.

    Args:
        directory: Made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def send(self, message: EmailMessage) -> None:
        """See ``Mailer.send``; the same ``Message-ID`` is the same file."""
        await asyncio.to_thread(self._write, message)

    def path_of(self, message_id: str) -> Path:
        """Where the mail with this ``Message-ID`` lies."""
        return self._directory / f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.eml"

    def _write(self, message: EmailMessage) -> None:
        target = self.path_of(str(message["Message-ID"]))
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(message.as_bytes(policy=SMTPUTF8))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            self._sync_directory()
        except OSError as error:
            raise Unavailable(
                f"The outbox {self._directory} cannot be written to: {error.strerror}. The mail is kept and tried "
                "again; see to it that the directory can be written to and has room.",
                neighbour="mail",
            ) from error

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class NoMailer:
    """``Mailer`` of an installation that has none yet: mails wait in the database until there is one."""

    async def send(self, message: EmailMessage) -> None:  # noqa: ARG002  # the protocol's parameter
        """Refuses for now.

        Raises:
            Unavailable: Always.
        """
        raise Unavailable(
            "This installation does not send mails yet. They are kept while their links are good; set mail.outbox.",
            neighbour="mail",
            retry_after_seconds=300,
        )
