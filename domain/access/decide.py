"""The one verdict function: may this actor do this to that project?

Rights only ever narrow on the way: ``(roles | ownership | live delegations) & token scopes & token project``. The part
in parentheses is ``Held``; who owns what and which delegation is live is found out where it is stored.
"""

from dataclasses import dataclass
from uuid import UUID

from domain.access.held import Held, Path
from domain.access.permissions import PLATFORM_PERMISSIONS, Permission
from domain.actors import Actor
from domain.errors import NotFound, PermissionMissing


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked about: a project, or the platform where ``project_id`` is ``None``.

    Attributes:
        project_id: The project's id.
        visibility: ``private``, ``internal`` (every signed-in user reads) or ``public``.
    """

    project_id: UUID | None = None
    visibility: str = "private"


PLATFORM = Resource()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer with its reason: the path that grants, or what is missing.

    Attributes:
        lenders: Whose right it is that was lent, nearest first; empty where nothing was.
    """

    allowed: bool
    reason: str
    lenders: tuple[UUID, ...] = ()


class RightLost(PermissionMissing):
    """An order was allowed when it was given and is not any more; what works on it stops."""

    code = "right_lost"
    title = "The right is gone"


def _granting_path(permission: Permission, resource: Resource, held: Held) -> Path | None:
    path = held.path_to(permission.value)
    if path is not None:
        return path
    if permission is Permission.PROJECT_READ and resource.visibility in ("internal", "public"):
        return Path(f"{resource.visibility} project")
    return None


def _not_held(actor: Actor, permission: Permission, resource: Resource) -> str:
    """Says whose right is missing: with an exchanged token, that is not whoever acts."""
    holder = actor.name if actor.rights_of is None else f"the one with whose rights {actor.name} acts"
    if resource.project_id is not None:
        return f"{holder} does not hold {permission.value} here"
    # What is about the platform is held there or not at all; the rest may be held on some project.
    return f"{holder} does not hold {permission.value}" + ("" if permission in PLATFORM_PERMISSIONS else " everywhere")


def decide(actor: Actor, permission: Permission, resource: Resource, *, held: Held) -> Verdict:
    """Decides.

    Args:
        actor: Who asks, with the narrowing of the credential.
        permission: What is asked for.
        resource: On what.
        held: What the identity holds there whose rights the actor uses.

    Returns:
        The verdict; never raises.
    """
    if actor.kind == "system":
        return Verdict(allowed=True, reason="system")
    path = _granting_path(permission, resource, held)
    if path is None:
        return Verdict(allowed=False, reason=_not_held(actor, permission, resource))
    if actor.project_id is not None and actor.project_id != resource.project_id:
        return Verdict(allowed=False, reason="the credential is good for another project only")
    if actor.scopes is not None and permission.value not in actor.scopes:
        return Verdict(allowed=False, reason=f"the scopes of the credential do not include {permission.value}")
    return Verdict(allowed=True, reason=path.text, lenders=path.lenders)


def require(actor: Actor, permission: Permission, resource: Resource, *, held: Held) -> Actor:
    """Lets through or raises.

    Returns:
        The actor, acting on behalf of the lenders too where the permission is lent.

    Raises:
        NotFound: The actor may not even read the project.
        PermissionMissing: The actor may read, but not do this; names the permission and the reason.
    """
    verdict = decide(actor, permission, resource, held=held)
    if verdict.allowed:
        return actor.acting_for(verdict.lenders)
    if resource.project_id is not None and not decide(actor, Permission.PROJECT_READ, resource, held=held).allowed:
        raise NotFound("There is no such project, or you may not see it.")
    raise PermissionMissing(
        f"This needs the permission {permission.value}: {verdict.reason}.",
        details={"permission": permission.value, "reason": verdict.reason},
    )
