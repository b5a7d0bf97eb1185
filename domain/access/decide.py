"""The one verdict function: may this actor do this to that project?

Rights only ever narrow on the way: ``(owner or role permissions) & token scopes & token project``.
"""

from dataclasses import dataclass
from uuid import UUID

from domain.access.permissions import EVERYTHING, OWNER_PERMISSIONS, Permission
from domain.actors import Actor
from domain.errors import NotFound, PermissionMissing


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked about: a project, or the platform where all fields are ``None``.

    Attributes:
        project_id: The project's id.
        owner_id: Who owns it.
        visibility: ``private``, ``internal`` (every signed-in user reads) or ``public``.
    """

    project_id: UUID | None = None
    owner_id: UUID | None = None
    visibility: str = "private"


PLATFORM = Resource()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer with its reason: the path that grants, or what is missing."""

    allowed: bool
    reason: str


def _granting_path(actor: Actor, permission: Permission, resource: Resource, held: frozenset[str]) -> str | None:
    if EVERYTHING in held:
        return "role with *:*"
    if permission in held:
        return "role"
    if resource.project_id is None:
        return None
    if resource.owner_id == actor.user_id and permission in OWNER_PERMISSIONS:
        return "owner"
    if permission is Permission.PROJECT_READ and resource.visibility in ("internal", "public"):
        return f"{resource.visibility} project"
    return None


def decide(actor: Actor, permission: Permission, resource: Resource, *, held: frozenset[str]) -> Verdict:
    """Decides.

    Args:
        actor: Who asks, with the narrowing of the credential.
        permission: What is asked for.
        resource: On what.
        held: The permissions that the actor's global and project roles give here.

    Returns:
        The verdict; never raises.
    """
    if actor.kind == "system":
        return Verdict(allowed=True, reason="system")
    path = _granting_path(actor, permission, resource, held)
    if path is None:
        return Verdict(allowed=False, reason=f"{actor.name} does not hold {permission.value} here")
    if actor.project_id is not None and actor.project_id != resource.project_id:
        return Verdict(allowed=False, reason="the token is good for another project only")
    if actor.scopes is not None and permission.value not in actor.scopes:
        return Verdict(allowed=False, reason=f"the token's scopes do not include {permission.value}")
    return Verdict(allowed=True, reason=path)


def require(actor: Actor, permission: Permission, resource: Resource, *, held: frozenset[str]) -> None:
    """Lets through or raises.

    Raises:
        NotFound: The actor may not even read the project.
        PermissionMissing: The actor may read, but not do this; names the permission and the reason.
    """
    verdict = decide(actor, permission, resource, held=held)
    if verdict.allowed:
        return
    if resource.project_id is not None and not decide(actor, Permission.PROJECT_READ, resource, held=held).allowed:
        raise NotFound("There is no such project, or you may not see it.")
    raise PermissionMissing(
        f"This needs the permission {permission.value}: {verdict.reason}.",
        details={"permission": permission.value, "reason": verdict.reason},
    )
