"""Who may see an organisation, who may change it, and who may make projects in it."""

from dataclasses import dataclass
from typing import Literal

from api.denials import audited_denials
from api.dependencies import Caller, check_permission
from api.services import Services
from database.store.access.identities import identity_by_name
from database.store.access.organizations import membership, owns_name
from database.store.access.requests import Grant
from database.store.audit import record
from domain.access.decide import PLATFORM, decide
from domain.access.identities import Identity
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import Action, AuditAction
from domain.errors import NotFound, PermissionMissing
from domain.projects import permissions_to_create

NO_SUCH_ORGANIZATION = "There is no such organisation, or you are not in it."


@dataclass(frozen=True, slots=True)
class OrganizationAccess:
    """The proof that the actor may see the organisation, or what the function that made it says.

    Attributes:
        actor: Who acts, on behalf of whom where that right is lent.
        as_what: By being what: in its team of owners, in another of its teams, or an administrator of users.
    """

    actor: Actor
    organization: Identity
    as_what: Literal["owner", "member", "administrator"]


async def member_of(
    services: Services, caller: Caller, name: str, action: Action = AuditAction.ORGANIZATION_READ
) -> OrganizationAccess:
    """Lets through who is in the organisation ``name``, and administrators of users.

    Args:
        action: What is to be done, for the audit log.

    Raises:
        NotFound: There is no such organisation, or it is not for the caller to see; then an audit row tells of it.
    """
    actor = caller.actor
    async with services.database.transaction() as session:
        found = await identity_by_name(session, name)
        if found is None or found.kind != "organization":
            raise NotFound(NO_SUCH_ORGANIZATION, code="no_such_organization")
        # A credential for one project is not one for an organisation; what is lent or exchanged makes nobody a member.
        is_own = actor.project_id is None and actor.rights_of is None
        place = await membership(session, found.id, actor.user_id) if is_own else None
    if place == "owner":
        return OrganizationAccess(actor, found, place)
    verdict = decide(actor, Permission.ADMIN_USERS, PLATFORM, held=caller.held)
    if verdict.allowed:
        return OrganizationAccess(actor.acting_for(verdict.lenders), found, "administrator")
    if place is None:
        async with services.database.transaction() as session:
            detail = {"answer": "no_such_organization"}
            await record(session, actor, action, "user", found.id, outcome="denied", detail=detail)
        raise NotFound(NO_SUCH_ORGANIZATION, code="no_such_organization")
    return OrganizationAccess(actor, found, place)


async def owner_of(services: Services, caller: Caller, name: str, action: Action) -> OrganizationAccess:
    """Lets through who owns the organisation ``name``, with a credential that includes it, and administrators of users.

    Args:
        action: What is to be done, for the audit log, for instance ``team:create``.

    Raises:
        NotFound: There is no such organisation, or it is not for the caller to see.
        PermissionMissing: The caller is in it but does not own it (code ``not_an_owner``), or the token lacks the
            scope (``scope_missing``); an audit row tells of the attempt.
    """
    found = await member_of(services, caller, name, action)
    scopes = caller.actor.scopes
    needed = Permission.ORGANIZATION_CREATE
    async with audited_denials(services, caller.actor, action, "user", found.organization.id):
        if found.as_what == "member":
            raise PermissionMissing(
                f"Only the owners of {name} may do this: those in its team `owners`. Nothing was changed.",
                code="not_an_owner",
            )
        if found.as_what == "owner" and scopes is not None and needed.value not in scopes:
            raise PermissionMissing(
                f"A token manages the organisations of its owner only with the scope {needed.value}. Nothing was "
                "changed.",
                code="scope_missing",
                details={"permission": needed.value},
            )
    return found


async def check_may_create(services: Services, caller: Caller, owner_name: str) -> None:
    """Lets through who may make a project that ``owner_name`` owns.

    Raises:
        PermissionMissing: It is somebody else's name, or the caller makes no projects at all; an audit row tells of the
            attempt.
    """
    for permission in await needed_to_create(services, caller, owner_name):
        if permission is not Permission.ADMIN_USERS or caller.may(permission):
            await check_permission(services, caller, permission, PLATFORM)
            continue
        async with audited_denials(services, caller.actor, permission, "platform"):
            raise PermissionMissing(
                f"Projects of {owner_name} are made by {owner_name}, or by those in the team `owners` if that is an "
                f"organisation. Others need the permission {permission.value}. Nothing was made.",
                details={"permission": permission.value},
            )


async def needed_to_create(services: Services, who: Caller | Grant, owner_name: str) -> tuple[Permission, ...]:
    """What the caller must hold on the platform to make a project that ``owner_name`` owns."""
    actor = who.actor
    is_own = owner_name == actor.name
    if not is_own:
        async with services.database.transaction() as session:
            is_own = await owns_name(session, actor.subject_id, owner_name)
    return permissions_to_create(is_own=is_own)
