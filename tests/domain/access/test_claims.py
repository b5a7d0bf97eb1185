from datetime import UTC, datetime, timedelta

import pytest

from domain.access.claims import Expected, UntrustedToken, check_claims, check_id_token

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
GOOD: dict[str, object] = {
    "iss": "https://issuer.example",
    "aud": "us",
    "sub": "ann",
    "iat": SECONDS - 10,
    "exp": SECONDS + 300,
}
EXPECTED = Expected("https://issuer.example", "us", age_max=timedelta(minutes=5), lifetime_max=timedelta(hours=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://issuer.example/"}, "was issued by"),
        ({"iss": None}, "was issued by"),
        ({"aud": "others"}, "another audience"),
        ({"aud": ["others", 7]}, "another audience"),
        ({"aud": {"us": True}}, "another audience"),
        ({"exp": None}, "does not say when"),
        ({"iat": None}, "does not say when"),
        ({"exp": "soon"}, "not a number"),
        ({"exp": True}, "not a number"),
        ({"exp": 1e300}, "not a moment"),
        ({"exp": float("nan")}, "not a moment"),
        ({"exp": SECONDS - 60}, "expired"),
        ({"iat": SECONDS + 61}, "in the future"),
        ({"nbf": SECONDS + 61}, "not good yet"),
        ({"iat": SECONDS - 361}, "ago"),
        ({"exp": SECONDS + 3600}, "good for longer"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": "a" * 256}, "subject"),
        ({"sub": "a\x00b"}, "subject"),
        ({"sub": 7}, "subject"),
    ],
)
def test_a_token_that_does_not_fit_is_not_believed(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UntrustedToken, match=reason):
        check_claims(GOOD | changes, EXPECTED, NOW)


@pytest.mark.parametrize(
    "changes", [{}, {"aud": ["others", "us"]}, {"exp": SECONDS - 59}, {"iat": SECONDS + 59}, {"nbf": SECONDS + 59}]
)
def test_a_token_that_fits_gives_its_subject_with_a_minute_for_clocks(changes: dict[str, object]) -> None:
    assert check_claims(GOOD | changes, EXPECTED, NOW) == "ann"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": None}, "nonce"),
        ({"nonce": "other"}, "nonce"),
        ({"azp": "other"}, "another client"),
        ({"aud": ["us", "others"]}, "several audiences"),
        ({"auth_time": None}, "ask again"),
        ({"auth_time": SECONDS - 200}, "ask again"),
    ],
)
def test_an_id_token_that_answers_something_else_is_not_believed(changes: dict[str, object], reason: str) -> None:
    claims = GOOD | {"nonce": "mine", "auth_time": SECONDS} | changes
    with pytest.raises(UntrustedToken, match=reason):
        check_id_token(claims, client_id="us", nonce="mine", authenticated_since=NOW)


def test_an_id_token_for_several_names_the_one_that_it_was_made_for() -> None:
    claims = GOOD | {"nonce": "mine", "aud": ["us", "others"], "azp": "us"}
    check_id_token(claims, client_id="us", nonce="mine")
