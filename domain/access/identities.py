"""Login names: the first part of every project's address, so they must not collide with the platform's own pages."""

import re

from domain.errors import InvalidInput

NAME_LENGTH_MAX = 39

RESERVED_NAMES = frozenset(
    {
        "admin-area", "api", "assets", "codec", "docs", "favicon.ico", "healthz", "login", "logout", "mcp", "me",
        "metrics", "new", "openapi.json", "projects", "readyz", "robots.txt", "schemas", "sessions", "settings",
        "static", "system", "tokens", "unknown", "v1",
    }
)  # fmt: skip
"""First path segments that the platform uses itself."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z", re.ASCII)


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
