"""What identities prove themselves with: sessions, API tokens, second factors, other providers, our signing keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, TEXT
from sqlmodel import Field

from database.base import Base, created_at_field, id_field, json_field, moment_field, texts_field


def _user_id() -> Any:  # noqa: ANN401  # a field descriptor, as in database.base
    return Field(sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])


class AuthSession(Base, table=True):
    """A signed-in browser; the cookie's value is kept as its SHA-256 only (hex).

    ``proved_at`` is when its user last proved who they are, by ``factor``; ``scopes`` and ``project_id`` narrow it.
    """

    __tablename__ = "auth_sessions"
    __table_args__ = (Index("idx_auth_sessions_user", "user_id"),)

    id: UUID = id_field()
    user_id: UUID = _user_id()
    token_hash: str = Field(unique=True)
    ip_addr: str | None = Field(default=None, nullable=True, sa_type=INET)
    user_agent: str | None = None
    scopes: list[str] | None = Field(default=None, nullable=True, sa_type=ARRAY(TEXT))
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    factor: str = Field(default="password", sa_column_kwargs={"server_default": text("'password'")})
    proved_at: datetime = created_at_field()
    last_seen_at: datetime = created_at_field()
    expires_at: datetime = moment_field()
    created_at: datetime = created_at_field()


class ApiToken(Base, table=True):
    """An API token ``prd_...``; kept as its SHA-256 only (hex).

    ``user_id`` is whose rights it gives. A token of a token exchange (RFC 8693) names who acts with them
    (``acting_id``), for whom (``on_behalf_of``), and the credential that it came from, with which it ends.
    ``is_renewable`` lets it make its own successor that lives as long again (``rotated_from``).
    """

    __tablename__ = "api_tokens"
    __table_args__ = (
        Index("idx_api_tokens_user", "user_id"),
        Index("idx_api_tokens_parent", "parent_id"),
        Index("idx_api_tokens_acting", "acting_id"),
        Index("idx_api_tokens_rotated_from", "rotated_from"),
    )

    id: UUID = id_field()
    user_id: UUID = _user_id()
    name: str
    token_hash: str = Field(unique=True)
    scopes: list[str] = texts_field()
    project_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("projects.id", ondelete="CASCADE")]
    )
    acting_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")]
    )
    on_behalf_of: list[UUID] = Field(
        default=None, sa_type=ARRAY(Uuid), sa_column_kwargs={"server_default": text("'{}'::uuid[]")}
    )
    parent_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("api_tokens.id", ondelete="CASCADE")]
    )
    parent_session_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("auth_sessions.id", ondelete="CASCADE")]
    )
    rotated_from: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("api_tokens.id", ondelete="SET NULL")]
    )
    is_renewable: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_by: UUID | None = Field(default=None, nullable=True, sa_column_args=[ForeignKey("users.id")])
    last_used_at: datetime | None = moment_field()
    last_used_ip: str | None = Field(default=None, nullable=True, sa_type=INET)
    expires_at: datetime | None = moment_field()
    revoked_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class EmailToken(Base, table=True):
    """A link that is mailed: proves that its reader reads that address. Kept as SHA-256 only; good once.

    ``user_id`` is NULL for a reset that was asked for until the mail is sent, and for ever if the address is nobody's:
    whoever asks waits for the same work in either case. ``sent_at`` is when the mail was handed over.
    """

    __tablename__ = "email_tokens"
    __table_args__ = (
        CheckConstraint("purpose IN ('verify','reset','invite')", name="purpose"),
        Index("idx_email_tokens_user", "user_id"),
        Index("idx_email_tokens_unsent", "created_at", postgresql_where=text("sent_at IS NULL")),
    )

    id: UUID = id_field()
    user_id: UUID | None = Field(
        default=None, nullable=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")]
    )
    purpose: str
    email: str
    token_hash: str = Field(unique=True)
    expires_at: datetime = moment_field()
    sent_at: datetime | None = moment_field()
    used_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class SecurityNotice(Base, table=True):
    """A mail that tells somebody what was changed about their account (``domain.access.notices``).

    ``email`` is where it goes: an address that was verified when the change was made, also one that it took away.
    ``made_by`` names whoever made the change, where that is somebody else; ``sent_at`` is when it was handed over.
    """

    __tablename__ = "security_notices"
    __table_args__ = (Index("idx_security_notices_created_at", "created_at"),)

    id: UUID = id_field()
    user_id: UUID = _user_id()
    notice: str
    email: str
    about: str | None = None
    made_by: str | None = None
    ip_addr: str | None = None
    sent_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class SignInBan(Base, table=True):
    """Failed sign-ins of one name (hashed: people type passwords there) or one address, and until when it is banned."""

    __tablename__ = "sign_in_bans"
    __table_args__ = (CheckConstraint("kind IN ('name','address')", name="kind"),)

    kind: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    failures: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    bans: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    last_failure_at: datetime = created_at_field()
    banned_until: datetime | None = moment_field()


class TotpFactor(Base, table=True):
    """A time-based one-time password (RFC 6238); the secret is encrypted, the last used step is never used again."""

    __tablename__ = "totp_factors"

    user_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    secret: bytes = Field(sa_type=LargeBinary)
    confirmed_at: datetime | None = moment_field()
    last_step: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    created_at: datetime = created_at_field()


class RecoveryCode(Base, table=True):
    """A code for whoever lost the second factor; hashed, good once."""

    __tablename__ = "recovery_codes"

    id: UUID = id_field()
    user_id: UUID = _user_id()
    code_hash: str = Field(unique=True)
    used_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class Passkey(Base, table=True):
    """A WebAuthn credential."""

    __tablename__ = "passkeys"
    __table_args__ = (Index("idx_passkeys_user", "user_id"),)

    id: UUID = id_field()
    user_id: UUID = _user_id()
    name: str
    credential_id: bytes = Field(sa_type=LargeBinary, unique=True)
    public_key: bytes = Field(sa_type=LargeBinary)
    sign_count: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    transports: list[str] = texts_field()
    last_used_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class SpentProof(Base, table=True):
    """A proof that is good once (a passkey's answer to a challenge) and was used; kept until it would have expired."""

    __tablename__ = "spent_proofs"

    proof_hash: str = Field(primary_key=True)
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


class ExternalIdentity(Base, table=True):
    """Who somebody is at another provider (OIDC); never matched by e-mail alone."""

    __tablename__ = "external_identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), Index("idx_external_identities_user", "user_id"))

    id: UUID = id_field()
    user_id: UUID = _user_id()
    issuer: str
    subject: str
    last_used_at: datetime | None = moment_field()
    created_at: datetime = created_at_field()


class SigningKey(Base, table=True):
    """A key that we sign with; the private part is encrypted.

    It is published before it signs, and verifies for a while after it stopped (``domain.access.signing``).
    """

    __tablename__ = "signing_keys"
    __table_args__ = (CheckConstraint("algorithm IN ('RS256','EdDSA')", name="algorithm"),)

    id: UUID = id_field()
    kid: str = Field(unique=True)
    algorithm: str
    private_key: bytes = Field(sa_type=LargeBinary)
    public_jwk: dict[str, Any] = json_field()
    signs_from: datetime = created_at_field()
    signs_until: datetime = moment_field()
    verifies_until: datetime = moment_field()
    created_at: datetime = created_at_field()


class IdempotencyKey(Base, table=True):
    """The answer given to an unsafe POST that carried ``Idempotency-Key``, for a day."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idx_idempotency_keys_created_at", "created_at"),)

    user_id: UUID = Field(primary_key=True, sa_column_args=[ForeignKey("users.id", ondelete="CASCADE")])
    key: str = Field(primary_key=True)
    request_hash: str
    status: int | None = None
    body: str | None = None
    created_at: datetime = created_at_field()
