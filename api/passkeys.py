"""Passkeys (WebAuthn Level 3): what a browser is asked, and whether its answer is good.

The cryptography is the library's (``webauthn``). Ours is what the specification leaves to the relying party: which
challenge was asked of whom, that it is answered once, whose the passkey is, and that its counter goes forward.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from starlette.requests import HTTPConnection
from webauthn import generate_authentication_options, generate_registration_options, options_to_json
from webauthn import verify_authentication_response as verify_authentication
from webauthn import verify_registration_response as verify_registration
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_attestation_object,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from api.challenges import LIFETIME_SECONDS, Purpose, challenge_end, new_challenge
from database.engine import Session
from database.models.credentials import Passkey
from database.store.access.factors import KnownPasskey, note_passkey_use, passkey_by_credential, spend
from domain.access.factors import counts_forward
from domain.actors import Actor
from domain.errors import InvalidInput, Unauthenticated

RP_NAME: Final = "Perdure"
ANSWER_LENGTH_MAX: Final = 20_000
"""Characters of a browser's answer; real ones have 500 to 2,000."""

_REASON_LENGTH_MAX = 200
_HTTP_PORTS = {"http": 80, "https": 443}
# We ask for no attestation, because we would trust no maker more than another. A browser then sends none, or one that
# the key made for itself; every other format would only be more code that strangers' bytes reach.
_ATTESTATIONS = frozenset({"none", "packed"})
# What the library raises for bytes that are no answer at all.
_MALFORMED = (
    WebAuthnException, UnsupportedAlgorithm, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PasskeySite:
    """The address that passkeys are made for.

    Attributes:
        rp_id: The host's name.
        origin: Scheme, host and port, as browsers write them.
    """

    rp_id: str
    origin: str

    def is_address_of(self, connection: HTTPConnection) -> bool:
        """Whether the browser came by this address; it offers the passkeys of no other."""
        return connection.headers.get("host") == urlsplit(self.origin).netloc


@lru_cache(maxsize=8)
def passkey_site(public_url: str) -> PasskeySite | None:
    """Where passkeys work; ``None`` if they cannot.

    Browsers want TLS and a name; the loopback interface is ``localhost`` to them, and needs no TLS.
    """
    url = urlsplit(public_url)
    host = url.hostname or ""
    with suppress(ValueError):
        host = "localhost" if ip_address(host).is_loopback else ""
    if not host or (url.scheme != "https" and host != "localhost"):
        return None
    port = "" if url.port in (None, _HTTP_PORTS.get(url.scheme)) else f":{url.port}"
    return PasskeySite(host, f"{url.scheme}://{host}{port}")


def needed_site(public_url: str) -> PasskeySite:
    """``passkey_site``.

    Raises:
        InvalidInput: There is none (code ``no_passkeys``).
    """
    site = passkey_site(public_url)
    if site is None:
        raise InvalidInput(
            f"Browsers make no passkeys for {public_url}: they need https and a name. Set api.public_url to one.",
            code="no_passkeys",
        )
    return site


def registration_options(
    site: PasskeySite, secret_key: bytes, actor: Actor, present: list[Passkey], bound_to: str
) -> str:
    """What a browser needs to make a passkey, as JSON; those that are ``present`` are not made twice."""
    options = generate_registration_options(
        rp_id=site.rp_id,
        rp_name=RP_NAME,
        user_name=actor.name,
        user_id=actor.user_id.bytes,
        challenge=new_challenge(secret_key, "register", bound_to),
        timeout=LIFETIME_SECONDS * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
        exclude_credentials=[_descriptor(passkey) for passkey in present],
    )
    return options_to_json(options)


def authentication_options(
    site: PasskeySite, secret_key: bytes, purpose: Purpose, bound_to: str, allowed: list[Passkey] | None = None
) -> str:
    """What a browser needs to answer with a passkey, as JSON.

    Args:
        allowed: Which ones; ``None`` for any that the browser finds for this site. Then the passkey is the only
            proof, so its user must be verified (by PIN, finger, face).
    """
    verification = UserVerificationRequirement.REQUIRED if allowed is None else UserVerificationRequirement.PREFERRED
    options = generate_authentication_options(
        rp_id=site.rp_id,
        challenge=new_challenge(secret_key, purpose, bound_to),
        timeout=LIFETIME_SECONDS * 1000,
        allow_credentials=[_descriptor(passkey) for passkey in allowed or ()],
        user_verification=verification,
    )
    return options_to_json(options)


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    known = {one.value for one in AuthenticatorTransport}
    transports = [AuthenticatorTransport(text) for text in passkey.transports if text in known]
    return PublicKeyCredentialDescriptor(id=passkey.credential_id, transports=transports)


async def new_passkey(
    session: Session, site: PasskeySite, secret_key: bytes, answer: str, *, actor: Actor, name: str, bound_to: str
) -> Passkey:
    """The passkey that a browser made, checked and not yet kept.

    Raises:
        InvalidInput: The answer is not good (code ``passkey_refused``).
        Unauthenticated: It answers another challenge (code ``challenge_expired``).
    """
    try:
        credential = parse_registration_credential_json(_bounded(answer))
        attestation = parse_attestation_object(credential.response.attestation_object)
        if attestation.fmt not in _ATTESTATIONS:
            raise ValueError(f"the attestation {attestation.fmt!r} was not asked for")
        challenge = await _spend_challenge(
            session, secret_key, "register", bound_to, credential.response.client_data_json
        )
        made = verify_registration(
            credential=credential, expected_challenge=challenge, expected_rp_id=site.rp_id, expected_origin=site.origin
        )
        # The library looks at the key only when it is used: one that is no key must not be kept.
        decoded_public_key_to_cryptography(decode_credential_public_key(made.credential_public_key))
    except _MALFORMED as error:
        reason = _reason(error)
        raise InvalidInput(f"The passkey was not registered: {reason}.", code="passkey_refused") from error
    return Passkey(
        user_id=actor.user_id,
        name=name,
        credential_id=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        transports=[one.value for one in credential.response.transports or ()],
    )


async def proven_passkey(
    session: Session,
    site: PasskeySite,
    secret_key: bytes,
    answer: str,
    *,
    purpose: Literal["sign-in", "second-factor", "prove"],
    bound_to: str,
    user_id: UUID | None = None,
) -> KnownPasskey:
    """The passkey that a browser answered with; its use is noted.

    Args:
        user_id: Whose it must be; ``None`` for anybody's, and then it must have verified its user.

    Raises:
        Unauthenticated: The answer is not good (codes ``passkey_refused``, ``challenge_expired``).
    """
    try:
        credential = parse_authentication_credential_json(_bounded(answer))
        challenge = await _spend_challenge(session, secret_key, purpose, bound_to, credential.response.client_data_json)
        known = await passkey_by_credential(session, credential.raw_id)
        if known is None or not known.is_active or (user_id is not None and known.user_id != user_id):
            raise ValueError("it is not registered here")
        handle = credential.response.user_handle
        if handle is not None and handle != known.user_id.bytes:
            raise ValueError("it was made for somebody else")
        proven = verify_authentication(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=known.public_key,
            # Judged below, where the signature is known to be good.
            credential_current_sign_count=-1,
            require_user_verification=user_id is None,
        )
    except _MALFORMED as error:
        raise refused_passkey(_reason(error)) from error
    if not counts_forward(known.sign_count, proven.new_sign_count):
        raise refused_passkey(
            f"its counter went from {known.sign_count} to {proven.new_sign_count}, so there may be a copy of it. "
            "Remove it, and register a new one"
        )
    await note_passkey_use(session, known.id, proven.new_sign_count)
    return known


def refused_passkey(reason: str) -> Unauthenticated:
    """The one answer to a passkey that proves nothing."""
    return Unauthenticated(f"The passkey was refused: {reason}.", code="passkey_refused", details={"reason": reason})


def _bounded(answer: str) -> str:
    if len(answer) > ANSWER_LENGTH_MAX:
        raise ValueError(f"the browser's answer is longer than {ANSWER_LENGTH_MAX} characters")
    return answer


async def _spend_challenge(
    session: Session, secret_key: bytes, purpose: Purpose, bound_to: str, client_data: bytes
) -> bytes:
    """The challenge that was answered, which is now used up."""
    data = parse_client_data_json(client_data)
    if data.cross_origin:
        raise ValueError("it was asked by another site's page")
    end = challenge_end(secret_key, purpose, bound_to, data.challenge)
    if not await spend(session, hashlib.sha256(data.challenge).hexdigest(), end):
        raise ValueError("this answer was given before")
    return data.challenge


def _reason(error: BaseException) -> str:
    """What the library says, short and without a full stop; for what is no answer at all, that."""
    if isinstance(error, WebAuthnException | ValueError) and str(error).isprintable():
        return str(error)[:_REASON_LENGTH_MAX].rstrip(".")
    return "the browser's answer is malformed"
