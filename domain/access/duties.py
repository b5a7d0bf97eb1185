"""Separation of duties: who asked for something does not approve it, by whatever hand.

Whoever acts is one party with everybody in whose name it acts, with everybody who lent the right that is used, and
with the person who answers for it. A request and its approval need parties that have nobody in common.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

from domain.access.decide import Verdict
from domain.actors import Actor

NOBODY_ANSWERS: Mapping[UUID, UUID] = {}


def party_of(actor: Actor, *, responsible: Mapping[UUID, UUID] = NOBODY_ANSWERS) -> frozenset[UUID]:
    """Everybody who counts as one with the actor.

    Args:
        actor: With its whole chain.
        responsible: For agents and services the identity that answers for it (``users.responsible_id``).
    """
    party: set[UUID] = set()
    waiting = [actor.user_id, actor.subject_id, *actor.on_behalf_of]
    while waiting:
        one = waiting.pop()
        if one not in party:
            party.add(one)
            if one in responsible:
                waiting.append(responsible[one])
    return frozenset(party)


def may_approve(
    approver: Actor,
    requester: Actor,
    *,
    earlier: Iterable[Actor] = (),
    responsible: Mapping[UUID, UUID] = NOBODY_ANSWERS,
) -> Verdict:
    """Whether this approval counts for that request; whether the approver holds the right to approve is not asked.

    Args:
        approver: Who approves.
        requester: Who asked, as it was when it asked.
        earlier: Who approved before: a second approval must be somebody else's too.
        responsible: See ``party_of``.

    Returns:
        The verdict with its reason; never raises. The platform itself (``system``) approves nothing.
    """
    if approver.kind == "system":
        return Verdict(allowed=False, reason="the platform itself approves nothing")
    mine = party_of(approver, responsible=responsible)
    if mine & party_of(requester, responsible=responsible):
        return Verdict(
            allowed=False, reason=f"{approver.name} asked for it, or acts for who did, or the other way round"
        )
    for other in earlier:
        if mine & party_of(other, responsible=responsible):
            return Verdict(allowed=False, reason=f"{approver.name} is one with {other.name}, who approved before")
    return Verdict(allowed=True, reason="nobody in common with who asked")
