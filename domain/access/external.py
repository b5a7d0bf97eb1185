"""Identities that another provider vouches for (OpenID Connect): what we take over of them, and what never.

An account is found by issuer and subject alone. An e-mail address is taken over only if the provider says that it is
verified, and never leads to an account that exists: that one's owner links the provider while signed in.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from domain.access.claims import Claims
from domain.access.identities import NAME_LENGTH_MAX, check_user_name
from domain.errors import InvalidInput, PermissionMissing

TEXT_LENGTH_MAX = 200
"""Characters of a name shown or an e-mail address that is taken over; longer ones are left out."""
GROUPS_MAX = 2000
NUMBERED_NAMES_MAX = 50

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)+\Z")


class ExternalSignInRefused(PermissionMissing):
    """A sign-in through another provider that did not succeed; nothing was changed."""

    code = "external_sign_in_refused"
    title = "You were not signed in"


@dataclass(frozen=True, slots=True)
class ExternalProfile:
    """What a provider vouches for, checked for shape.

    Attributes:
        preferred_name: What the person is called there; not yet a login name of ours.
        verified_email: Lower-case; ``None`` if there is none or the provider does not say that it is verified.
        groups: Empty if the provider names none.
    """

    issuer: str
    subject: str
    preferred_name: str | None = None
    display_name: str | None = None
    verified_email: str | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SignUpPolicy:
    """What a first login through a provider leads to.

    Attributes:
        allow_sign_up: Whether somebody unknown becomes a user.
        email_domains: If not empty, a verified e-mail address of one of them is needed.
        roles_of_groups: Group to the name of the role that its members hold everywhere.
    """

    allow_sign_up: bool = False
    email_domains: frozenset[str] = frozenset()
    roles_of_groups: Mapping[str, str] | None = None

    def roles(self, groups: Collection[str]) -> frozenset[str]:
        """The roles that these groups lead to."""
        return frozenset(role for group, role in (self.roles_of_groups or {}).items() if group in groups)

    def check_domain(self, profile: ExternalProfile) -> None:
        """Lets through whose address belongs to an allowed domain.

        Raises:
            ExternalSignInRefused: There is no verified address of an allowed domain.
        """
        if not self.email_domains:
            return
        domain = (profile.verified_email or "").rpartition("@")[2]
        if domain not in self.email_domains:
            raise ExternalSignInRefused(
                "Only people with a verified e-mail address of "
                f"{', '.join(sorted(self.email_domains))} may sign in this way. Ask your administrator.",
                code="email_domain",
            )


def profile_of(claims: Claims, *, issuer: str, subject: str, groups_claim: str) -> ExternalProfile:
    """The profile in the claims of an ID token and of the user-info answer together.

    Args:
        groups_claim: The claim that lists groups; ``a.b`` also finds ``b`` inside of ``a``.
    """
    email = _text(claims.get("email"))
    is_verified = claims.get("email_verified") in (True, "true")  # some providers write booleans as text
    return ExternalProfile(
        issuer=issuer,
        subject=subject,
        preferred_name=_text(claims.get("preferred_username")) or _text(claims.get("nickname")),
        display_name=_text(claims.get("name")),
        verified_email=email.lower() if email and is_verified and _EMAIL.match(email) else None,
        groups=_groups(claims, groups_claim),
    )


def wanted_claims_missing(claims: Claims, groups_claim: str | None) -> bool:
    """Whether it is worth asking the provider's user-info endpoint too."""
    wanted = ["preferred_username", "email", "email_verified", "name"]
    return any(name not in claims for name in wanted) or (
        groups_claim is not None and _found(claims, groups_claim) is None
    )


def login_names(profile: ExternalProfile) -> Iterator[str]:
    """Login names to try for a new user, best first; the last one is as good as unique."""
    wished = profile.preferred_name or profile.verified_email or profile.display_name or ""
    base = _login_name(wished.partition("@")[0]) or "user"
    if _is_allowed(base):
        yield base
    for number in range(2, NUMBERED_NAMES_MAX):
        yield _with_suffix(base, str(number))
    yield _with_suffix(base, hashlib.sha256(f"{profile.issuer}\n{profile.subject}".encode()).hexdigest()[:12])


def _login_name(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:NAME_LENGTH_MAX].strip("-")


def _with_suffix(base: str, suffix: str) -> str:
    return f"{base[: NAME_LENGTH_MAX - len(suffix) - 1].strip('-')}-{suffix}"


def _is_allowed(name: str) -> bool:
    try:
        check_user_name(name)
    except InvalidInput:
        return False
    return True


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    text = " ".join(value.split())
    return text if text.isprintable() and 1 <= len(text) <= TEXT_LENGTH_MAX else None


def _found(claims: Claims, name: str) -> object:
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _groups(claims: Claims, name: str) -> frozenset[str]:
    value = _found(claims, name)
    if isinstance(value, str):
        return frozenset({value})
    if isinstance(value, list):
        return frozenset(one for one in value[:GROUPS_MAX] if isinstance(one, str))
    return frozenset()
