from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.factors import (
    Factors,
    as_recovery_code,
    as_totp_code,
    check_passkey_name,
    counts_forward,
    format_recovery_code,
    hash_recovery_code,
    matching_step,
    totp_code,
    totp_secret_text,
    totp_step,
    totp_uri,
)
from domain.errors import InvalidInput

RFC_SECRET = b"12345678901234567890"
NOW = datetime(2026, 11, 21, 12, 0, 7, tzinfo=UTC)
STEP = totp_step(NOW)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238_appendix_b(seconds: int, code: str) -> None:
    assert totp_code(RFC_SECRET, totp_step(datetime.fromtimestamp(seconds, UTC))) == code


@pytest.mark.parametrize(("away", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_one_step_away(away: int, fits: bool) -> None:
    code = totp_code(RFC_SECRET, STEP + away)
    assert matching_step(RFC_SECRET, code, now=NOW, last_step=0) == (STEP + away if fits else None)


def test_a_step_that_was_used_and_all_before_it_are_not_good_again() -> None:
    code = totp_code(RFC_SECRET, STEP)
    assert matching_step(RFC_SECRET, code, now=NOW, last_step=STEP - 1) == STEP
    assert matching_step(RFC_SECRET, code, now=NOW, last_step=STEP) is None
    assert matching_step(RFC_SECRET, totp_code(RFC_SECRET, STEP - 1), now=NOW, last_step=STEP) is None


def test_a_code_right_after_1970_does_not_fail() -> None:
    assert matching_step(RFC_SECRET, "755224", now=datetime.fromtimestamp(1, UTC), last_step=-1) is not None


@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**40), st.text(max_size=8))
def test_no_other_text_is_the_code(secret: bytes, step: int, text: str) -> None:
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * (step % 2**27) + 1)
    found = matching_step(secret, text, now=now, last_step=-1)
    assert found is None or totp_code(secret, found) == text


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("123456", "123456"),
        (" 123 456\n", "123456"),
        ("12345", None),
        ("1234567", None),
        ("12345a", None),
        ("١٢٣٤٥٦", None),  # digits of another script
        ("", None),
        ("123456\0", None),
    ],
)
def test_what_people_type_as_a_code(typed: str, code: str | None) -> None:
    assert as_totp_code(typed) == code


def test_the_uri_is_what_apps_read() -> None:
    uri = urlsplit(totp_uri(RFC_SECRET, account="ann b", issuer="Perdure"))
    values = parse_qs(uri.query)
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Perdure:ann%20b")
    assert values == {
        "secret": [totp_secret_text(RFC_SECRET)],
        "issuer": ["Perdure"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert totp_secret_text(RFC_SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@given(st.binary(min_size=10, max_size=10))
def test_a_recovery_code_is_read_back_however_it_is_typed(random: bytes) -> None:
    code = format_recovery_code(random)
    bare = as_recovery_code(code)
    assert bare == code.replace("-", "")
    assert as_recovery_code(code.upper().replace("-", " ")) == bare
    assert as_recovery_code(f" {bare} ") == bare
    assert as_recovery_code(code.replace("l", "1").replace("o", "0")) == bare
    assert as_totp_code(code) is None


@pytest.mark.parametrize("typed", ["", "abcd", "abcd-efgh-ijkl-mno8", "abcd-efgh-ijkl-mnopq", "ab\0d-efgh-ijkl-mnop"])
def test_what_is_no_recovery_code(typed: str) -> None:
    assert as_recovery_code(typed) is None


def test_a_recovery_code_needs_its_bytes_and_is_hashed_for_its_owner() -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        format_recovery_code(b"short")
    assert hash_recovery_code("ann", "a" * 16) != hash_recovery_code("bob", "a" * 16)


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\tb", "a\0b", "a\u202eb"])
def test_a_passkey_needs_a_name_that_people_can_read(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_passkey_name(name)


def test_a_passkeys_name_loses_the_spaces_around_it() -> None:
    assert check_passkey_name("  büro ☎ ") == "büro ☎"


@pytest.mark.parametrize(
    ("before", "after", "good"),
    [(0, 0, True), (0, 1, True), (5, 6, True), (5, 99, True), (5, 5, False), (5, 4, False), (5, 0, False)],
)
def test_a_counter_goes_forward_or_is_never_used(before: int, after: int, good: bool) -> None:
    assert counts_forward(before, after) is good


def test_recovery_codes_alone_are_no_factor() -> None:
    alone = Factors(recovery_codes=10)
    assert not alone.needed
    assert alone.possible == []
    assert not Factors().few_recovery_codes
    assert Factors(totp=True, recovery_codes=4).few_recovery_codes is False
    assert Factors(passkeys=1, recovery_codes=3).few_recovery_codes is True
    assert Factors(totp=True, passkeys=2, recovery_codes=1).possible == ["totp", "passkey", "recovery_code"]
