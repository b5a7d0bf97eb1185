"""Name and password to an actor. One answer and one time for every way of failing.

A sign-in is three transactions: the attempt is counted and its name looked up; then, with no connection held, the
password is checked; what is known of whoever proved to be right; the session. Fewer would count after the check, or
hold a connection while a hash is computed.
"""

import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from api.attempts import NAME_LENGTH_MAX, begin_attempt
from api.credentials import session_cookie_name
from api.csrf import csrf_token
from api.requests import origin_of
from api.services import Services
from database.engine import Session
from database.store.access.factors import factors_of
from database.store.access.passwords import renew_password_hash
from database.store.access.sessions import open_session, rotate_session
from domain.access.factors import Factors
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.access.tokens import hash_secret
from domain.actors import NOBODY, Actor
from domain.audit.actions import AuditAction
from domain.errors import TooManyRequests, Unauthenticated


@dataclass(frozen=True, slots=True)
class RightPassword:
    """Whose password was right.

    Attributes:
        factors: What else they can prove themselves with.
    """

    actor: Actor
    factors: Factors


async def check_password(
    services: Services, request: Request, name: str, password: str, *, action: AuditAction = AuditAction.SESSION_CREATE
) -> RightPassword:
    """Whose name and password these are.

    An unknown name costs the same work and gives the same answer as a wrong password, and so does a deactivated
    user. Every failure leaves an audit row; a name that is nobody's is not written into it, because people type
    passwords into that field. Too many failures lead to a ban (``api/attempts.py``).

    Args:
        action: What the password is asked for, for the audit log.

    Raises:
        Unauthenticated: They are not right (code ``wrong_password``).
        TooManyRequests: Too many failures (``Banned``), or too many passwords are being checked.
    """
    name = name[:NAME_LENGTH_MAX]
    attempt = await begin_attempt(services, request, "sign_in", name, action=action)
    user = attempt.user
    known = user.password_hash if user else None
    try:
        right = await services.passwords.matches(password[:PASSWORD_LENGTH_MAX], known)
    except TooManyRequests:
        await attempt.withdrawn()
        raise
    origin = origin_of(request)
    if user is None or known is None or not right or not user.is_active:
        tried = Actor(user_id=user.id, name=user.name) if user else NOBODY
        await attempt.failed(tried.model_copy(update={"origin": origin}), action)
        raise Unauthenticated("The name or the password is not right.", code="wrong_password")
    async with services.database.transaction() as session:
        await attempt.succeeded(session)
        factors = await factors_of(session, user.id)
    if services.passwords.outdated(known):
        password_hash = await services.passwords.hash(password)
        async with services.database.transaction() as session:
            await renew_password_hash(session, user.id, before=known, after=password_hash)
    actor = Actor.model_validate({"user_id": user.id, "name": user.name, "kind": user.kind, "origin": origin})
    return RightPassword(actor, factors)


async def start_session(
    services: Services, session: Session, actor: Actor, request: Request, *, factor: str = "password"
) -> tuple[Actor, str]:
    """Opens a browser session with a fresh secret; returns the actor in it and the cookie's value.

    The session that the browser had before ends: whoever knew its secret is not carried along into the new one.

    Args:
        session: The transaction; hand the cookie out after its commit.
    """
    secret = secrets.token_urlsafe(32)
    before = request.cookies.get(session_cookie_name(secure=services.secure_cookies))
    signed_in = await open_session(
        session,
        actor,
        hash_secret(secret),
        services.session_lifetime,
        idle=services.session_idle,
        factor=factor,
        replaces=hash_secret(before) if before else None,
    )
    return signed_in, secret


async def renew_session(services: Services, actor: Actor, *, factor: str) -> tuple[Actor, str]:
    """Gives the actor's session a new secret, because they proved themselves once more.

    Returns:
        The actor, proven now, and the cookie's new value; the old one is dead.

    Raises:
        Unauthenticated: The session ended meanwhile.
    """
    secret = secrets.token_urlsafe(32)
    async with services.database.transaction() as session:
        return await rotate_session(session, actor, hash_secret(secret), factor=factor), secret


def set_session_cookie(response: Response, services: Services, secret: str) -> None:
    """Hands the browser its session: out of reach of scripts, of other sites, and of plain HTTP outside loopback."""
    response.set_cookie(
        session_cookie_name(secure=services.secure_cookies),
        secret,
        max_age=int(services.session_lifetime.total_seconds()),
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def drop_session_cookie(response: Response, services: Services) -> None:
    """Takes it away."""
    response.delete_cookie(
        session_cookie_name(secure=services.secure_cookies),
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def csrf_token_of(services: Services, actor: Actor) -> str | None:
    """The CSRF token of the actor's browser session; ``None`` for an API token, which needs none."""
    # A token that was exchanged for a session names it too, and must not get what guards its cookie.
    if actor.token_id is not None or actor.session_id is None:
        return None
    return csrf_token(services.secret_key, actor.session_id)
