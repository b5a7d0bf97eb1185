import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.tokens import TOKEN_PATTERN, format_token, hash_secret, is_token

RANDOM = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("random", [b"", b"x" * 31, b"x" * 33])
def test_other_than_32_bytes_make_no_token(random: bytes) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        format_token(random)


@given(st.text())
def test_any_text_is_judged_without_an_error(text: str) -> None:
    assert not is_token(text)


@given(RANDOM, st.integers(4, 52), st.sampled_from("0Aaz9"))
def test_one_wrong_character_is_noticed(random: bytes, place: int, character: str) -> None:
    token = format_token(random)
    changed = token[:place] + character + token[place + 1 :]
    assert is_token(changed) == (changed == token)


@given(RANDOM, RANDOM)
def test_tokens_differ_have_one_length_and_are_found_in_a_text(one: bytes, other: bytes) -> None:
    token = format_token(one)
    assert is_token(token)
    assert len(token) == 53
    assert (token == format_token(other)) == (one == other)
    assert TOKEN_PATTERN.findall(f"Authorization: Bearer {token}\n") == [token]
    assert token not in hash_secret(token)
