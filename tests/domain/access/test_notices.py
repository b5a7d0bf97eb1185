from datetime import UTC, datetime, timedelta, timezone

import pytest

from domain.access.notices import Notice, NoticeFacts, notice_text

AT = datetime(2026, 11, 21, 18, 35, 2, tzinfo=UTC)
URL = "https://perdure.example"


def test_what_somebody_chose_as_a_name_cannot_write_the_mail() -> None:
    hostile = "x\r\n\r\nAll is well.\u202egnp.exe\x1b[2J\u2028Call 555"
    text = notice_text(NoticeFacts(Notice.TOKEN_MADE, "ann", AT, about=hostile), public_url=URL)
    plain = notice_text(NoticeFacts(Notice.TOKEN_MADE, "ann", AT, about="x"), public_url=URL)
    assert len(text.body.splitlines()) == len(plain.body.splitlines())
    assert not {"\r", "\u202e", "\x1b", "\u2028"} & set(text.body)
    assert text.subject == plain.subject


def test_what_is_not_known_is_said_or_left_out() -> None:
    text = notice_text(NoticeFacts(Notice.PASSWORD_CHANGED, "ann", AT), public_url=URL).body
    assert "From:  an address that is not known" in text
    assert "Which:" not in text
    assert "By:" not in text


@pytest.mark.parametrize("notice", Notice)
def test_a_notice_says_what_when_from_where_and_what_to_do(notice: Notice) -> None:
    at = AT.astimezone(timezone(timedelta(hours=-7)))
    facts = NoticeFacts(notice, "ann", at, address="203.0.113.9", about="laptop", by="root")
    text = notice_text(facts, public_url=URL)
    assert text.subject.endswith(" - Perdure")
    assert text.body.startswith("Hello ann,\n\n")
    for line in ("Which: laptop", "When:  2026-11-21 18:35:02 UTC", "From:  203.0.113.9", "By:    root"):
        assert f"  {line}\n" in text.body
    assert "If not, somebody else can use your account." in text.body
    assert URL in text.body


def test_who_reads_the_old_address_is_not_sent_to_a_link_that_goes_to_the_new_one() -> None:
    assert "/password/reset" not in notice_text(NoticeFacts(Notice.EMAIL_CHANGED, "ann", AT), public_url=URL).body
    assert "/password/reset" in notice_text(NoticeFacts(Notice.TOKEN_MADE, "ann", AT), public_url=URL).body
