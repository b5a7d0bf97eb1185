"""Identities at other providers: signing in with them, linking and unlinking them, and the roles of their groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.admins import keep_an_admin
from database.store.access.notices import order_notice
from database.store.audit import record
from domain.access.external import ExternalProfile, ExternalSignInRefused, SignUpPolicy, login_names
from domain.access.notices import Notice
from domain.actors import Actor, Origin
from domain.audit.actions import AuditAction
from domain.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class ExternalIdentityView:
    """Who an identity of ours is at another provider."""

    id: UUID
    issuer: str
    subject: str
    created_at: datetime
    last_used_at: datetime | None


async def sign_in_external(
    session: AsyncSession, profile: ExternalProfile, policy: SignUpPolicy, origin: Origin
) -> Actor:
    """The identity that a provider vouches for; on the first login a new user, where the policy allows that.

    The roles of its groups are brought in line at each login. Nothing of an existing user is taken over: name and
    address are theirs.

    Raises:
        ExternalSignInRefused: Nobody is known by that name there and none may be made (codes ``not_known``,
            ``email_domain``, ``email_taken``), or the identity was deactivated (``deactivated``).
    """
    policy.check_domain(profile)
    # Two first logins at once of the same person wait for each other.
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:who, 0))"),
        {"who": f"{profile.issuer}\n{profile.subject}"},
    )
    found = await session.execute(
        text("""
            UPDATE external_identities e SET last_used_at = now() FROM users u
            WHERE u.id = e.user_id AND e.issuer = :issuer AND e.subject = :subject
            RETURNING e.id, u.id AS user_id, u.name, u.kind, u.is_active"""),
        {"issuer": profile.issuer, "subject": profile.subject},
    )
    row = found.one_or_none()
    if row is None:
        actor, external_id = await _sign_up(session, profile, policy, origin)
    else:
        if not row.is_active:
            raise ExternalSignInRefused(
                "This account was deactivated. Ask your administrator.", code="deactivated", details={"user": row.name}
            )
        actor = Actor(user_id=row.user_id, name=row.name, kind=row.kind, origin=origin)
        external_id = row.id
    await _bring_roles_in_line(session, actor, external_id, policy.roles(profile.groups))
    return actor


async def _sign_up(
    session: AsyncSession, profile: ExternalProfile, policy: SignUpPolicy, origin: Origin
) -> tuple[Actor, UUID]:
    if not policy.allow_sign_up:
        raise ExternalSignInRefused(
            "Nobody here is linked with that account, and new people are not let in this way. If you have an account "
            "here, sign in to it and link the other one on your account page; else ask your administrator.",
            code="not_known",
        )
    if profile.verified_email is not None:
        taken = await session.execute(
            text("SELECT 1 FROM users WHERE lower(email) = :email"), {"email": profile.verified_email}
        )
        if taken.first() is not None:
            raise ExternalSignInRefused(
                "There is an account here with your e-mail address already. Sign in to it as usual, and link the other "
                "account on your account page: that is how we know that both are yours.",
                code="email_taken",
            )
    for name in login_names(profile):
        made = await session.execute(
            text("""
                INSERT INTO users (name, display_name, email, email_verified_at)
                VALUES (:name, :display_name, CAST(:email AS varchar),
                    CASE WHEN CAST(:email AS varchar) IS NULL THEN NULL ELSE now() END)
                ON CONFLICT (name) DO NOTHING RETURNING id"""),
            {"name": name, "display_name": profile.display_name, "email": profile.verified_email},
        )
        user_id: UUID | None = made.scalar_one_or_none()
        if user_id is not None:
            break
    else:
        raise Conflict("No login name could be found for the new account; nothing was made. Ask your administrator.")
    actor = Actor(user_id=user_id, name=name, origin=origin)
    await record(
        session, actor, AuditAction.USER_CREATE, "user", user_id, detail={"name": name, "issuer": profile.issuer}
    )
    return actor, await _insert(session, actor, profile)


async def _insert(session: AsyncSession, actor: Actor, profile: ExternalProfile) -> UUID:
    made = await session.execute(
        text("""
            INSERT INTO external_identities (user_id, issuer, subject, last_used_at)
            VALUES (:user, :issuer, :subject, now()) RETURNING id"""),
        {"user": actor.user_id, "issuer": profile.issuer, "subject": profile.subject},
    )
    external_id: UUID = made.scalar_one()
    await record(
        session, actor, AuditAction.EXTERNAL_IDENTITY_LINK, "user", actor.user_id, detail={"issuer": profile.issuer}
    )
    return external_id


async def _bring_roles_in_line(session: AsyncSession, actor: Actor, external_id: UUID, wanted: frozenset[str]) -> None:
    """Gives and takes the roles that the groups of this provider lead to; what a person gave is never touched.

    A role of the mapping that does not exist gives nothing. The last administrator keeps the role, and the log says so.
    """
    values = {"user": actor.user_id, "external": external_id, "roles": sorted(wanted)}
    given = await session.execute(
        text("""
            INSERT INTO user_roles (user_id, role_id, external_identity_id)
            SELECT :user, id, :external FROM roles WHERE name = ANY(CAST(:roles AS text[]))
            ON CONFLICT DO NOTHING RETURNING (SELECT r.name FROM roles r WHERE r.id = role_id)"""),
        values,
    )
    for name in sorted(given.scalars()):
        await record(session, actor, AuditAction.ROLE_BIND, "user", actor.user_id, detail={"role": name, "by": "group"})
    try:
        async with session.begin_nested():
            taken = await session.execute(
                text("""
                    DELETE FROM user_roles ur USING roles r
                    WHERE r.id = ur.role_id AND ur.external_identity_id = :external
                        AND NOT r.name = ANY(CAST(:roles AS text[])) RETURNING r.name"""),
                values,
            )
            names = sorted(taken.scalars())
            if names:
                await keep_an_admin(session)
    except Conflict as last_admin:
        detail: dict[str, object] = {"by": "group", "answer": last_admin.specific_code}
        await record(session, actor, AuditAction.ROLE_UNBIND, "user", actor.user_id, outcome="failure", detail=detail)
        return
    for name in names:
        await record(
            session, actor, AuditAction.ROLE_UNBIND, "user", actor.user_id, detail={"role": name, "by": "group"}
        )


async def link_external(session: AsyncSession, actor: Actor, profile: ExternalProfile, policy: SignUpPolicy) -> None:
    """Links an account at another provider to the actor, who proved lately who they are, and to nobody else.

    Raises:
        Conflict: It is linked to somebody already (code ``already_linked``).
    """
    found = await session.execute(
        text("SELECT user_id FROM external_identities WHERE issuer = :issuer AND subject = :subject"),
        {"issuer": profile.issuer, "subject": profile.subject},
    )
    owner: UUID | None = found.scalar_one_or_none()
    if owner is not None:
        whose = "your account" if owner == actor.user_id else "another account here"
        raise Conflict(
            f"That account is linked to {whose} already. Nothing was changed.",
            code="already_linked",
        )
    external_id = await _insert(session, actor, profile)
    await order_notice(session, actor, actor.user_id, Notice.IDENTITY_LINKED, about=profile.issuer)
    await _bring_roles_in_line(session, actor, external_id, policy.roles(profile.groups))


async def link_by_name(session: AsyncSession, actor: Actor, user_id: UUID, issuer: str, subject: str) -> UUID:
    """Lets an administrator say who an agent, a service or a person is at an issuer.

    Raises:
        Conflict: That name there is linked already (code ``already_linked``).
    """
    made = await session.execute(
        text("""
            INSERT INTO external_identities (user_id, issuer, subject) VALUES (:user, :issuer, :subject)
            ON CONFLICT (issuer, subject) DO NOTHING RETURNING id"""),
        {"user": user_id, "issuer": issuer, "subject": subject},
    )
    external_id: UUID | None = made.scalar_one_or_none()
    if external_id is None:
        raise Conflict("That subject of that issuer is linked to an account already.", code="already_linked")
    detail: dict[str, object] = {"issuer": issuer, "subject": subject}
    await record(session, actor, AuditAction.EXTERNAL_IDENTITY_LINK, "user", user_id, detail=detail)
    await order_notice(session, actor, user_id, Notice.IDENTITY_LINKED, about=issuer)
    return external_id


async def external_identities_of(session: AsyncSession, user_id: UUID) -> list[ExternalIdentityView]:
    """Who an identity is elsewhere, oldest link first."""
    rows = await session.execute(
        text("""
            SELECT id, issuer, subject, created_at, last_used_at FROM external_identities
            WHERE user_id = :user ORDER BY created_at, id"""),
        {"user": user_id},
    )
    return [ExternalIdentityView(**row) for row in rows.mappings()]


async def is_linked(session: AsyncSession, user_id: UUID, profile: ExternalProfile) -> bool:
    """Whether this account elsewhere is that identity of ours."""
    found = await session.execute(
        text("SELECT 1 FROM external_identities WHERE user_id = :user AND issuer = :issuer AND subject = :subject"),
        {"user": user_id, "issuer": profile.issuer, "subject": profile.subject},
    )
    return found.first() is not None


async def unlink_external(
    session: AsyncSession, actor: Actor, user_id: UUID, external_id: UUID, *, usable_issuers: Sequence[str]
) -> None:
    """Takes a link away, with the roles that groups led to through it.

    Args:
        user_id: Whose link it is.
        usable_issuers: Those that people may sign in with; a link to another one is no way to sign in.

    Raises:
        NotFound: They have no such link.
        Conflict: A person could not sign in any more (code ``last_way_to_sign_in``), or nobody would be left who
            administers the platform (``last_admin``).
    """
    # Two at once must not each leave the other's as the last one.
    await session.execute(text("SELECT 1 FROM users WHERE id = :user FOR UPDATE"), {"user": user_id})
    gone = await session.execute(
        text("DELETE FROM external_identities WHERE id = :id AND user_id = :user RETURNING issuer"),
        {"id": external_id, "user": user_id},
    )
    issuer: str | None = gone.scalar_one_or_none()
    if issuer is None:
        raise NotFound("There is no such link, or it was taken away before.")
    left = await session.execute(
        text("""
            SELECT u.kind <> 'user' OR u.password_hash IS NOT NULL
                OR EXISTS (SELECT FROM passkeys k WHERE k.user_id = u.id)
                OR EXISTS (
                    SELECT FROM external_identities x
                    WHERE x.user_id = u.id AND x.issuer = ANY(CAST(:issuers AS text[]))
                )
            FROM users u WHERE u.id = :user"""),
        {"user": user_id, "issuers": list(usable_issuers)},
    )
    if not left.scalar_one():
        raise Conflict(
            "This is the only way left to sign in, so the link stays. Set a password or add a passkey first.",
            code="last_way_to_sign_in",
        )
    await keep_an_admin(session)
    await record(session, actor, AuditAction.EXTERNAL_IDENTITY_UNLINK, "user", user_id, detail={"issuer": issuer})
    await order_notice(session, actor, user_id, Notice.IDENTITY_UNLINKED, about=issuer)
