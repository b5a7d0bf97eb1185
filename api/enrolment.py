"""Second factors set up: what the JSON routes and the pages both do."""

import io
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import segno

from api.mails import mailing
from api.passkeys import PasskeySite, needed_site, new_passkey, registration_options
from api.passkeys import passkey_site as site_of
from api.second_factor import session_bound, totp_context
from api.services import Services
from database.engine import Session
from database.models.credentials import Passkey, TotpFactor
from database.store.access.factors import (
    add_passkey,
    begin_totp,
    confirm_totp,
    factors_of,
    passkeys_of,
    replace_recovery_codes,
    totp_of,
)
from domain.access.factors import (
    RECOVERY_CODE_SIZE_BYTES,
    RECOVERY_CODES,
    SECRET_SIZE_BYTES,
    Factors,
    as_recovery_code,
    as_totp_code,
    check_passkey_name,
    format_recovery_code,
    hash_recovery_code,
    matching_step,
    totp_secret_text,
    totp_uri,
)
from domain.actors import Actor
from domain.errors import Conflict, InvalidInput

ISSUER = "Perdure"


@dataclass(frozen=True, slots=True)
class NewTotp:
    """An authenticator app's secret, shown this once.

    Attributes:
        secret: Base32, to type it.
        uri: ``otpauth://``, for a device that opens it.
        qr_svg: The same as a QR code.
    """

    secret: str
    uri: str
    qr_svg: str


@dataclass(frozen=True, slots=True)
class FactorsOverview:
    """All second factors of an identity.

    Attributes:
        totp: The confirmed authenticator app, if there is one.
    """

    factors: Factors
    totp: TotpFactor | None
    passkeys: tuple[Passkey, ...]


async def overview(services: Services, actor: Actor) -> FactorsOverview:
    """What the actor has set up."""
    async with services.database.transaction() as session:
        factors = await factors_of(session, actor.user_id)
        totp = await totp_of(session, actor.user_id) if factors.totp else None
        return FactorsOverview(factors, totp, tuple(await passkeys_of(session, actor.user_id)))


async def set_up_totp(services: Services, actor: Actor) -> NewTotp:
    """Makes the secret of an authenticator app, which counts once ``confirm`` has seen a code of it.

    Raises:
        Conflict: There is a confirmed one.
    """
    secret = secrets.token_bytes(SECRET_SIZE_BYTES)
    async with services.database.transaction() as session:
        await begin_totp(session, actor, services.secret_box.seal(secret, totp_context(actor.user_id)))
    uri = totp_uri(secret, account=actor.name, issuer=ISSUER)
    return NewTotp(totp_secret_text(secret), uri, qr_svg(uri))


def qr_svg(text: str) -> str:
    """A QR code as inline SVG: black on white in the dark too, because many cameras read no other."""
    written = io.BytesIO()
    segno.make(text, error="m").save(
        written, kind="svg", xmldecl=False, svgns=False, scale=4, border=4, light="#fff", omitsize=True
    )
    return written.getvalue().decode()


async def confirm(services: Services, actor: Actor, text: str) -> list[str] | None:
    """The first code of the authenticator app: from now on it is asked for.

    Returns:
        Recovery codes, where there were none; ``None`` where there are.

    Raises:
        InvalidInput: The code is wrong; the set-up still waits (code ``wrong_code``).
        Conflict: Nothing waits to be confirmed.
    """
    code = as_totp_code(text)
    async with mailing(services) as session:
        factor = await totp_of(session, actor.user_id)
        if factor is None or factor.confirmed_at is not None:
            raise Conflict("There is no authenticator app to confirm. Begin anew.", code="no_totp")
        secret = services.secret_box.open(factor.secret, totp_context(actor.user_id))
        step = None if code is None else matching_step(secret, code, now=datetime.now(UTC), last_step=0)
        if step is None:
            raise InvalidInput(
                "The code is not the one of this moment. Type the six digits that the app shows now, and see that the "
                "clock of the device is right. The app is not set up yet.",
                code="wrong_code",
            )
        await confirm_totp(session, actor, step)
        return await _first_codes(session, actor)


async def new_recovery_codes(services: Services, actor: Actor) -> list[str]:
    """Ten new recovery codes; those of before are dead.

    Raises:
        Conflict: There is no second factor that they could stand in for (code ``no_second_factor``).
    """
    async with mailing(services) as session:
        if not (await factors_of(session, actor.user_id)).needed:
            raise Conflict(
                "Recovery codes stand in for a second factor, and you have none. Set up an authenticator app or a "
                "passkey first.",
                code="no_second_factor",
            )
        return await _make_codes(session, actor)


async def _first_codes(session: Session, actor: Actor) -> list[str] | None:
    present = await factors_of(session, actor.user_id)
    return None if present.recovery_codes else await _make_codes(session, actor)


async def _make_codes(session: Session, actor: Actor) -> list[str]:
    codes = [format_recovery_code(secrets.token_bytes(RECOVERY_CODE_SIZE_BYTES)) for _ in range(RECOVERY_CODES)]
    hashes = [hash_recovery_code(actor.user_id, as_recovery_code(code) or "") for code in codes]
    await replace_recovery_codes(session, actor, hashes)
    return codes


def passkey_site(services: Services) -> PasskeySite | None:
    """Where passkeys of this installation work."""
    return site_of(services.public_url)


def passkey_options(services: Services, actor: Actor, present: tuple[Passkey, ...]) -> str:
    """What a browser needs to make another passkey for the actor, as JSON.

    Raises:
        InvalidInput: Passkeys do not work at ``api.public_url``.
    """
    site = needed_site(services.public_url)
    return registration_options(site, services.secret_key, actor, list(present), session_bound(actor))


async def register_passkey(
    services: Services, actor: Actor, name: str, answer: str
) -> tuple[Passkey, list[str] | None]:
    """Keeps the passkey that a browser made; see ``confirm`` for the recovery codes.

    Raises:
        InvalidInput: The name or the answer is not good.
        Unauthenticated: It answers another challenge.
        Conflict: It is registered already, or there are too many.
    """
    site = needed_site(services.public_url)
    name = check_passkey_name(name)
    async with mailing(services) as session:
        made = await new_passkey(
            session, site, services.secret_key, answer, actor=actor, name=name, bound_to=session_bound(actor)
        )
        passkey = await add_passkey(session, actor, made)
        return passkey, await _first_codes(session, actor)
