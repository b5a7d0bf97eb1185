"""Our signing keys: which there are, and how they follow one another (``domain.access.signing``)."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import SigningKey
from database.store.audit import record
from database.store.clock import instant
from domain.access.signing import TOKEN_LIFETIME_MAX, KeyTimes, PlannedKey, keys_to_make, signing_key, successors
from domain.actors import SYSTEM, Actor
from domain.audit.actions import AuditAction
from domain.errors import InvalidInput

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


class Keyring(Protocol):
    """Makes keys and signs with them; ``adapters.keyring.signing.Keyring`` is one."""

    async def make(self, algorithm: str) -> MadeKey:
        """A new key of an algorithm."""
        ...

    async def sign(self, kid: str, algorithm: str, sealed: bytes, claims: Mapping[str, object]) -> str:
        """A JWT."""
        ...


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


async def key_set(session: AsyncSession, keyring: Keyring) -> list[SigningKey]:
    """What others verify our tokens by; the first keys are made when somebody first asks."""
    keys = await published_keys(session)
    if keys_to_make([times_of(key) for key in keys], await instant(session)):
        await rotate(session, SYSTEM, keyring)
        keys = await published_keys(session)
    return keys


async def sign_identity_token(
    session: AsyncSession,
    keyring: Keyring,
    claims: Mapping[str, object],
    lifetime: timedelta,
    *,
    issuer: str,
    algorithm: str = "RS256",
) -> str:
    """Signs what we say of somebody, for whoever trusts us to say it.

    Args:
        claims: ``sub`` and ``aud`` at least; who issued it, when, its end and its id are added.
        lifetime: At most ``domain.access.signing.TOKEN_LIFETIME_MAX``.
        issuer: The public address of this installation.
        algorithm: One of ``domain.access.signing.ALGORITHMS``.

    Raises:
        InvalidInput: Too long a lifetime, or another algorithm.
    """
    if not timedelta() < lifetime <= TOKEN_LIFETIME_MAX:
        raise InvalidInput(f"An identity token is good for at most {TOKEN_LIFETIME_MAX}; ask for a new one later.")
    keys = await key_set(session, keyring)
    moment = await instant(session)
    chosen = signing_key([times_of(key) for key in keys], algorithm, moment)
    if chosen is None:
        raise InvalidInput(f"There is no signing key for {algorithm!r}.")
    issued_at = int(moment.timestamp())
    said: dict[str, object] = {
        **claims,
        "iss": issuer,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "jti": str(uuid.uuid4()),
    }
    sealed = next(key.private_key for key in keys if key.kid == chosen.kid)
    return await keyring.sign(chosen.kid, algorithm, sealed, said)


async def rotate(session: AsyncSession, actor: Actor, keyring: Keyring) -> Rotation:
    """Makes the keys that are due, and removes those that verify nothing any more. Doing it again does nothing."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    gone = await session.execute(text("DELETE FROM signing_keys WHERE verifies_until <= now() RETURNING kid"))
    removed = tuple(sorted(gone.scalars()))
    planned = keys_to_make([times_of(key) for key in await published_keys(session)], await instant(session))
    made = await _make(session, actor, planned, keyring)
    if removed:
        await record(session, actor, AuditAction.SIGNING_KEY_DELETE, "platform", None, detail={"kids": list(removed)})
    return Rotation(made, removed)


async def rotate_on_demand(
    session: AsyncSession, actor: Actor, keyring: Keyring, *, revoke: bool, reason: str
) -> Rotation:
    """Makes new keys now.

    Args:
        revoke: Whether the present keys stop signing and verifying at once, because somebody else may have them; else
            they go on until the new ones were published for a while.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    moment = await instant(session)
    planned = successors(moment, at_once=revoke)
    removed: tuple[str, ...] = ()
    if revoke:
        gone = await session.execute(text("DELETE FROM signing_keys RETURNING kid"))
        removed = tuple(sorted(gone.scalars()))
    else:
        await _end_at(session, planned[0].signs_from)
    made = await _make(session, actor, planned, keyring)
    detail: dict[str, object] = {"reason": reason, "revoke": revoke, "made": list(made), "removed": list(removed)}
    await record(session, actor, AuditAction.SIGNING_KEY_ROTATE, "platform", None, detail=detail)
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


async def _make(
    session: AsyncSession, actor: Actor, planned: Sequence[PlannedKey], keyring: Keyring
) -> tuple[str, ...]:
    made = []
    for plan in planned:
        key = await keyring.make(plan.algorithm)
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
        await record(session, actor, AuditAction.SIGNING_KEY_CREATE, "platform", None, detail=detail)
        made.append(key.kid)
    return tuple(made)
