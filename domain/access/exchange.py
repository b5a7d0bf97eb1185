"""Token exchange (RFC 8693): who acts for whom afterwards, and that nothing gets wider by it."""

from dataclasses import dataclass
from uuid import UUID

from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # the name of a type
BROWSER_SESSION = "urn:perdure:params:oauth:token-type:session"
"""Type of the value of a session cookie, for programs that hold a session for somebody."""


class ExchangeRefused(Exception):
    """A token is not exchanged.

    Args:
        error: A code of RFC 6749, section 5.2, or of RFC 8693, section 2.2.2.
        description: For people.
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class Chain:
    """Who acts with a new token, and for whom.

    Attributes:
        rights_of: Whose rights it gives.
        acting_id: Who acts.
        on_behalf_of: Everybody in whose name, nearest first.
    """

    rights_of: UUID
    acting_id: UUID
    on_behalf_of: tuple[UUID, ...]


def chain_of(subject: Actor, acting: Actor | None) -> Chain:
    """The chain of a token that ``subject``'s is exchanged for.

    Args:
        subject: Of the subject token.
        acting: Of the actor token, which tells who acts and nothing else; ``None``: who acted before still does.
    """
    if acting is None or acting.user_id == subject.user_id:
        return Chain(subject.subject_id, subject.user_id, subject.on_behalf_of)
    before = (subject.user_id, *(one for one in subject.on_behalf_of if one != subject.user_id))
    return Chain(subject.subject_id, acting.user_id, tuple(one for one in before if one != acting.user_id))


def narrowed_scopes(subject: Actor, asked: str | None) -> frozenset[str]:
    """The scopes of the new token: those asked for (separated by blanks), or as many as before.

    Raises:
        ExchangeRefused: One is no permission, or the subject token does not have it (``invalid_scope``).
    """
    known = frozenset(permission.value for permission in Permission)
    before = known if subject.scopes is None else subject.scopes
    if asked is None:
        return before
    wanted = frozenset(asked.split())
    if not wanted:
        raise ExchangeRefused("invalid_scope", "Name at least one scope, or leave the parameter out.")
    if EVERYTHING in wanted:
        raise ExchangeRefused(
            "invalid_scope", f"{EVERYTHING} is the admin role's alone and not a scope. Name what is needed."
        )
    if not wanted <= known:
        raise ExchangeRefused("invalid_scope", f"There is no permission {', '.join(sorted(wanted - known))[:200]}.")
    if not wanted <= before:
        raise ExchangeRefused(
            "invalid_scope", f"The subject token does not have the scopes {', '.join(sorted(wanted - before))}."
        )
    return wanted
