import secrets

import pytest

from adapters.keyring.secret_box import SecretBox, SecretUnreadable, derived_key, mac

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)


def test_what_was_sealed_is_opened_and_looks_like_nothing() -> None:
    box = SecretBox(KEY)
    sealed = box.seal(b"a secret", "totp/ann")
    assert b"a secret" not in sealed
    assert sealed != box.seal(b"a secret", "totp/ann"), "a nonce of its own each time"
    assert SecretBox(KEY).open(sealed, "totp/ann") == b"a secret"


def test_a_secret_does_not_move_to_another_row() -> None:
    box = SecretBox(KEY)
    with pytest.raises(SecretUnreadable, match="does not belong"):
        box.open(box.seal(b"a secret", "totp/ann"), "totp/bob")


@pytest.mark.parametrize("place", [4, 15, 16, -1])
def test_a_damaged_secret_is_told(place: int) -> None:
    sealed = bytearray(SecretBox(KEY).seal(b"a secret", "x"))
    sealed[place] ^= 1
    with pytest.raises(SecretUnreadable, match="damaged"):
        SecretBox(KEY).open(bytes(sealed), "x")


@pytest.mark.parametrize("size_bytes", [4, 5, 16, 20])
def test_a_secret_that_was_cut_short_is_told(size_bytes: int) -> None:
    sealed = SecretBox(KEY).seal(b"a secret", "x")
    with pytest.raises(SecretUnreadable, match="damaged"):
        SecretBox(KEY).open(sealed[:size_bytes], "x")


def test_another_key_is_named_and_a_retired_one_opens() -> None:
    sealed = SecretBox(KEY).seal(b"a secret", "x")
    with pytest.raises(SecretUnreadable, match=sealed[:4].hex()):
        SecretBox(OTHER).open(sealed, "x")
    rotated = SecretBox(OTHER, retired=[KEY])
    assert rotated.open(sealed, "x") == b"a secret"
    with pytest.raises(SecretUnreadable):
        SecretBox(KEY).open(rotated.seal(b"a secret", "x"), "x")


def test_keys_of_two_purposes_have_nothing_in_common() -> None:
    assert derived_key(KEY, "a") != derived_key(KEY, "b")
    assert mac(KEY, "a", b"data") != mac(KEY, "b", b"data")
