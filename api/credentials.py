"""What a request carries to prove who sends it: Bearer token, session cookie, or HTTP Basic."""

import base64
import binascii

from starlette.requests import HTTPConnection

from adapters.identity_providers.issuers import TokenIssuers
from database.store.access.requests import Credential, external_credential
from domain.access.claims import UntrustedToken
from domain.access.permissions import Permission
from domain.access.tokens import PREFIX, hash_secret, is_token
from domain.errors import Unauthenticated


def session_cookie_name(*, secure: bool) -> str:
    """The cookie of a browser session; ``__Host-`` makes browsers refuse one set by a neighbouring host."""
    return "__Host-perdure_session" if secure else "perdure_session"


def token_credential(token: str) -> Credential:
    """The credential of an API token.

    Raises:
        Unauthenticated: It is no token of ours; refused by its checksum, without a query.
    """
    if not is_token(token):
        raise Unauthenticated(
            "This is not an API token of Perdure: one begins with prd_ and ends in a checksum. Was it cut off?",
            code="malformed_token",
        )
    return Credential("token", hash_secret(token))


async def bearer_credential(token: str, issuers: TokenIssuers) -> Credential:
    """The credential of an API token of ours, or of a signed token (JWT) of an issuer that the operator trusts.

    Raises:
        Unauthenticated: It is neither; says why (codes ``malformed_token``, ``untrusted_token``).
        Unavailable: The issuer's keys are needed and were never read.
    """
    if token.startswith(PREFIX) or not issuers.any:
        return token_credential(token)
    try:
        verified = await issuers.verify(token)
    except UntrustedToken as untrusted:
        raise Unauthenticated(
            f"This token is not accepted: {untrusted.reason}. Send an API token (prd_...), or a token of an issuer "
            "that this platform trusts.",
            code="untrusted_token",
        ) from untrusted
    scopes = verified.scopes & frozenset(Permission)
    return external_credential(verified.issuer, verified.subject, verified.actors, scopes, verified.expires_at)


async def credential_of(connection: HTTPConnection, *, secure: bool, issuers: TokenIssuers) -> Credential:
    """The credential of a request to the API or of a browser. A Bearer token goes before a cookie.

    Raises:
        Unauthenticated: There is none, or it is malformed.
        Unavailable: See ``bearer_credential``.
    """
    authorization = connection.headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("Only `Authorization: Bearer prd_...` is accepted here.", code="unknown_scheme")
        return await bearer_credential(token.strip(), issuers)
    cookie = connection.cookies.get(session_cookie_name(secure=secure))
    if not cookie:
        raise Unauthenticated("Sign in, or send an API token as `Authorization: Bearer prd_...`.")
    return Credential("session", hash_secret(cookie))


def basic_credentials(connection: HTTPConnection) -> tuple[str, str] | None:
    """Name and password of HTTP Basic (RFC 7617, UTF-8); ``None`` if the request does not use it.

    Raises:
        Unauthenticated: The header is malformed.
    """
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated("The Basic credentials are malformed.", code="malformed_basic") from error
    if not colon:
        raise Unauthenticated("The Basic credentials are malformed.", code="malformed_basic")
    return name, password
