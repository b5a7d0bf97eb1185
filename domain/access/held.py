"""What an identity holds in one place, each permission with the path that gives it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self
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


_VERSION = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


class Version(NamedTuple):
    """What the rights of an identity were read at. Equal versions mean equal rights, but for what ends by itself.

    Attributes:
        epoch: Counts changes that touch everybody.
        number: Counts changes that touch this identity.
    """

    epoch: int = 0
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``epoch.number``.

        Raises:
            ValueError: It is not.
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no version of rights")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


_START = Version()


@dataclass(frozen=True, slots=True)
class Held:
    """What the roles, the ownership and the delegations of an identity give it on one project, or on the platform.

    Not narrowed by any credential: that is ``domain.access.decide``'s part.

    Attributes:
        paths: Permission to the path that gives it, ``*:*`` included; one's own before what is lent.
        until: When the first of them ends by itself; ``None`` if none does.
        version: Of the rights that this was read from; with another one they may differ.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    until: datetime | None = None
    version: Version = _START

    def path_to(self, permission: str) -> Path | None:
        """What gives ``permission``; ``None`` if nothing does."""
        return self.paths.get(permission) or self.paths.get(EVERYTHING)

    @property
    def permissions(self) -> frozenset[str]:
        """The bare names, ``*:*`` included."""
        return frozenset(self.paths)

    def is_good(self, version: Version, moment: datetime) -> bool:
        """Whether this is still what the identity holds, whose version is ``version`` at ``moment``."""
        return self.version == version and (self.until is None or moment < self.until)

    def to_json(self) -> bytes:
        """All of it, compact; ``from_json`` reads it."""
        return json.dumps(
            {
                "version": str(self.version),
                "until": self.until.isoformat() if self.until else None,
                "paths": {name: [path.text, *map(str, path.lenders)] for name, path in self.paths.items()},
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """What ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            found = json.loads(content)
            return cls(
                paths={name: Path(text, tuple(map(UUID, lent))) for name, (text, *lent) in found["paths"].items()},
                until=datetime.fromisoformat(found["until"]) if found["until"] else None,
                version=Version.parse(found["version"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("this is not what somebody holds") from error


NOTHING = Held()
"""What a stranger holds."""


def held_by_role(role: str, permissions: frozenset[str]) -> Held:
    """What a role alone would give."""
    return Held({permission: Path(f"role {role}") for permission in permissions})
