"""Second factors: time-based codes (RFC 6238), recovery codes, and what is asked of passkeys.

The time-based codes are written here and not taken from a library: RFC 6238 is one HMAC and a truncation, and what
matters beside it (each step once, the skew, equal time) no library does for us.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote, urlencode

from domain.errors import InvalidInput

FactorKind = Literal["totp", "passkey", "recovery_code"]

PERIOD_SECONDS = 30
DIGITS = 6
SKEW_STEPS = 1
"""How many steps a clock may be away, to either side (RFC 6238, section 5.2)."""
SECRET_SIZE_BYTES = 20
"""As long as the output of SHA-1, which every authenticator app knows (RFC 4226, section 4)."""

RECOVERY_CODES = 10
RECOVERY_CODES_FEW = 3
"""So many left, or fewer: time to make new ones."""
RECOVERY_CODE_SIZE_BYTES = 10

PASSKEYS_MAX = 20
PASSKEY_NAME_LENGTH_MAX = 64

_CODE = re.compile(rf"[0-9]{{{DIGITS}}}\Z", re.ASCII)
_RECOVERY_CODE = re.compile(r"[a-z2-7]{16}\Z", re.ASCII)
_READ_ALIKE = str.maketrans({"0": "o", "1": "l"})


@dataclass(frozen=True, slots=True)
class Factors:
    """What an identity can prove itself with besides its password.

    Attributes:
        totp: Whether an authenticator app was confirmed.
        passkeys: How many there are.
        recovery_codes: How many are left.
        password: Whether there is a password at all.
        provider: Whether an account at an identity provider is linked.
    """

    totp: bool = False
    passkeys: int = 0
    recovery_codes: int = 0
    password: bool = True
    provider: bool = False

    @property
    def needed(self) -> bool:
        """Whether the password alone signs nobody in. Recovery codes alone are no factor: they stand in for one."""
        return self.totp or self.passkeys > 0

    @property
    def possible(self) -> list[FactorKind]:
        """What may follow the password."""
        kinds: list[tuple[FactorKind, bool]] = [
            ("totp", self.totp),
            ("passkey", self.passkeys > 0),
            ("recovery_code", self.needed and self.recovery_codes > 0),
        ]
        return [kind for kind, there in kinds if there]

    @property
    def only_way_in(self) -> bool:
        """Whether a passkey is there and nothing else that could begin a sign-in, so that without it nobody gets in."""
        return self.passkeys == 1 and not self.password and not self.provider

    @property
    def few_recovery_codes(self) -> bool:
        """Whether it is time to make new ones."""
        return self.needed and self.recovery_codes <= RECOVERY_CODES_FEW


def totp_step(at: datetime) -> int:
    """The number of the time step that ``at`` lies in."""
    return int(at.timestamp()) // PERIOD_SECONDS


def totp_code(secret: bytes, step: int) -> str:
    """The code of a step (RFC 4226, section 5.3, with the step as its counter)."""
    digest = hmac.new(secret, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: bytes, code: str, *, now: datetime, last_step: int) -> int | None:
    """The step that ``code`` belongs to, at most ``SKEW_STEPS`` from now and later than ``last_step``.

    Every step is computed and compared, whichever fits, so that the time tells nothing.

    Returns:
        ``None`` if the code is wrong, too old, or of a step that was used before.
    """
    found = None
    present = totp_step(now)
    for step in range(present - SKEW_STEPS, present + SKEW_STEPS + 1):
        fits = hmac.compare_digest(totp_code(secret, max(step, 0)).encode(), code.encode())
        if fits and step > last_step:
            found = step
    return found


def totp_secret_text(secret: bytes) -> str:
    """The secret as people type it into an app: base32 without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def totp_uri(secret: bytes, *, account: str, issuer: str) -> str:
    """What the QR code says (the Key Uri Format of Google Authenticator, which all apps read)."""
    values = {"secret": totp_secret_text(secret), "issuer": issuer, "digits": DIGITS, "period": PERIOD_SECONDS}
    return f"otpauth://totp/{quote(issuer)}:{quote(account)}?{urlencode(values, quote_via=quote)}"


def as_totp_code(text: str) -> str | None:
    """The six digits in what somebody typed, spaces left out; ``None`` if it is no such code."""
    code = "".join(text.split())
    return code if _CODE.match(code) else None


def format_recovery_code(random: bytes) -> str:
    """Makes a recovery code, ``abcd-efgh-ijkl-mnop``, of 10 random bytes.

    Raises:
        ValueError: Not exactly 10 bytes.
    """
    if len(random) != RECOVERY_CODE_SIZE_BYTES:
        raise ValueError(f"a recovery code is made of {RECOVERY_CODE_SIZE_BYTES} random bytes, not {len(random)}")
    text = base64.b32encode(random).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def as_recovery_code(text: str) -> str | None:
    """The bare code in what somebody typed: hyphens, spaces and capitals do not matter; ``None`` if it is none."""
    code = "".join(text.split()).replace("-", "").lower().translate(_READ_ALIKE)
    return code if _RECOVERY_CODE.match(code) else None


def hash_recovery_code(user_id: object, code: str) -> str:
    """What the database keeps: SHA-256 in hex of whose code it is and the bare code.

    A plain hash is enough because the code has 80 random bits.
    """
    return hashlib.sha256(f"recovery/{user_id}/{code}".encode()).hexdigest()


def check_passkey_name(name: str) -> str:
    """Returns what a passkey shall be called, without spaces around it.

    Raises:
        InvalidInput: Empty, too long, or not printable (code ``invalid_name``).
    """
    name = name.strip()
    if not name or len(name) > PASSKEY_NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidInput(
            f"Give the passkey a name of 1 to {PASSKEY_NAME_LENGTH_MAX} printable characters that tells you where it "
            "lies, for instance 'phone'. Nothing was changed.",
            code="invalid_name",
        )
    return name


def counts_forward(before: int, after: int) -> bool:
    """Whether a passkey's signature counter is good (WebAuthn, section 6.1.1).

    One that stands still or goes back means that somebody has a copy of the key. Authenticators without a counter
    always say 0.
    """
    return after > before or before == after == 0
