"""Who may manage an identity: an administrator of users, the person who answers for it, or itself."""

from typing import NoReturn

from api.denials import audited_denials
from api.dependencies import Caller, check_permission
from api.services import Services
from database.store.access.identities import identity_by_name
from database.store.access.rights import held_by
from domain.access.decide import PLATFORM
from domain.access.identities import Identity, answers_for, check_not_above, manages_itself
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import Action
from domain.errors import NotFound, PermissionMissing

NO_SUCH_USER = "There is nobody who is called so."


async def managed(
    services: Services,
    caller: Caller,
    name: str,
    action: Action,
    *,
    by_itself: bool = False,
    by_responsible: bool = True,
) -> tuple[Actor, Identity]:
    """The person, agent or service ``name``, when the caller may manage it.

    Args:
        action: What is to be done, for the audit log, for instance ``user:update``.
        by_itself: Whether an identity may do this to itself, in a browser session.
        by_responsible: Whether the person who answers for it may.

    Returns:
        Who acts, on behalf of whom where the permission is lent, and the identity.

    Raises:
        PermissionMissing: The caller may not; an audit row tells of the attempt.
        NotFound: An administrator asks, and nobody is called so (code ``no_such_user``).
    """
    async with services.database.transaction() as session:
        identity = await identity_by_name(session, name)
    if identity is not None and identity.kind == "organization":
        identity = None
    if identity is not None:
        itself = by_itself and manages_itself(caller.actor, identity)
        if itself or (by_responsible and answers_for(caller.actor, identity)):
            return caller.actor, identity
        if by_itself and identity.id == caller.actor.user_id and not caller.may(Permission.ADMIN_USERS):
            await _refuse_token(services, caller.actor, identity, action)
    actor = await check_permission(services, caller, Permission.ADMIN_USERS, PLATFORM)
    if identity is None:
        raise NotFound(NO_SUCH_USER, code="no_such_user")
    async with services.database.transaction() as session:
        theirs = await held_by(session, identity.id)
    async with audited_denials(services, actor, action, "user", identity.id):
        check_not_above(actor, caller.held, identity, theirs)
    return actor, identity


async def _refuse_token(services: Services, actor: Actor, identity: Identity, action: Action) -> NoReturn:
    async with audited_denials(services, actor, action, "user", identity.id):
        raise PermissionMissing(
            "A token narrows what its owner may do, so it cannot do this to its owner. Nothing was changed; sign in "
            "with a browser.",
            code="session_needed",
        )
    raise AssertionError("the refusal was raised")
