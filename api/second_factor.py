"""What follows a right password, and what is asked again before something dangerous.

An identity with a second factor signs in with it: a code of its authenticator app, a passkey, or one of its recovery
codes. An identity that is signed in proves itself again (``check_proof``) with its second factor, or with its password
if it has none. Wrong codes count towards bans, apart from wrong passwords (``api/attempts.py``).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from starlette.requests import Request

from api.attempts import begin_attempt
from api.passkeys import needed_site, proven_passkey
from api.requests import origin_of
from api.services import Services
from api.sign_in import RightPassword, check_password
from database.engine import Session
from database.store.access.factors import factors_of, totp_of, use_recovery_code, use_totp_step
from database.store.audit import record
from domain.access.factors import (
    FactorKind,
    Factors,
    as_recovery_code,
    as_totp_code,
    hash_recovery_code,
    matching_step,
)
from domain.actors import NOBODY, Actor
from domain.audit.actions import AuditAction
from domain.errors import InvalidInput, Unauthenticated

CODE_LENGTH_MAX = 64
HEADER = "x-second-factor"
"""Carries the code where name and password come as HTTP Basic."""

ProofKind = Literal["password", "provider"] | FactorKind


@dataclass(frozen=True, slots=True)
class ShownProof:
    """What an identity shows to prove itself again; one of the three."""

    code: str | None = None
    password: str | None = None
    passkey: str | None = None


def totp_context(user_id: UUID) -> str:
    """What the secret of an authenticator app is sealed for (``api/secret_box.py``)."""
    return f"totp/{user_id}"


async def present_factors(services: Services, user_id: UUID) -> Factors:
    """What an identity can prove itself with now."""
    async with services.database.transaction() as session:
        return await factors_of(session, user_id)


async def check_second_factor(
    services: Services, request: Request, right: RightPassword, code: str | None
) -> ProofKind:
    """The second step of a sign-in that comes in one request.

    Returns:
        What the sign-in is proven by: ``password`` for an identity without a second factor.

    Raises:
        Unauthenticated: A code is needed (code ``second_factor_required``; ``details['factors']`` says of what), or
            it is wrong (``wrong_code``).
        TooManyRequests: Too many wrong codes.
    """
    actor, factors = right.actor, right.factors
    if not factors.needed:
        return "password"
    if code is None:
        await note_second_factor_needed(services, actor)
        raise Unauthenticated(
            "The password is right, and a second factor is needed: send the code of your authenticator app, or a "
            f"recovery code, as `code` in JSON or in the header {HEADER}. A passkey works in the browser.",
            code="second_factor_required",
            details={"factors": factors.possible},
        )
    return await check_code(services, request, actor, code, action=AuditAction.SESSION_CREATE)


async def note_second_factor_needed(services: Services, actor: Actor) -> None:
    """An audit row for a right password without the second factor: somebody may have got hold of it."""
    async with services.database.transaction() as session:
        detail: dict[str, object] = {"answer": "second_factor_required"}
        await record(session, actor, AuditAction.SESSION_CREATE, "user", actor.user_id, outcome="denied", detail=detail)


async def check_code(
    services: Services, request: Request, actor: Actor, code: str, *, action: AuditAction
) -> FactorKind:
    """Checks a code of the authenticator app, or a recovery code, and uses it up.

    Args:
        action: What it is asked for, for the audit log.

    Raises:
        Unauthenticated: It is neither, or was used before (code ``wrong_code``).
        TooManyRequests: Too many wrong ones.
    """
    attempt = await begin_attempt(services, request, "second_factor", actor.name, action=action)
    async with services.database.transaction() as session:
        kind = await _used_up(services, session, actor, code)
        if kind == "recovery_code":
            left = (await factors_of(session, actor.user_id)).recovery_codes
            await record(session, actor, AuditAction.RECOVERY_CODE_USE, "user", actor.user_id, detail={"left": left})
        if kind is not None:
            await attempt.succeeded(session)
    if kind is None:
        await attempt.failed(actor, action)
        raise Unauthenticated(
            "The code is not right, or was used before. An app's code is good once and for 30 seconds: wait "
            "for the next one, and see that the clock of the device is right.",
            code="wrong_code",
        )
    return kind


async def _used_up(services: Services, session: Session, actor: Actor, text: str) -> FactorKind | None:
    code = as_totp_code(text)
    if code is not None:
        factor = await totp_of(session, actor.user_id)
        if factor is None or factor.confirmed_at is None:
            return None
        secret = services.secret_box.open(factor.secret, totp_context(actor.user_id))
        step = matching_step(secret, code, now=datetime.now(UTC), last_step=factor.last_step)
        return "totp" if step is not None and await use_totp_step(session, actor.user_id, step) else None
    recovery = as_recovery_code(text)
    if recovery is None or not (await factors_of(session, actor.user_id)).needed:
        return None
    used = await use_recovery_code(session, actor.user_id, hash_recovery_code(actor.user_id, recovery))
    return "recovery_code" if used else None


async def check_passkey(
    services: Services,
    request: Request,
    actor: Actor,
    answer: str,
    *,
    purpose: Literal["second-factor", "prove"],
    bound_to: str,
    action: AuditAction,
) -> None:
    """Checks what a browser answered with a passkey of ``actor``'s.

    Args:
        bound_to: The visit or session that the challenge was made for.
        action: What it is asked for, for the audit log.

    Raises:
        Unauthenticated: It proves nothing (codes ``passkey_refused``, ``challenge_expired``).
        TooManyRequests: Too many failures.
    """
    site = needed_site(services.public_url)
    attempt = await begin_attempt(services, request, "second_factor", actor.name, action=action)
    try:
        async with services.database.transaction() as session:
            await proven_passkey(
                session,
                site,
                services.secret_key,
                answer,
                purpose=purpose,
                bound_to=bound_to,
                user_id=actor.user_id,
            )
            await attempt.succeeded(session)
    except Unauthenticated as refused:
        await attempt.failed(actor, action)
        await _note_refused(services, actor, action, refused)
        raise


async def passkey_sign_in(services: Services, request: Request, answer: str, *, bound_to: str) -> Actor:
    """Who signs in with a passkey alone: it has verified its user, so it is two factors in one.

    There is nothing to guess, so failures lead to no ban: they are in the audit log.

    Raises:
        Unauthenticated: It proves nothing (codes ``passkey_refused``, ``challenge_expired``).
    """
    site = needed_site(services.public_url)
    origin = origin_of(request)
    try:
        async with services.database.transaction() as session:
            known = await proven_passkey(
                session, site, services.secret_key, answer, purpose="sign-in", bound_to=bound_to
            )
    except Unauthenticated as refused:
        await _note_refused(services, NOBODY.model_copy(update={"origin": origin}), AuditAction.SESSION_CREATE, refused)
        raise
    return Actor.model_validate(
        {"user_id": known.user_id, "name": known.user_name, "kind": known.user_kind, "origin": origin}
    )


async def _note_refused(services: Services, actor: Actor, action: AuditAction, refused: Unauthenticated) -> None:
    detail: dict[str, object] = {"factor": "passkey", "answer": refused.specific_code, **refused.details}
    user_id = actor.user_id if actor.user_id.int else None
    async with services.database.transaction() as session:
        await record(session, actor, action, "passkey", user_id, outcome="failure", detail=detail)


async def check_proof(services: Services, request: Request, actor: Actor, shown: ShownProof) -> ProofKind:
    """Checks what a signed-in identity shows to prove itself again.

    With a second factor that is what counts; the password only counts without one.

    Raises:
        Unauthenticated: It is wrong.
        InvalidInput: Nothing was shown, or what does not count (code ``proof_missing``; ``details['how']`` says what
            does).
        TooManyRequests: Too many wrong ones.
    """
    action = AuditAction.SESSION_ELEVATE
    factors = await present_factors(services, actor.user_id)
    if factors.needed and shown.passkey:
        bound_to = session_bound(actor)
        await check_passkey(services, request, actor, shown.passkey, purpose="prove", bound_to=bound_to, action=action)
        return "passkey"
    if factors.needed and shown.code:
        return await check_code(services, request, actor, shown.code, action=action)
    if not factors.needed and factors.password and shown.password:
        await check_password(services, request, actor.name, shown.password, action=action)
        return "password"
    how = ways_to_prove(factors)
    told = " or ".join(way.replace("_", " ") for way in how) or "a new sign-in"
    raise InvalidInput(f"Nothing was proven. What counts for you: {told}.", code="proof_missing", details={"how": how})


def ways_to_prove(factors: Factors) -> list[ProofKind]:
    """What an identity can prove itself again with; ``provider``: by signing in there once more, in the browser."""
    if factors.needed:
        return list(factors.possible)
    ways: list[tuple[ProofKind, bool]] = [("password", factors.password), ("provider", factors.provider)]
    return [way for way, there in ways if there]


def session_bound(actor: Actor) -> str:
    """What challenges of a signed-in browser are bound to."""
    return f"session/{actor.session_id}"
