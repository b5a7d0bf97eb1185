"""Which fields of a detail, a before or an after are secret, and which are about a person.

A secret is replaced by a keyed hash, so that "was it changed?" and "is it the same as there?" can be answered and
nothing else. What is about a person is encrypted with that person's key, so that it can be erased.
"""

from enum import Enum

SECRET_FIELDS = frozenset(
    {
        *("client_secret", "code", "cookie", "credential", "password", "password_hash", "private_key"),
        *("recovery_code", "recovery_codes", "secret", "secret_hash", "secret_key", "token", "token_hash", "value"),
    }
)
PERSONAL_FIELDS = frozenset(
    {
        *("address", "display_name", "email", "external_subject", "full_name", "ip", "ip_addr", "last_used_ip"),
        *("login", "new_email", "old_email", "phone", "user_agent", "user_name"),
    }
)
NAMED_PEOPLE = frozenset({"user", "identity", "invitation"})
"""Kinds of resource whose ``name`` is a person's."""
EMAIL_FIELDS = frozenset({"email", "new_email", "old_email"})
ADDRESS_FIELDS = frozenset({"address", "ip", "ip_addr", "last_used_ip"})


class Treatment(Enum):
    """What is done with a field before it is written."""

    PLAIN = "plain"
    SECRET = "secret"  # noqa: S105  # the name of a treatment
    PERSONAL = "personal"


def treatment(field: str, resource: str) -> Treatment:
    """How a field of an act on this kind of resource is written."""
    name = field.lower()
    if name in SECRET_FIELDS:
        return Treatment.SECRET
    if name in PERSONAL_FIELDS or (name == "name" and resource in NAMED_PEOPLE):
        return Treatment.PERSONAL
    return Treatment.PLAIN
