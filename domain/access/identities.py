"""Who there is: people, agents, services and organisations, what they may be called, and who manages whom.

Login names are the first part of every project's address, so they must not collide with the platform's own pages.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from domain.access.decide import PLATFORM, decide
from domain.access.held import Held
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor
from domain.errors import InvalidInput, PermissionMissing

NAME_LENGTH_MAX = 39
EMAIL_LENGTH_MAX = 254
"""RFC 5321 with the erratum 1690: what fits into a path of 256."""

IdentityKind = Literal["user", "agent", "service"]
"""Who can act. Organisations share the names but do nothing themselves."""

IDENTITY_KINDS: tuple[IdentityKind, ...] = get_args(IdentityKind)

RESERVED_NAMES = frozenset(
    {
        "access", "account", "admin-area", "agents", "api", "assets", "audit", "codec", "delegations", "docs",
        "favicon.ico", "healthz", "invitations", "login", "logout", "mcp", "me", "metrics", "new", "oauth", "oidc",
        "openapi.json", "organizations", "passkeys", "password", "people", "projects", "readyz", "robots.txt", "roles",
        "schemas", "services", "sessions", "settings", "static", "system", "teams", "tokens", "unknown", "users", "v1",
        "verify", "well-known",
    }
)  # fmt: skip
"""First path segments that the platform uses itself, or may."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z", re.ASCII)
_ATOM = r"[^\s@.\"(),:;<>\[\]\\\x00-\x1f\x7f]+"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*\Z")

ADMINISTRATION = frozenset({EVERYTHING, Permission.ADMIN_ROLES.value, Permission.ADMIN_USERS.value})
"""Who holds one of these is managed only by somebody who holds it too."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity as those see it who manage it.

    Attributes:
        has_password: Whether it can sign in with one.
        responsible_id: The person who answers for an agent or a service.
        responsible_name: How that person is called.
    """

    id: UUID
    name: str
    kind: str
    display_name: str | None
    email: str | None
    email_verified_at: datetime | None
    is_active: bool
    has_password: bool
    responsible_id: UUID | None
    responsible_name: str | None
    created_at: datetime
    updated_at: datetime


def check_user_name(name: str) -> str:
    """Returns ``name`` if an identity may be called so: lower-case letters, digits and inner ``-``, at most 39 long.

    Raises:
        InvalidInput: With the rule that is broken (code ``invalid_name``).
    """
    if not _NAME.match(name) or len(name) > NAME_LENGTH_MAX:
        raise InvalidInput(
            f"A user cannot be called {name[:80]!r}: use 1 to {NAME_LENGTH_MAX} lower-case letters a-z, digits and "
            "'-', and begin and end with a letter or digit.",
            code="invalid_name",
        )
    if name in RESERVED_NAMES:
        raise InvalidInput(
            f"A user cannot be called {name!r}: the platform uses that address itself.", code="invalid_name"
        )
    return name


def check_label(name: str, what: str) -> str:
    """Returns ``name`` if a team or a role may be called so; the same letters as in a login name.

    Raises:
        InvalidInput: With the rule that is broken (code ``invalid_name``).
    """
    if not _NAME.match(name) or len(name) > NAME_LENGTH_MAX:
        raise InvalidInput(
            f"A {what} cannot be called {name[:80]!r}: use 1 to {NAME_LENGTH_MAX} lower-case letters a-z, digits and "
            "'-', and begin and end with a letter or digit.",
            code="invalid_name",
        )
    return name


def check_email(email: str) -> str:
    """Returns ``email`` in lower case if mail can be sent there: two writings of one address are one address.

    Only the form is looked at; whether its reader is who they say, only a mail finds out.

    Raises:
        InvalidInput: It is no address (code ``invalid_email``).
    """
    email = email.strip()
    if len(email) > EMAIL_LENGTH_MAX or not _EMAIL.match(email):
        raise InvalidInput(
            f"{email[:80]!r} is no e-mail address: it is written name@domain, with at most {EMAIL_LENGTH_MAX} "
            "characters. Nothing was changed.",
            code="invalid_email",
        )
    return email.lower()


def check_responsible(kind: str, responsible: Identity | None) -> None:
    """Whether ``responsible`` may answer for an identity of ``kind``: a person in use for agents and services.

    Raises:
        InvalidInput: An agent or service without one, a person with one, or one who is no person or deactivated.
    """
    if kind not in ("agent", "service"):
        if responsible is not None:
            raise InvalidInput("People answer for themselves: leave `responsible` out.", code="invalid_responsible")
        return
    if responsible is None or responsible.kind != "user" or not responsible.is_active:
        raise InvalidInput(
            "An agent or a service needs a person who answers for it: name one who is not deactivated in "
            "`responsible`. Nothing was changed.",
            code="invalid_responsible",
        )


def manages_itself(actor: Actor, identity: Identity) -> bool:
    """Whether the actor is this identity, with a credential that narrows nothing.

    A token always narrows: a leaked one must not change the address that a new password is mailed to, or end the
    sessions of its owner.
    """
    return actor.user_id == identity.id and actor.token_id is None and not _is_narrowed(actor)


def answers_for(actor: Actor, identity: Identity) -> bool:
    """Whether the actor is the person who answers for this agent or service, with a credential that is good for it."""
    if identity.kind not in ("agent", "service") or identity.responsible_id != actor.user_id:
        return False
    if actor.rights_of is not None or actor.project_id is not None:
        return False
    return actor.scopes is None or Permission.AGENT_RUN.value in actor.scopes


def _is_narrowed(actor: Actor) -> bool:
    return actor.rights_of is not None or actor.scopes is not None or actor.project_id is not None


def check_not_above(actor: Actor, held: Held, identity: Identity, theirs: Held) -> None:
    """Refuses managing somebody who administers what the actor does not: else it would be a way to become them.

    Args:
        held: What the actor's identity holds on the platform.
        theirs: What ``identity`` holds there.

    Raises:
        PermissionMissing: Names what the actor lacks (code ``outranked``).
    """
    missing = sorted(name for name in theirs.permissions & ADMINISTRATION if not _administers(actor, held, name))
    if missing:
        raise PermissionMissing(
            f"{identity.name} holds {', '.join(missing)}, which you do not: only somebody who holds that too may "
            "change them. Nothing was changed.",
            code="outranked",
            details={"permission": missing[0], "permissions": missing},
        )


def _administers(actor: Actor, held: Held, name: str) -> bool:
    if name != EVERYTHING:
        return decide(actor, Permission(name), PLATFORM, held=held).allowed
    needed = ADMINISTRATION - {EVERYTHING}
    return EVERYTHING in held.permissions and (actor.scopes is None or actor.scopes >= needed)
