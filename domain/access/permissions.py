"""Every permission, as ``resource:action``, in one sorted list, and the system roles of the seed."""

from enum import StrEnum


class Permission(StrEnum):
    """What may be asked for. Sorted by value; a test keeps it so."""

    ADMIN_ROLES = "admin:roles"
    ADMIN_USERS = "admin:users"
    AGENT_RUN = "agent:run"
    ALERT_MANAGE = "alert:manage"
    AUDIT_EXPORT = "audit:export"
    AUDIT_READ = "audit:read"
    DEPLOY_PROMOTE = "deploy:promote"
    DEPLOY_READ = "deploy:read"
    OBSERVE_READ = "observe:read"
    OBSERVE_WRITE = "observe:write"
    ORGANIZATION_CREATE = "organization:create"
    PIPELINE_RUN = "pipeline:run"
    PROJECT_CREATE = "project:create"
    PROJECT_DELETE = "project:delete"
    PROJECT_MANAGE = "project:manage"
    PROJECT_READ = "project:read"
    PROJECT_WRITE = "project:write"
    SECRET_READ = "secret:read"  # noqa: S105  # names a right, holds no secret
    SECRET_WRITE = "secret:write"  # noqa: S105  # as above


EVERYTHING = "*:*"
"""The admin role's alone: it is in no other role, and cannot be lent."""

PLATFORM_PERMISSIONS = frozenset(
    {
        Permission.ADMIN_ROLES,
        Permission.ADMIN_USERS,
        Permission.ORGANIZATION_CREATE,
        Permission.PROJECT_CREATE,
    }
)
"""What is about the platform as a whole; a role on one project gives none of it."""

OWNER_PERMISSIONS = frozenset(set(Permission) - PLATFORM_PERMISSIONS)
"""What owning a project gives on it."""

DESCRIPTIONS: dict[Permission, str] = {
    Permission.ADMIN_ROLES: "Make and change roles, and bind roles that are good for the whole platform",
    Permission.ADMIN_USERS: "Make, change, deactivate and unlock identities, and end their sessions and tokens",
    Permission.AGENT_RUN: "Start agent sessions, make agents and services of one's own and manage them",
    Permission.ALERT_MANAGE: "Make, change and silence alerts",
    Permission.AUDIT_EXPORT: "Export the audit log",
    Permission.AUDIT_READ: "Read the audit log",
    Permission.DEPLOY_PROMOTE: "Promote and roll back deployments",
    Permission.DEPLOY_READ: "See deployments and their history",
    Permission.OBSERVE_READ: "Query logs, traces and metrics",
    Permission.OBSERVE_WRITE: "Send and annotate logs, traces and metrics",
    Permission.ORGANIZATION_CREATE: "Make organisations; as a scope also: manage those that the token's owner owns",
    Permission.PIPELINE_RUN: "Start, cancel and rerun pipelines",
    Permission.PROJECT_CREATE: "Make projects of one's own",
    Permission.PROJECT_DELETE: "Delete the project",
    Permission.PROJECT_MANAGE: "Bind roles on the project and see who may do what there",
    Permission.PROJECT_READ: "Read the project: code, pipelines, logs, artifacts",
    Permission.PROJECT_WRITE: "Push code and change the project's settings",
    Permission.SECRET_READ: "Use secrets by name, and see which there are",
    Permission.SECRET_WRITE: "Set and delete secrets",
}
"""What each lets its holder do, for people."""

SYSTEM_ROLES: dict[str, frozenset[str]] = {
    "admin": frozenset({EVERYTHING}),
    "agent": frozenset(),
    "developer": frozenset(
        {
            Permission.AGENT_RUN,
            Permission.DEPLOY_READ,
            Permission.OBSERVE_READ,
            Permission.ORGANIZATION_CREATE,
            Permission.PIPELINE_RUN,
            Permission.PROJECT_CREATE,
            Permission.PROJECT_READ,
            Permission.PROJECT_WRITE,
            Permission.SECRET_READ,
        }
    ),
    "ops": frozenset(
        {
            Permission.ALERT_MANAGE,
            Permission.DEPLOY_PROMOTE,
            Permission.DEPLOY_READ,
            Permission.OBSERVE_READ,
            Permission.OBSERVE_WRITE,
            Permission.PIPELINE_RUN,
            Permission.PROJECT_READ,
            Permission.SECRET_READ,
        }
    ),
    "viewer": frozenset({Permission.DEPLOY_READ, Permission.OBSERVE_READ, Permission.PROJECT_READ}),
}
"""Role name to permissions, as bootstrapped on the first run (seed 004, "System Roles")."""
