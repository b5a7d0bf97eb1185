"""What a project is called and who may see it: rules without I/O."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.access.decide import Resource
from domain.access.permissions import Permission
from domain.errors import InvalidInput

Visibility = Literal["private", "internal", "public"]

NAME_LENGTH_MAX = 64
DESCRIPTION_LENGTH_MAX = 2000
DISPLAY_NAME_LENGTH_MAX = 200

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as its readers see it.

    Attributes:
        full_name: ``owner/name``, as in every address.
    """

    id: UUID
    owner_id: UUID
    owner_name: str
    name: str
    display_name: str | None
    description: str | None
    visibility: Visibility
    default_branch: str
    created_at: datetime
    updated_at: datetime

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner_name}/{self.name}"

    @property
    def resource(self) -> Resource:
        """What the verdict function is asked about."""
        return Resource(project_id=self.id, visibility=self.visibility)


def permissions_to_create(*, is_own: bool) -> tuple[Permission, ...]:
    """What one must hold on the platform to make a project.

    Args:
        is_own: Whether it will be one's own, or of an organisation that one owns.
    """
    if is_own:
        return (Permission.PROJECT_CREATE,)
    return (Permission.PROJECT_CREATE, Permission.ADMIN_USERS)


def check_project_name(name: str) -> str:
    """Returns ``name`` if a project may be called so.

    A name is part of addresses and of ``git clone`` lines: lower-case ASCII letters, digits, ``-``, ``_`` and ``.``,
    beginning and ending with a letter or digit, at most 64 characters, without ``..`` and not ending in ``.git`` or
    ``.lock``.

    Raises:
        InvalidInput: With the rule that is broken (code ``invalid_name``).
    """
    broken = _broken_rule(name)
    if broken:
        raise InvalidInput(f"A project cannot be called {name[:80]!r}: {broken}.", code="invalid_name")
    return name


def _broken_rule(name: str) -> str | None:
    if not name:
        return "the name is empty"
    if len(name) > NAME_LENGTH_MAX:
        return f"it has {len(name)} characters, the limit is {NAME_LENGTH_MAX}"
    if not _NAME.match(name):
        return "use lower-case letters a-z, digits, '-', '_' and '.', and begin and end with a letter or digit" + (
            f", for instance {name.lower()!r}" if _NAME.match(name.lower()) else ""
        )
    if ".." in name:
        return "'..' is not allowed"
    if name.endswith((".git", ".lock")):
        return "it may not end in '.git' or '.lock'"
    return None
