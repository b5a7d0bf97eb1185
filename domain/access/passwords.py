"""Which passwords may be set.

After NIST SP 800-63B (5.1.1.2): a least length, a list of what everybody tries first, and what an attacker knows about
the person; no rules about kinds of characters and no expiry, because both make people choose worse ones. Nothing here
judges a password that is already set.
"""

import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass

from domain.errors import InvalidInput

LENGTH_MAX = 1024
"""Characters; more would only cost time to hash."""
DISTINCT_MIN = 5
"""Different characters that a password needs: ``aaaaaaaaaaaa`` and ``121212121212`` have fewer."""

_DECORATION = "0123456789!?.,;:*#+-_$%&@=()/\\ "
_DECORATION_LENGTH_MAX = 6
_KNOWN_LENGTH_MIN = 4
_REST_LENGTH_MIN = 8


@dataclass(frozen=True, slots=True)
class PasswordRules:
    """What the operator asks of new passwords.

    Attributes:
        length_min: In characters (code points after normalisation), not bytes.
    """

    length_min: int = 12


class WeakPassword(InvalidInput):
    """The password may not be set; ``details['rule']`` names what it breaks."""

    code = "weak_password"
    title = "The password is too easy to guess"


def normal(password: str) -> str:
    """``password`` in the form that is hashed: Unicode's NFC (RFC 8265), because keyboards differ in what ``é`` is.

    Raises:
        InvalidInput: It is no text: half of a surrogate pair (code ``not_unicode``).
    """
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise InvalidInput("The password holds half of a surrogate pair, which is no character.", code="not_unicode")
    return unicodedata.normalize("NFC", password)


def check_new_password(
    password: str, rules: PasswordRules, common: Container[str], *, about: Iterable[str] = ()
) -> str:
    """Returns the password in its normal form if it may be set.

    Args:
        password: As typed.
        rules: The operator's.
        common: Common passwords in lower case.
        about: What is known about the person: login name, e-mail address, display name.

    Raises:
        WeakPassword: It may not; the message says why and never quotes it.
        InvalidInput: It is no text.
    """
    password = normal(password)
    if len(password) < rules.length_min:
        _refuse(
            "too_short",
            f"A password needs at least {rules.length_min} characters; this one has {len(password)}. A few words that "
            "do not belong together are easy to remember and hard to guess.",
        )
    if len(password) > LENGTH_MAX:
        _refuse("too_long", f"A password has at most {LENGTH_MAX} characters; this one has {len(password)}.")
    if len(set(password)) < DISTINCT_MIN:
        _refuse(
            "too_uniform", f"A password needs at least {DISTINCT_MIN} different characters; this one repeats a few."
        )
    folded = password.casefold()
    for candidate in (folded, _undecorated(folded), _repeated(_undecorated(folded))):
        if candidate in common:
            _refuse(
                "common",
                "This password is, but for digits, signs or repetition, among those that everybody tries first. Choose "
                "another one.",
            )
    _check_is_not_about(folded, about)
    return password


def _check_is_not_about(folded: str, about: Iterable[str]) -> None:
    for fact in about:
        for known in {fact.casefold(), fact.casefold().partition("@")[0]}:
            if len(known) < _KNOWN_LENGTH_MIN or known not in folded:
                continue
            if len(folded.replace(known, "")) < _REST_LENGTH_MIN:
                _refuse(
                    "about_you",
                    "This password is mostly your name or e-mail address, which is what others try first. Choose one "
                    "that has nothing to do with you.",
                )


def _undecorated(folded: str) -> str:
    """Without the digits and signs at its end that people add to satisfy rules."""
    bare = folded.rstrip(_DECORATION)
    return bare if len(folded) - len(bare) <= _DECORATION_LENGTH_MAX else folded


def _repeated(folded: str) -> str:
    """What is repeated, if the whole is a repetition."""
    length = (folded + folded).find(folded, 1)
    return folded[:length]


def _refuse(rule: str, message: str) -> None:
    raise WeakPassword(f"{message} Nothing was changed.", details={"rule": rule})
