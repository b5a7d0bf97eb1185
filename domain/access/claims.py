"""What makes the claims of a signed token acceptable, once its signature is known to be right.

Sources: RFC 7519 (JWT) section 4.1, RFC 8725 (best current practices), OpenID Connect Core 1.0 section 3.1.3.7.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SUBJECT_LENGTH_MAX = 255
"""Characters (OpenID Connect Core 1.0, section 2)."""
CLOCK_SKEW = timedelta(seconds=60)
"""How far another server's clock may be off from ours."""

Claims = Mapping[str, object]


class UntrustedToken(Exception):
    """A token that is not to be believed; ``reason`` says why in a few words and never repeats a secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say of itself.

    Attributes:
        issuer: Compared character by character.
        audience: One of the token's audiences.
        age_max: Since it was issued; ``None`` for any.
        lifetime_max: From issue to expiry; ``None`` for any.
    """

    issuer: str
    audience: str
    age_max: timedelta | None = None
    lifetime_max: timedelta | None = None


def check_claims(claims: Claims, expected: Expected, now: datetime) -> str:
    """Checks who issued a token for whom and when; returns its subject.

    Raises:
        UntrustedToken: Something does not fit or is missing; ``exp``, ``iat`` and ``sub`` must be there.
    """
    if claims.get("iss") != expected.issuer:
        raise UntrustedToken(f"it was issued by {str(claims.get('iss'))[:200]!r}, not by {expected.issuer!r}")
    if expected.audience not in audiences_of(claims):
        raise UntrustedToken("it was issued for another audience")
    _check_times(claims, expected, now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH_MAX or not subject.isprintable():
        raise UntrustedToken(f"its subject is not a text of 1 to {SUBJECT_LENGTH_MAX} characters")
    return subject


def check_id_token(claims: Claims, *, client_id: str, nonce: str, authenticated_since: datetime | None = None) -> None:
    """What an ID token adds: it answers our own request, and it was made for us where it has several audiences.

    Args:
        authenticated_since: If a fresh proof was asked for, when: the person must have given it since.

    Raises:
        UntrustedToken: It does not.
    """
    party = claims.get("azp")
    if party is None and len(audiences_of(claims)) > 1:
        raise UntrustedToken("it has several audiences and does not say for which it was made")
    if party is not None and party != client_id:
        raise UntrustedToken("it was made for another client")
    if claims.get("nonce") != nonce:
        raise UntrustedToken("it answers another sign-in (its nonce is not ours)")
    if authenticated_since is not None:
        proven_at = _moment(claims, "auth_time")
        if proven_at is None or proven_at < authenticated_since - CLOCK_SKEW:
            raise UntrustedToken("the provider did not ask again who you are")


def audiences_of(claims: Claims) -> frozenset[str]:
    """The audiences, whether there is one or a list."""
    audience = claims.get("aud")
    if isinstance(audience, str):
        return frozenset({audience})
    if isinstance(audience, list):
        return frozenset(one for one in audience if isinstance(one, str))
    return frozenset()


def _check_times(claims: Claims, expected: Expected, now: datetime) -> None:
    expires_at, issued_at = _moment(claims, "exp"), _moment(claims, "iat")
    if expires_at is None or issued_at is None:
        raise UntrustedToken("it does not say when it was issued and when it expires")
    if now >= expires_at + CLOCK_SKEW:
        raise UntrustedToken("it has expired")
    if issued_at > now + CLOCK_SKEW:
        raise UntrustedToken("it was issued in the future: the clocks differ")
    not_before = _moment(claims, "nbf")
    if not_before is not None and not_before > now + CLOCK_SKEW:
        raise UntrustedToken("it is not good yet")
    if expected.age_max is not None and now - issued_at > expected.age_max + CLOCK_SKEW:
        raise UntrustedToken(f"it was issued more than {expected.age_max} ago")
    if expected.lifetime_max is not None and expires_at - issued_at > expected.lifetime_max:
        raise UntrustedToken(f"it is good for longer than {expected.lifetime_max}")


def _moment(claims: Claims, name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UntrustedToken(f"{name} is not a number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise UntrustedToken(f"{name} is not a moment") from error
