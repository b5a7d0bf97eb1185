"""When a key of ours is published, when it signs, and how long it verifies.

    published        signs_from               signs_until          verifies_until
        |  PUBLISHED_BEFORE  |  SIGNS_FOR            |  TOKEN_LIFETIME_MAX  |  removed

Whoever caches our key set has seen a key before it signs, and a token outlives its key never. There is one such chain
for each algorithm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.actors import Actor

ALGORITHMS = ("RS256", "EdDSA")
"""RS256 is what every relying party understands; EdDSA (Ed25519, RFC 8037) is shorter and quicker."""
SIGNS_FOR = timedelta(days=30)
PUBLISHED_BEFORE = timedelta(days=1)
TOKEN_LIFETIME_MAX = timedelta(hours=1)
"""Of a token that we sign; what is needed for longer asks again."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """The life of one signing key, from its publication on."""

    kid: str
    algorithm: str
    signs_from: datetime
    signs_until: datetime
    verifies_until: datetime

    def signs_at(self, now: datetime) -> bool:
        """Whether it may sign."""
        return self.signs_from <= now < self.signs_until


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """A key that shall be made."""

    algorithm: str
    signs_from: datetime

    @property
    def signs_until(self) -> datetime:
        """When it stops signing, if nobody ends it earlier."""
        return self.signs_from + SIGNS_FOR

    @property
    def verifies_until(self) -> datetime:
        """When the last token that it may have signed has expired."""
        return self.signs_until + TOKEN_LIFETIME_MAX


def signing_key(keys: Iterable[KeyTimes], algorithm: str, now: datetime) -> KeyTimes | None:
    """The key that signs at this moment: of several the newest."""
    signing = [key for key in keys if key.algorithm == algorithm and key.signs_at(now)]
    return max(signing, key=lambda key: key.signs_from, default=None)


def keys_to_make(keys: Iterable[KeyTimes], now: datetime) -> list[PlannedKey]:
    """What the rotation has to make now.

    Where no key signs, one that does at once; where the last one ends soon, its successor, so that it is published
    ``PUBLISHED_BEFORE`` it signs.
    """
    planned = []
    known = list(keys)
    for algorithm in ALGORITHMS:
        ends = [key.signs_until for key in known if key.algorithm == algorithm and key.signs_until > now]
        if signing_key(known, algorithm, now) is None:
            planned.append(PlannedKey(algorithm, now))
        elif max(ends) - now <= PUBLISHED_BEFORE:
            planned.append(PlannedKey(algorithm, max(ends)))
    return planned


def successors(now: datetime, *, at_once: bool) -> list[PlannedKey]:
    """What a rotation on demand makes: new keys that sign after they were published for a while, or ``at_once``."""
    return [PlannedKey(algorithm, now if at_once else now + PUBLISHED_BEFORE) for algorithm in ALGORITHMS]


def identity_claims(actor: Actor) -> dict[str, object]:
    """What an identity token says of who asks for it (RFC 7519; RFC 8693 for who acts for whom).

    ``sub`` is whose rights are used, by its id, which is never given to another; ``act`` names who acts with them, and
    inside of it who handed them on. A narrowed credential says so (``scope``, ``project_id``), so that nobody takes a
    token that it asked for as one of the identity without that narrowing.
    """
    subject = actor.subject_id
    claims: dict[str, object] = {"sub": str(subject)}
    actors = [one for one in (actor.user_id, *actor.on_behalf_of) if one != subject]
    act: dict[str, object] | None = None
    for one in reversed(actors):
        act = {"sub": str(one)} if act is None else {"sub": str(one), "act": act}
    if act is None:
        claims |= {"preferred_username": actor.name, "kind": actor.kind}
    else:
        claims["act"] = {**act, "preferred_username": actor.name, "kind": actor.kind}
    if actor.scopes is not None:
        claims["scope"] = " ".join(sorted(actor.scopes))
    if actor.project_id is not None:
        claims["project_id"] = str(actor.project_id)
    return claims
