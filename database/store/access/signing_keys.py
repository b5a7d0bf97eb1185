"""Our signing keys: which there are, and how they follow one another (``domain.access.signing``)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import SigningKey
from database.store.audit import record
from database.store.clock import now
from domain.access.signing import TOKEN_LIFETIME_MAX, KeyTimes, PlannedKey, keys_to_make, successors
from domain.actors import Actor

_LOCK = 0x7065_7268  # one rotation at a time; the number is "perh", next to the administrators'


class MadeKey(Protocol):
    """A new key; ``adapters.keyring.signing.MadeKey`` is one."""

    @property
    def kid(self) -> str:
        """Its id."""
        ...

    @property
    def private_key(self) -> bytes:
        """Sealed."""
        ...

    @property
    def public_jwk(self) -> dict[str, Any]:
        """What others see."""
        ...


MakeKey = Callable[[str], Awaitable[MadeKey]]
"""Makes a key of an algorithm."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did, by key id."""

    made: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


async def published_keys(session: AsyncSession) -> list[SigningKey]:
    """The keys that verify now, or will sign soon; newest first."""
    statement = select(SigningKey).from_statement(
        text("SELECT * FROM signing_keys WHERE verifies_until > now() ORDER BY signs_from DESC, kid")
    )
    return list((await session.execute(statement)).scalars())


def times_of(key: SigningKey) -> KeyTimes:
    """The life of a stored key."""
    return KeyTimes(key.kid, key.algorithm, key.signs_from, key.signs_until, key.verifies_until)


async def rotate(session: AsyncSession, actor: Actor, make: MakeKey) -> Rotation:
    """Makes the keys that are due, and removes those that verify nothing any more. Doing it again does nothing."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    gone = await session.execute(text("DELETE FROM signing_keys WHERE verifies_until <= now() RETURNING kid"))
    removed = tuple(sorted(gone.scalars()))
    planned = keys_to_make([times_of(key) for key in await published_keys(session)], await now(session))
    made = await _make(session, actor, planned, make)
    if removed:
        await record(session, actor, "signing_key:delete", "platform", None, detail={"kids": list(removed)})
    return Rotation(made, removed)


async def rotate_on_demand(
    session: AsyncSession, actor: Actor, make: MakeKey, *, revoke: bool, reason: str
) -> Rotation:
    """Makes new keys now.

    Args:
        revoke: Whether the present keys stop signing and verifying at once, because somebody else may have them; else
            they go on until the new ones were published for a while.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    moment = await now(session)
    planned = successors(moment, at_once=revoke)
    removed: tuple[str, ...] = ()
    if revoke:
        gone = await session.execute(text("DELETE FROM signing_keys RETURNING kid"))
        removed = tuple(sorted(gone.scalars()))
    else:
        await _end_at(session, planned[0].signs_from)
    made = await _make(session, actor, planned, make)
    detail: dict[str, object] = {"reason": reason, "revoke": revoke, "made": list(made), "removed": list(removed)}
    await record(session, actor, "signing_key:rotate", "platform", None, detail=detail)
    return Rotation(made, removed)


async def _end_at(session: AsyncSession, moment: datetime) -> None:
    """No present key signs after ``moment``; one that would begin only then is not needed any more."""
    await session.execute(text("DELETE FROM signing_keys WHERE signs_from >= :moment"), {"moment": moment})
    await session.execute(
        text("""
            UPDATE signing_keys SET signs_until = :moment, verifies_until = :moment + CAST(:lifetime AS interval)
            WHERE signs_until > :moment"""),
        {"moment": moment, "lifetime": TOKEN_LIFETIME_MAX},
    )


async def _make(session: AsyncSession, actor: Actor, planned: Sequence[PlannedKey], make: MakeKey) -> tuple[str, ...]:
    made = []
    for plan in planned:
        key = await make(plan.algorithm)
        session.add(
            SigningKey(
                kid=key.kid,
                algorithm=plan.algorithm,
                private_key=key.private_key,
                public_jwk=key.public_jwk,
                signs_from=plan.signs_from,
                signs_until=plan.signs_until,
                verifies_until=plan.verifies_until,
            )
        )
        await session.flush()
        detail: dict[str, object] = {
            "kid": key.kid,
            "algorithm": plan.algorithm,
            "signs_from": plan.signs_from.isoformat(),
        }
        await record(session, actor, "signing_key:create", "platform", None, detail=detail)
        made.append(key.kid)
    return tuple(made)
