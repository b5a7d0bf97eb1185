"""Challenges of passkeys and pending sign-ins: signed instead of stored, so that asking for one writes nothing.

Both are bound to a browser (its visit cookie, or its session) and to a purpose. A challenge is good once: what was
answered is kept as spent until it would have expired (``database.store.access.factors.spend``).
"""

import base64
import binascii
import hmac
import os
import time
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from adapters.keyring.secret_box import mac
from domain.errors import Unauthenticated

LIFETIME_SECONDS = 600

Purpose = Literal["register", "sign-in", "second-factor", "prove"]

_NONCE_SIZE_BYTES = 16
_MOMENT_SIZE_BYTES = 8
_HEAD_SIZE_BYTES = _NONCE_SIZE_BYTES + _MOMENT_SIZE_BYTES
_ID_SIZE_BYTES = 16


def new_challenge(secret_key: bytes, purpose: Purpose, bound_to: str) -> bytes:
    """A challenge that only this browser can answer, and only for this purpose."""
    head = os.urandom(_NONCE_SIZE_BYTES) + _in_seconds(LIFETIME_SECONDS)
    return head + _challenge_mac(secret_key, purpose, bound_to, head)


def challenge_end(secret_key: bytes, purpose: Purpose, bound_to: str, challenge: bytes) -> datetime:
    """When a challenge expires that was answered.

    Raises:
        Unauthenticated: It is none of ours for this browser and purpose, or is over (code ``challenge_expired``).
    """
    head, signature = challenge[:_HEAD_SIZE_BYTES], challenge[_HEAD_SIZE_BYTES:]
    good = hmac.compare_digest(signature, _challenge_mac(secret_key, purpose, bound_to, head))
    end = int.from_bytes(head[_NONCE_SIZE_BYTES:], "big") if good else 0
    if end < time.time():
        raise Unauthenticated(
            "The passkey answered a question that this page did not ask, or asked too long ago. Nothing was changed; "
            "reload the page and try again.",
            code="challenge_expired",
        )
    return datetime.fromtimestamp(end, UTC)


def _challenge_mac(secret_key: bytes, purpose: Purpose, bound_to: str, head: bytes) -> bytes:
    return mac(secret_key, f"challenge/{purpose}", head + bound_to.encode())


def _in_seconds(seconds: int) -> bytes:
    return (int(time.time()) + seconds).to_bytes(_MOMENT_SIZE_BYTES, "big")


def pending_sign_in(secret_key: bytes, user_id: UUID, bound_to: str) -> str:
    """Says that this browser knew the password of ``user_id``: no session, it only leads to the second factor."""
    body = user_id.bytes + _in_seconds(LIFETIME_SECONDS)
    return base64.urlsafe_b64encode(body + _pending_mac(secret_key, body, bound_to)).decode()


def pending_user(secret_key: bytes, pending: str, bound_to: str) -> UUID:
    """Who is about to sign in.

    Raises:
        Unauthenticated: It is not this browser's, or is over (code ``sign_in_expired``).
    """
    try:
        raw = base64.urlsafe_b64decode(pending.encode())
    except (binascii.Error, ValueError):
        raw = b""
    size = _ID_SIZE_BYTES + _MOMENT_SIZE_BYTES
    body, signature = raw[:size], raw[size:]
    good = hmac.compare_digest(signature, _pending_mac(secret_key, body, bound_to))
    if not good or int.from_bytes(body[_ID_SIZE_BYTES:], "big") < time.time():
        raise Unauthenticated(
            "The sign-in was begun too long ago, or in another browser. Begin again with name and password.",
            code="sign_in_expired",
        )
    return UUID(bytes=body[:_ID_SIZE_BYTES])


def _pending_mac(secret_key: bytes, body: bytes, bound_to: str) -> bytes:
    return mac(secret_key, "pending-sign-in", body + bound_to.encode())
