from uuid import UUID

import pytest

from domain.access.mails import MailPurpose, link_secret, link_url, mail_text


def test_a_link_is_derived_from_key_purpose_and_mail() -> None:
    secrets = {
        link_secret(b"a" * 32, MailPurpose.RESET, UUID(int=1)),
        link_secret(b"b" * 32, MailPurpose.RESET, UUID(int=1)),
        link_secret(b"a" * 32, MailPurpose.INVITE, UUID(int=1)),
        link_secret(b"a" * 32, MailPurpose.RESET, UUID(int=2)),
    }
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {43}


@pytest.mark.parametrize(
    ("purpose", "path", "until"),
    [
        (MailPurpose.VERIFY, "/verify", "24 hours"),
        (MailPurpose.RESET, "/password/new", "one hour"),
        (MailPurpose.INVITE, "/password/new", "7 days"),
    ],
)
def test_a_mail_says_for_whom_where_to_and_until_when(purpose: MailPurpose, path: str, until: str) -> None:
    url = link_url("https://perdure.example", purpose, "s" * 43)
    assert url == f"https://perdure.example{path}?token={'s' * 43}"
    mail = mail_text(purpose, name="ada", public_url="https://perdure.example", url=url)
    assert f"\n{url}\n" in mail.body
    assert f"good once and for {until}." in mail.body
    assert "do nothing" in mail.body
    assert "ada" in mail.body
