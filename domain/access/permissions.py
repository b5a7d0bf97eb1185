"""Every permission, as ``resource:action``, in one sorted list, and the system roles of the seed."""

from enum import StrEnum


class Permission(StrEnum):
    """What may be asked for. Sorted by value; a test keeps it so."""

    ADMIN_USERS = "admin:users"
    PIPELINE_RUN = "pipeline:run"
    PROJECT_CREATE = "project:create"
    PROJECT_DELETE = "project:delete"
    PROJECT_READ = "project:read"
    PROJECT_WRITE = "project:write"


EVERYTHING = "*:*"
"""The admin role's alone."""

OWNER_PERMISSIONS = frozenset(
    {
        Permission.PIPELINE_RUN,
        Permission.PROJECT_DELETE,
        Permission.PROJECT_READ,
        Permission.PROJECT_WRITE,
    }
)
"""What owning a project gives on it."""

SYSTEM_ROLES: dict[str, frozenset[str]] = {
    "admin": frozenset({EVERYTHING}),
    "agent": frozenset(),
    "developer": frozenset(
        {
            Permission.PIPELINE_RUN,
            Permission.PROJECT_CREATE,
            Permission.PROJECT_READ,
            Permission.PROJECT_WRITE,
        }
    ),
    "ops": frozenset({Permission.PROJECT_READ, Permission.PIPELINE_RUN}),
    "viewer": frozenset({Permission.PROJECT_READ}),
}
"""Role name to permissions, as bootstrapped on the first run (seed 004, "System Roles")."""
