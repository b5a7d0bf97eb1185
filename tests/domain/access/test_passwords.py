import pytest

from api.common_passwords import common_passwords
from domain.access.passwords import LENGTH_MAX, PasswordRules, WeakPassword, check_new_password, normal
from domain.errors import InvalidInput

RULES = PasswordRules(length_min=12)
ADA = ("ada-lovelace", "countess@example.org", "Ada Lovelace")


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "too_short"),
        ("short", "too_short"),
        ("elevenchars", "too_short"),
        ("x7!" * 400, "too_long"),
        ("aaaaaaaaaaaaaaaa", "too_uniform"),
        ("121212121212", "too_uniform"),
        ("unbelievable", "common"),
        ("UnBelievable", "common"),
        ("unbelievable1!", "common"),
        ("password2026!!", "common"),
        ("passwordpassword", "common"),
        ("PASSWORDpassword1", "common"),
        ("qwertyuiopqwertyuiop", "common"),
        ("ada-lovelace", "about_you"),
        ("Ada-Lovelace-1815", "about_you"),
        ("countess2024!!x", "about_you"),
        ("countess@example.org", "about_you"),
    ],
)
def test_what_is_easy_to_guess_is_refused_and_says_why(password: str, rule: str) -> None:
    with pytest.raises(WeakPassword) as caught:
        check_new_password(password, RULES, common_passwords() | {"unbelievable"}, about=ADA)
    assert caught.value.details == {"rule": rule}
    assert caught.value.message.endswith("Nothing was changed.")
    assert len(password) < 6 or password not in caught.value.message, "a refusal never quotes the password"


def test_half_of_a_surrogate_pair_is_no_password() -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        normal("correct horse \ud800 battery")


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "vierzehn kamele trinken tee",
        "dragon8305716492847",
        "пароль из четырёх слов",
        "x7!kQ" * 3,
        "ada-lovelace writes the notes at night",
    ],
)
def test_what_is_hard_to_guess_may_be_set(password: str) -> None:
    assert check_new_password(password, RULES, common_passwords(), about=ADA) == password


def test_the_same_password_typed_on_two_keyboards_is_one_password() -> None:
    composed, decomposed = "déjà vu encore une fois", "de\u0301ja\u0300 vu encore une fois"
    assert composed != decomposed
    assert normal(composed) == normal(decomposed)


def test_length_counts_characters_and_the_setting_decides() -> None:
    assert check_new_password("äöüßéè∂ƒ", PasswordRules(length_min=8), frozenset())
    with pytest.raises(WeakPassword, match="at least 9 characters; this one has 8"):
        check_new_password("äöüßéè∂ƒ", PasswordRules(length_min=9), frozenset())
    assert LENGTH_MAX >= 64, "NIST SP 800-63B asks for at least so many"


def test_the_bundled_list_is_whole_and_in_lower_case() -> None:
    known = common_passwords()
    assert len(known) == 19_640
    assert {"password", "123456", "qwerty", "letmein", "iloveyou"} <= known
    assert all(word == word.lower() for word in known)
