"""What somebody may give to others for good: with a role, a binding, a place in a team.

A grant outlives the credential and the moment it was made with. So only what the giver holds by themselves counts, not
what others lend them; narrowed by the credential, and no longer than they hold it.
"""

from collections.abc import Mapping
from datetime import datetime

from domain.access.permissions import EVERYTHING, PLATFORM_PERMISSIONS, Permission
from domain.actors import Actor
from domain.errors import InvalidInput, PermissionMissing

OwnRights = Mapping[str, datetime | None]
"""Permission to when the last binding that gives it ends; ``None`` where one does not end."""


def check_in_own_name(actor: Actor) -> None:
    """Refuses to give away for good what ends with another credential, or is another's.

    Raises:
        PermissionMissing: The credential comes from a token exchange (code ``granted_by_exchange``).
    """
    if actor.gives_nothing_lasting:
        raise PermissionMissing(
            "The token comes from a token exchange: its rights end with it, so nothing that lasts can be given with "
            "them. Nothing was changed; ask the person themselves.",
            code="granted_by_exchange",
        )


def check_grantable(
    actor: Actor,
    permissions: frozenset[str],
    own: OwnRights,
    *,
    on_project: bool,
    until: datetime | None = None,
) -> None:
    """Lets the actor give ``permissions`` or raises.

    Args:
        actor: The giver, with the narrowing of the credential.
        permissions: What would be given, ``*:*`` included.
        own: What the giver holds there by themselves, not lent.
        on_project: A role on one project gives no permission about the platform, so none needs to be held.
        until: When the gift ends; ``None`` if it does not.

    Raises:
        PermissionMissing: The giver does not hold all of it (codes ``not_yours_to_give``, ``granted_by_exchange``).
        InvalidInput: The gift would outlast what the giver holds (code ``outlasts_your_own``).
    """
    if actor.kind == "system":
        return
    check_in_own_name(actor)
    wanted = {name for name in permissions if not (on_project and name in PLATFORM_PERMISSIONS)}
    missing = sorted(name for name in wanted if not _holds(actor, name, own))
    if missing:
        raise PermissionMissing(
            f"You cannot give {', '.join(missing)}: nobody gives more than they hold themselves there, with the "
            "credential that they use. What is lent to you does not count. Nothing was changed.",
            code="not_yours_to_give",
            details={"permission": missing[0], "permissions": missing},
        )
    ends = [end for name in wanted if (end := _end(name, own)) is not None]
    if ends and (until is None or until > min(ends)):
        raise InvalidInput(
            f"You hold this until {min(ends).isoformat()} only, so what you give must end by then: send an "
            "`expires_at` that is not later. Nothing was changed.",
            code="outlasts_your_own",
        )


def _holds(actor: Actor, name: str, own: OwnRights) -> bool:
    if name not in own and EVERYTHING not in own:
        return False
    if actor.scopes is None:
        return True
    # A token has no scope ``*:*``: one that has every other gives it.
    return name in actor.scopes if name != EVERYTHING else actor.scopes >= set(Permission)


def _end(name: str, own: OwnRights) -> datetime | None:
    """When the giver ceases to hold it: the later of the permission itself and of ``*:*``."""
    ends = [own[key] for key in (name, EVERYTHING) if key in own]
    lasting = [end for end in ends if end is not None]
    return None if len(lasting) < len(ends) else max(lasting, default=None)
