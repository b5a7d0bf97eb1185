"""Writes ``docs/reference/permissions.md`` from the verdicts themselves: ``python -m tests.policy.permissions_page``.

The page is the reviewed table of who may do what. A change of a role or of the verdict function changes the page, and
the test beside this module fails until somebody has looked at the difference and committed it.
"""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from domain.access.decide import PLATFORM, Resource, decide
from domain.access.held import NOTHING, held_by_role
from domain.access.permissions import DESCRIPTIONS, OWNER_PERMISSIONS, PLATFORM_PERMISSIONS, SYSTEM_ROLES, Permission
from domain.actors import Actor

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "permissions.md"

_SOMEBODY = Actor(user_id=UUID(int=1), name="somebody")
_PROJECT = UUID(int=3)

HEAD = """\
# Permissions

A permission is `resource:action`. Rights come from roles (held everywhere or on one project, by oneself, a team or an
organisation), from owning a project, from what others lend, and from a project's visibility; a token's scopes and its
restriction to one project only ever take away. What you may not see answers 404; what you may see but not do answers
403 and names the permission.

This page is written by `python -m tests.policy.permissions_page`, which asks the verdict function
(`domain/access/decide.py`) each question; a test fails when the page and the verdicts differ.

"""


def _columns() -> dict[str, Callable[[Permission], bool]]:
    def by_role(role: str) -> Callable[[Permission], bool]:
        held = held_by_role(role, SYSTEM_ROLES[role])
        return lambda permission: decide(_SOMEBODY, permission, _resource(permission), held=held).allowed

    def by_visibility(visibility: str) -> Callable[[Permission], bool]:
        def allowed(permission: Permission) -> bool:
            resource = _resource(permission, visibility)
            return decide(_SOMEBODY, permission, resource, held=NOTHING).allowed

        return allowed

    def by_owning(permission: Permission) -> bool:
        held = held_by_role("owner", OWNER_PERMISSIONS)
        return decide(_SOMEBODY, permission, _resource(permission), held=held).allowed

    return {
        **{f"`{role}`": by_role(role) for role in sorted(SYSTEM_ROLES)},
        "the owner": by_owning,
        "anyone signed in, project `internal`": by_visibility("internal"),
        "anyone signed in, project `public`": by_visibility("public"),
        "anyone signed in, project `private`": by_visibility("private"),
    }


def _resource(permission: Permission, visibility: str = "private") -> Resource:
    if permission in PLATFORM_PERMISSIONS:
        return PLATFORM
    return Resource(project_id=_PROJECT, visibility=visibility)


def page() -> str:
    """The page as the code stands."""
    columns = _columns()
    lines = [
        "| permission | lets one | asked of | " + " | ".join(columns) + " |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for permission in Permission:
        where = "the platform" if permission in PLATFORM_PERMISSIONS else "a project"
        verdicts = " | ".join("yes" if allowed(permission) else "-" for allowed in columns.values())
        lines.append(f"| `{permission}` | {DESCRIPTIONS[permission]} | {where} | {verdicts} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
