"""Second factors: authenticator apps, recovery codes, passkeys, and proofs that are good once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.credentials import Passkey, TotpFactor
from database.store.access.notices import order_notice
from database.store.audit import record
from domain.access.factors import PASSKEYS_MAX, Factors
from domain.access.notices import Notice
from domain.actors import Actor, Origin
from domain.audit.actions import AuditAction
from domain.errors import Conflict, NotFound

_FACTORS = text("""
    SELECT u.password_hash IS NOT NULL AS password,
        EXISTS (SELECT 1 FROM external_identities x WHERE x.user_id = u.id) AS provider,
        EXISTS (SELECT 1 FROM totp_factors t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL) AS totp,
        (SELECT count(*) FROM passkeys p WHERE p.user_id = u.id) AS passkeys,
        (SELECT count(*) FROM recovery_codes r WHERE r.user_id = u.id AND r.used_at IS NULL) AS recovery_codes
    FROM users u WHERE u.id = :user""")


@dataclass(frozen=True, slots=True)
class KnownPasskey:
    """A passkey with whom it signs in.

    Attributes:
        public_key: COSE, as WebAuthn gives it.
        is_active: Whether its user may sign in at all.
    """

    id: UUID
    name: str
    credential_id: bytes
    public_key: bytes
    sign_count: int
    user_id: UUID
    user_name: str
    user_kind: str
    is_active: bool


async def factors_of(session: AsyncSession, user_id: UUID) -> Factors:
    """What an identity can prove itself with; nothing at all for one that does not exist."""
    row = (await session.execute(_FACTORS, {"user": user_id})).mappings().one_or_none()
    return Factors(password=False) if row is None else Factors(**row)


async def half_signed_in(session: AsyncSession, user_id: UUID, origin: Origin) -> Actor | None:
    """The identity whose password was right a moment ago; ``None`` if it may not sign in any more."""
    found = await session.execute(
        text("SELECT name, kind FROM users WHERE id = :user AND is_active"), {"user": user_id}
    )
    row = found.mappings().one_or_none()
    return None if row is None else Actor.model_validate({"user_id": user_id, "origin": origin, **row})


async def begin_totp(session: AsyncSession, actor: Actor, sealed_secret: bytes) -> None:
    """Keeps the secret of an authenticator app that is to be confirmed; takes the place of one that never was.

    Raises:
        Conflict: There is a confirmed one (code ``totp_exists``).
    """
    kept = await session.execute(
        text("""
            INSERT INTO totp_factors (user_id, secret) VALUES (:user, :secret)
            ON CONFLICT (user_id) DO UPDATE SET secret = EXCLUDED.secret, last_step = 0, created_at = now()
            WHERE totp_factors.confirmed_at IS NULL RETURNING user_id"""),
        {"user": actor.user_id, "secret": sealed_secret},
    )
    if kept.first() is None:
        raise Conflict(
            "You have an authenticator app already; it stays as it is. Remove it first to set up another.",
            code="totp_exists",
        )
    await record(session, actor, AuditAction.TOTP_BEGIN, "user", actor.user_id)


async def totp_of(session: AsyncSession, user_id: UUID) -> TotpFactor | None:
    """The authenticator app of an identity, confirmed or not; locked until the transaction ends."""
    found = await session.execute(select(TotpFactor).where(TotpFactor.user_id == user_id).with_for_update())  # type: ignore[arg-type]  # SQLModel types columns as values
    return found.scalar_one_or_none()


async def confirm_totp(session: AsyncSession, actor: Actor, step: int) -> None:
    """From now on the authenticator app is asked for; the first code's step is used up.

    Raises:
        Conflict: There is none that waits to be confirmed (code ``no_totp``).
    """
    done = await session.execute(
        text("""
            UPDATE totp_factors SET confirmed_at = now(), last_step = :step
            WHERE user_id = :user AND confirmed_at IS NULL RETURNING user_id"""),
        {"user": actor.user_id, "step": step},
    )
    if done.first() is None:
        raise Conflict("There is no authenticator app to confirm. Begin anew.", code="no_totp")
    await record(session, actor, AuditAction.TOTP_CREATE, "user", actor.user_id)
    await order_notice(session, actor, actor.user_id, Notice.TOTP_ADDED)


async def use_totp_step(session: AsyncSession, user_id: UUID, step: int) -> bool:
    """Uses up a step and all before it; ``False`` if that was done already."""
    done = await session.execute(
        text("""
            UPDATE totp_factors SET last_step = :step
            WHERE user_id = :user AND confirmed_at IS NOT NULL AND last_step < :step RETURNING user_id"""),
        {"user": user_id, "step": step},
    )
    return done.first() is not None


async def remove_totp(session: AsyncSession, actor: Actor) -> bool:
    """Takes the actor's authenticator app away; ``False`` if there is none."""
    gone = await session.execute(
        text("DELETE FROM totp_factors WHERE user_id = :user RETURNING confirmed_at"), {"user": actor.user_id}
    )
    row = gone.one_or_none()
    if row is None:
        return False
    await record(session, actor, AuditAction.TOTP_DELETE, "user", actor.user_id)
    if row.confirmed_at is not None:
        await order_notice(session, actor, actor.user_id, Notice.TOTP_REMOVED)
    await _drop_orphaned_codes(session, actor.user_id)
    return True


async def replace_recovery_codes(session: AsyncSession, actor: Actor, code_hashes: Sequence[str]) -> None:
    """Gives the actor new recovery codes; none of the old ones is good any more."""
    replaced = await session.execute(
        text("DELETE FROM recovery_codes WHERE user_id = :user RETURNING 1"), {"user": actor.user_id}
    )
    if replaced.all():
        # The first ones come with the factor that they stand in for, and so does the notice.
        await order_notice(session, actor, actor.user_id, Notice.RECOVERY_CODES_REPLACED)
    await session.execute(
        text("INSERT INTO recovery_codes (user_id, code_hash) SELECT :user, unnest(CAST(:hashes AS text[]))"),
        {"user": actor.user_id, "hashes": list(code_hashes)},
    )
    await record(
        session, actor, AuditAction.RECOVERY_CODES_CREATE, "user", actor.user_id, detail={"number": len(code_hashes)}
    )


async def use_recovery_code(session: AsyncSession, user_id: UUID, code_hash: str) -> bool:
    """Uses a recovery code up; ``False`` if it is not one of theirs, or was used before."""
    done = await session.execute(
        text("""
            UPDATE recovery_codes SET used_at = now()
            WHERE user_id = :user AND code_hash = :hash AND used_at IS NULL RETURNING id"""),
        {"user": user_id, "hash": code_hash},
    )
    return done.first() is not None


async def add_passkey(session: AsyncSession, actor: Actor, passkey: Passkey) -> Passkey:
    """Keeps a passkey of the actor's.

    Raises:
        Conflict: It is registered already, here or with somebody else (code ``passkey_exists``), or there are too
            many (code ``too_many_passkeys``).
    """
    # Two at once count one after the other.
    await session.execute(text("SELECT 1 FROM users WHERE id = :user FOR UPDATE"), {"user": actor.user_id})
    if len(await passkeys_of(session, actor.user_id)) >= PASSKEYS_MAX:
        raise Conflict(
            f"You have {PASSKEYS_MAX} passkeys, and there can be no more. Remove one that you do not use.",
            code="too_many_passkeys",
        )
    taken = await session.execute(
        text("SELECT 1 FROM passkeys WHERE credential_id = :id"), {"id": passkey.credential_id}
    )
    if taken.first() is not None:
        raise Conflict("This passkey is registered already; nothing was changed.", code="passkey_exists")
    session.add(passkey)
    await session.flush()
    await session.refresh(passkey)
    await record(session, actor, AuditAction.PASSKEY_CREATE, "passkey", passkey.id, detail={"name": passkey.name})
    await order_notice(session, actor, actor.user_id, Notice.PASSKEY_ADDED, about=passkey.name)
    return passkey


async def passkeys_of(session: AsyncSession, user_id: UUID) -> list[Passkey]:
    """The passkeys of an identity, oldest first."""
    statement = select(Passkey).from_statement(
        text("SELECT * FROM passkeys WHERE user_id = :user ORDER BY created_at, id")
    )
    return list((await session.execute(statement, {"user": user_id})).scalars())


async def passkey_by_credential(session: AsyncSession, credential_id: bytes) -> KnownPasskey | None:
    """The passkey of that credential id; locked until the transaction ends."""
    found = await session.execute(
        text("""
            SELECT p.id, p.name, p.credential_id, p.public_key, p.sign_count, p.user_id,
                u.name AS user_name, u.kind AS user_kind, u.is_active
            FROM passkeys p JOIN users u ON u.id = p.user_id WHERE p.credential_id = :id FOR UPDATE OF p"""),
        {"id": credential_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else KnownPasskey(**row)


async def note_passkey_use(session: AsyncSession, passkey_id: UUID, sign_count: int) -> None:
    """Moves the signature counter and the last use on; the row was locked by ``passkey_by_credential``."""
    await session.execute(
        text("UPDATE passkeys SET sign_count = :count, last_used_at = now() WHERE id = :id"),
        {"count": sign_count, "id": passkey_id},
    )


async def rename_passkey(session: AsyncSession, actor: Actor, passkey_id: UUID, name: str) -> Passkey:
    """Calls a passkey of the actor's something else.

    Raises:
        NotFound: They have none of that id.
    """
    passkey = await _own_passkey(session, actor, passkey_id)
    before, passkey.name = passkey.name, name
    await record(
        session, actor, AuditAction.PASSKEY_UPDATE, "passkey", passkey_id, detail={"before": before, "after": name}
    )
    return passkey


async def remove_passkey(session: AsyncSession, actor: Actor, passkey_id: UUID) -> None:
    """Takes a passkey of the actor's away.

    Raises:
        NotFound: They have none of that id.
        Conflict: They could not sign in any more (code ``only_way_in``).
    """
    # Two at once count one after the other.
    await session.execute(text("SELECT 1 FROM users WHERE id = :user FOR UPDATE"), {"user": actor.user_id})
    passkey = await _own_passkey(session, actor, passkey_id)
    if (await factors_of(session, actor.user_id)).only_way_in:
        raise Conflict(
            "This passkey is the only way in that you have. It stays: set a password or add another passkey first.",
            code="only_way_in",
        )
    await session.delete(passkey)
    await record(session, actor, AuditAction.PASSKEY_DELETE, "passkey", passkey_id, detail={"name": passkey.name})
    await order_notice(session, actor, actor.user_id, Notice.PASSKEY_REMOVED, about=passkey.name)
    await _drop_orphaned_codes(session, actor.user_id)


async def _own_passkey(session: AsyncSession, actor: Actor, passkey_id: UUID) -> Passkey:
    passkey = await session.get(Passkey, passkey_id, with_for_update=True)
    if passkey is None or passkey.user_id != actor.user_id:
        raise NotFound("You have no such passkey.")
    return passkey


async def _drop_orphaned_codes(session: AsyncSession, user_id: UUID) -> None:
    """Recovery codes stand in for a factor: with the last one they go."""
    if not (await factors_of(session, user_id)).needed:
        await session.execute(text("DELETE FROM recovery_codes WHERE user_id = :user"), {"user": user_id})


async def reset_factors(session: AsyncSession, actor: Actor, user_id: UUID) -> Factors:
    """Takes all second factors of an identity away, because they are lost; returns what there was.

    Whether the actor may is decided before.
    """
    before = await factors_of(session, user_id)
    for table in ("totp_factors", "recovery_codes", "passkeys"):
        await session.execute(text(f"DELETE FROM {table} WHERE user_id = :user"), {"user": user_id})  # noqa: S608  # constants
    detail: dict[str, object] = {
        "totp": before.totp, "passkeys": before.passkeys, "recovery_codes": before.recovery_codes
    }  # fmt: skip
    await record(session, actor, AuditAction.FACTORS_RESET, "user", user_id, detail=detail)
    if before.needed:
        await order_notice(session, actor, user_id, Notice.FACTORS_RESET)
    return before


async def spend(session: AsyncSession, proof_hash: str, expires_at: datetime) -> bool:
    """Uses up a proof that is good once; ``False`` if it was used before."""
    done = await session.execute(
        text("""
            INSERT INTO spent_proofs (proof_hash, expires_at) VALUES (:hash, :expires_at)
            ON CONFLICT DO NOTHING RETURNING proof_hash"""),
        {"hash": proof_hash, "expires_at": expires_at},
    )
    return done.first() is not None
