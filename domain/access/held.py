"""What an identity holds in one place, each permission with the path that gives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from domain.access.permissions import EVERYTHING


@dataclass(frozen=True, slots=True)
class Path:
    """How somebody comes to hold a permission.

    Attributes:
        text: For people: ``role developer through team acme/backend``, ``owner``, ``lent by ann``.
        lenders: Who lent it, nearest first; empty for what one holds oneself.
    """

    text: str
    lenders: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What the roles, the ownership and the delegations of an identity give it on one project, or on the platform.

    Not narrowed by any credential: that is ``domain.access.decide``'s part.

    Attributes:
        paths: Permission to the path that gives it, ``*:*`` included; one's own before what is lent.
        until: When the first of them ends by itself; ``None`` if none does.
        version: Of the rights that this was read from; a later one may differ.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    until: datetime | None = None
    version: str = ""

    def path_to(self, permission: str) -> Path | None:
        """What gives ``permission``; ``None`` if nothing does."""
        return self.paths.get(permission) or self.paths.get(EVERYTHING)

    @property
    def permissions(self) -> frozenset[str]:
        """The bare names, ``*:*`` included."""
        return frozenset(self.paths)


NOTHING = Held()
"""What a stranger holds."""


def held_by_role(role: str, permissions: frozenset[str]) -> Held:
    """What a role alone would give."""
    return Held({permission: Path(f"role {role}") for permission in permissions})
