"""What may be lent: the rules of delegation, before anything is stored.

An identity lends what it holds at this moment, as narrowed by the credential it uses, and never more: not longer, not
wider, not further than it was lent itself. What becomes of it later is not decided here: every use looks up the lender
again (``database.store.access.rights``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import NoReturn
from uuid import UUID

from domain.access.decide import PLATFORM, Resource, decide
from domain.access.held import NOTHING, Held, Path
from domain.access.permissions import EVERYTHING, PLATFORM_PERMISSIONS, Permission
from domain.actors import Actor
from domain.errors import Conflict, InvalidInput, PermissionMissing

REDELEGATIONS_MAX = 5
"""How often in a row a right that was lent can be lent on, at most."""
REASON_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Borrower:
    """Whom something shall be lent to."""

    id: UUID
    name: str
    kind: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What shall be lent.

    Attributes:
        project_id: Where it shall be good; ``None`` for everywhere.
        expires_at: When it ends by itself; ``None``: not before what it comes from does.
        redelegations: How often in a row it may be lent on.
        reason: For people.
    """

    permissions: frozenset[Permission]
    project_id: UUID | None = None
    expires_at: datetime | None = None
    redelegations: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """One way in which the lender holds a permission there.

    Attributes:
        permission: ``*:*`` included.
        path: How, for people.
        lenders: Who lent it, nearest first; empty for what is held by oneself.
        delegation_id: The delegation by which it is held; ``None`` for what is held by oneself.
        expires_at: When that delegation ends.
        redelegations_left: How often in a row it may be lent on.
    """

    permission: str
    path: str
    lenders: tuple[UUID, ...] = ()
    delegation_id: UUID | None = None
    expires_at: datetime | None = None
    redelegations_left: int = 0


def check_offer(lender: Actor, borrower: Borrower, offer: Offer, now: datetime) -> None:
    """What can be said without knowing what the lender holds.

    Raises:
        InvalidInput: The offer breaks a rule that its sender can read.
        PermissionMissing: The lender uses rights that are not its own, or that end with another credential (code
            ``lent_by_exchange``).
        Conflict: The borrower is deactivated.
    """
    if lender.gives_nothing_lasting:
        raise PermissionMissing(
            "The token comes from a token exchange: its rights end with it, so they cannot be lent. "
            "Exchange the token again, with a token of the other as actor_token. Nothing was lent.",
            code="lent_by_exchange",
        )
    if borrower.id == lender.user_id:
        raise InvalidInput("Nobody can lend to themselves. Nothing was lent.", code="lent_to_oneself")
    if borrower.kind == "organization":
        raise InvalidInput(
            f"{borrower.name} is an organisation, which does nothing itself: lend to one of its members, or bind a "
            "role to it. Nothing was lent.",
            code="borrower_cannot_act",
        )
    if not borrower.is_active:
        raise Conflict(f"{borrower.name} is deactivated. Nothing was lent.", code="borrower_inactive")
    if not offer.permissions:
        raise InvalidInput("Name at least one permission to lend.", code="nothing_to_lend")
    if EVERYTHING in offer.permissions:
        raise InvalidInput(
            "*:* cannot be lent: it is the admin role's alone. Name what is needed.", code="not_lendable"
        )
    if not 0 <= offer.redelegations <= REDELEGATIONS_MAX:
        raise InvalidInput(f"It can be lent on 0 to {REDELEGATIONS_MAX} times in a row.", code="too_many_redelegations")
    if offer.expires_at is not None and offer.expires_at <= now:
        raise InvalidInput("The end lies in the past. Nothing was lent.", code="already_over")
    misplaced = sorted(offer.permissions & PLATFORM_PERMISSIONS) if offer.project_id is not None else []
    if misplaced:
        raise InvalidInput(
            f"{', '.join(misplaced)}: about the platform as a whole, so it cannot be lent for one project. "
            "Nothing was lent.",
            code="not_of_a_project",
        )


def choose_sources(
    lender: Actor, borrower: Borrower, offer: Offer, holdings: Sequence[Holding]
) -> dict[Permission, Holding]:
    """For each permission of the offer what the lender lends it from: its own before what was lent to it.

    Args:
        holdings: All ways in which the lender holds something where the offer shall be good, at this moment.

    Raises:
        PermissionMissing: The lender does not hold one there, its credential does not include it, or it was lent
            without leave to lend it on so far or so long.
    """
    return {permission: _source(lender, borrower, offer, permission, holdings) for permission in offer.permissions}


def _source(
    lender: Actor, borrower: Borrower, offer: Offer, permission: Permission, holdings: Sequence[Holding]
) -> Holding:
    ways = [one for one in holdings if one.permission in (permission, EVERYTHING)]
    held = Held({permission.value: Path(ways[0].path, ways[0].lenders)}) if ways else NOTHING
    # Visibility lends nothing: it is not the lender's.
    resource = PLATFORM if offer.project_id is None else Resource(offer.project_id)
    verdict = decide(lender, permission, resource, held=held)
    if not verdict.allowed:
        _refuse(permission, "permission_missing", verdict.reason)
    own = next((one for one in ways if one.delegation_id is None), None)
    return own or _passed_on(borrower, offer, permission, ways)


def _passed_on(borrower: Borrower, offer: Offer, permission: Permission, ways: Iterable[Holding]) -> Holding:
    """The delegation that allows this re-delegation: of several the one that lasts longest, then the shortest chain."""
    others = [one for one in ways if borrower.id not in one.lenders]
    if not others:
        _refuse(permission, "lent_back", f"it comes from {borrower.name}")
    far = [one for one in others if one.redelegations_left > offer.redelegations]
    if not far:
        most = max(one.redelegations_left for one in others)
        allowed = (
            "it may not be lent on" if most == 0 else f"it may be lent on, and then {most - 1} times in a row more"
        )
        _refuse(permission, "redelegation_not_allowed", f"it was lent to you and {allowed}")
    long = [one for one in far if _covers(one.expires_at, offer.expires_at)]
    if not long:
        ends = max(one.expires_at for one in far if one.expires_at is not None)
        _refuse(permission, "outlives_parent", f"it was lent to you until {ends.isoformat(timespec='seconds')}")
    return max(long, key=lambda one: (inf if one.expires_at is None else one.expires_at.timestamp(), -len(one.lenders)))


def _covers(end: datetime | None, asked: datetime | None) -> bool:
    """Whether what ends then is long enough; who asks for no end gets the same."""
    return end is None or asked is None or asked <= end


def _refuse(permission: Permission, code: str, reason: str) -> NoReturn:
    raise PermissionMissing(
        f"{permission.value} cannot be lent: {reason}. Nothing was lent.",
        code=code,
        details={"permission": permission.value, "reason": reason},
    )
