import secrets
import time
from collections.abc import Callable
from uuid import uuid4

import pytest

from api.challenges import LIFETIME_SECONDS, challenge_end, new_challenge, pending_sign_in, pending_user
from domain.errors import Unauthenticated

KEY = secrets.token_bytes(32)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock."""

    def move(seconds: float) -> None:
        now = time.time() + seconds
        monkeypatch.setattr("api.challenges.time.time", lambda: now)

    return move


def test_a_challenge_is_of_one_key_purpose_and_browser(later: Callable[[float], None]) -> None:
    challenge = new_challenge(KEY, "sign-in", "visit/a")
    challenge_end(KEY, "sign-in", "visit/a", challenge)
    cases = [
        (secrets.token_bytes(32), "visit/a", challenge),
        (KEY, "visit/b", challenge),
        (KEY, "visit/a/", challenge),
        (KEY, "visit/a", challenge[:-1]),
        (KEY, "visit/a", b"\x00" + challenge[1:]),
        (KEY, "visit/a", b""),
    ]
    for key, bound_to, given in cases:
        with pytest.raises(Unauthenticated) as refused:
            challenge_end(key, "sign-in", bound_to, given)
        assert refused.value.specific_code == "challenge_expired"
    with pytest.raises(Unauthenticated):
        challenge_end(KEY, "prove", "visit/a", challenge)
    later(LIFETIME_SECONDS - 5)
    challenge_end(KEY, "sign-in", "visit/a", challenge)
    later(LIFETIME_SECONDS + 5)
    with pytest.raises(Unauthenticated):
        challenge_end(KEY, "sign-in", "visit/a", challenge)


def test_two_challenges_are_never_the_same() -> None:
    assert len({new_challenge(KEY, "sign-in", "visit/a") for _ in range(100)}) == 100


def test_a_pending_sign_in_is_of_one_key_and_browser_and_ends(later: Callable[[float], None]) -> None:
    user_id = uuid4()
    pending = pending_sign_in(KEY, user_id, "visit/a")
    assert pending_user(KEY, pending, "visit/a") == user_id
    other = pending_sign_in(KEY, uuid4(), "visit/a")
    cases = [
        (secrets.token_bytes(32), pending, "visit/a"),
        (KEY, pending, "visit/b"),
        (KEY, pending[:-4], "visit/a"),
        (KEY, other[:20] + pending[20:], "visit/a"),
        (KEY, "", "visit/a"),
        (KEY, "é", "visit/a"),
        (KEY, "=", "visit/a"),
    ]
    for key, given, bound_to in cases:
        with pytest.raises(Unauthenticated) as refused:
            pending_user(key, given, bound_to)
        assert refused.value.specific_code == "sign_in_expired"
    later(LIFETIME_SECONDS + 5)
    with pytest.raises(Unauthenticated):
        pending_user(KEY, pending, "visit/a")
