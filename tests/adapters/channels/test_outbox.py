import asyncio
import stat
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from adapters.channels.outbox import FileOutbox, NoMailer
from domain.errors import Unavailable


def _mail(number: int = 1, body: str = "Hello\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Perdure <perdure@localhost>"
    message["To"] = "zoë@exämple.org"
    message["Subject"] = "Zwölf Boxkämpfer"
    message["Message-ID"] = f"<{number}@localhost>"
    message.set_content(body)
    return message


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_without_a_mailer_mails_have_to_wait() -> None:
    with pytest.raises(Unavailable, match=r"mail\.outbox"):
        await NoMailer().send(_mail())


async def test_an_outbox_that_cannot_be_written_says_so_and_keeps_the_mail_waiting(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    with pytest.raises(Unavailable, match="cannot be written to") as caught:
        await FileOutbox(in_the_way).send(_mail())
    assert caught.value.neighbour == "mail"


async def test_a_mail_that_was_left_half_written_is_replaced(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    target = outbox.path_of("<1@localhost>")
    for left in (target, *(target.with_suffix(f".{pid}.partial") for pid in (1, 2))):
        left.write_text("half")
    await outbox.send(_mail())
    assert b"Hello" in target.read_bytes()


async def test_a_mail_is_a_whole_message_that_only_its_owner_reads(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "made" / "outbox")
    await outbox.send(_mail())
    [file] = (tmp_path / "made" / "outbox").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    read = message_from_bytes(file.read_bytes(), policy=default)
    assert (read["To"], read["Subject"]) == ("zoë@exämple.org", "Zwölf Boxkämpfer")
    assert b"\r\n" in file.read_bytes(), "RFC 5322 lines"


async def test_the_same_mail_twice_is_one_file_and_others_are_others(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    await asyncio.gather(*(outbox.send(_mail(number)) for number in (1, 2, 3)))
    await outbox.send(_mail(2))
    assert len(_files(tmp_path)) == 3
