"""The settings of every program: one typed object with a group per area.

Read by the three composition roots only (``api/main.py``, ``worker/main.py``, ``migrations``); everything else is
handed built objects. Values come from the TOML file that ``PERDURE_SETTINGS`` names (mode 0600, because it holds
credentials) and, over it, from environment variables such as ``PERDURE_API__PORT``.
"""

import base64
import binascii
import os
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from settings.providers import IdentityProviderSettings, ShortName, TokenIssuerSettings

KEY_SIZE_BYTES = 32


class DatabaseSettings(BaseModel):
    """PostgreSQL: the serving role's address, and the owner's for migrations."""

    url: SecretStr = Field(description="`postgresql+asyncpg://user:password@host:port/name` of the role that serves")
    owner_url: SecretStr | None = Field(
        default=None, description="the same for the role that owns the tables; migrations"
    )
    pool_size: int = Field(default=20, ge=1, le=200, description="connections of one process at most")


class TemporalSettings(BaseModel):
    """The Temporal cluster, its UI, and the keys that payloads are encrypted with."""

    address: str = Field(description="`host:port` of the frontend")
    namespace: str = Field(default="perdure", description="made at the first start if it is missing")
    ui_url: str = Field(default="", description="where people find Temporal's UI; the pages link to it")
    payload_key_id: str = Field(description="the key that new payloads are encrypted with")
    payload_keys: dict[str, SecretStr] = Field(description="key id to base64 of 32 bytes")

    def revealed_keys(self) -> dict[str, str]:
        """The payload keys in clear, for ``temporal.codec.PayloadKeys``."""
        return {key_id: key.get_secret_value() for key_id, key in self.payload_keys.items()}


class BusSettings(BaseModel):
    """Valkey: hints and fan-out only; nothing that cannot be rebuilt."""

    url: SecretStr = Field(description="`redis://:password@host:port/0`")


class ObjectsConnection(TypedDict):
    """What ``adapters.objects.s3.S3Objects`` is made with; the secret in clear."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    secure: bool
    region: str


class ObjectsSettings(BaseModel):
    """The S3 server."""

    endpoint: str = Field(description="`host:port`")
    access_key: str = Field(description="the name of the credential")
    secret_key: SecretStr = Field(description="its secret")
    bucket: str = Field(default="perdure", description="made at the first start if it is missing")
    secure: bool = Field(default=True, description="whether the server speaks TLS")
    region: str = Field(default="us-east-1", description="part of every signature")

    def connection(self) -> ObjectsConnection:
        """Keyword arguments for ``adapters.objects.s3.S3Objects``."""
        return ObjectsConnection(
            endpoint=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key.get_secret_value(),
            bucket=self.bucket,
            secure=self.secure,
            region=self.region,
        )


class ApiSettings(BaseModel):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=7400, description="the port to listen on")
    public_url: str = Field(description="how people and programs reach it; part of every link")
    secret_key: SecretStr = Field(description="base64 of 32 bytes; signs CSRF tokens and cursors, seals secrets")
    retired_secret_keys: list[SecretStr] = Field(
        default=[], description="secret keys of before: they open what they sealed (second factors) and sign nothing"
    )
    session_lifetime: timedelta = Field(
        default=timedelta(days=14), gt=timedelta(0), description="of a browser session, however much it is used"
    )
    session_idle: timedelta = Field(
        default=timedelta(days=3),
        ge=timedelta(minutes=5),
        description="a browser session that nobody uses for so long ends",
    )
    trusted_proxies: list[str] = Field(
        default=[],
        description="networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, texts: list[str]) -> list[str]:
        """A misspelt network would be trusted by nobody's name, and silently."""
        return [str(ip_network(text)) for text in texts]


class WorkerSettings(BaseModel):
    """The worker: how much it does at once and where it says that it is alive."""

    health_port: int = Field(default=7401, description="where it says whether it is alive, on the loopback interface")
    activities_at_once: int = Field(default=200, ge=1, description="short activities, on the queue `orchestration`")
    steps_at_once: int = Field(default=50, ge=1, description="steps, on the queue `execution`")
    poll_silence: timedelta = Field(
        default=timedelta(seconds=90), description="not alive if no poll completed for so long (a poll lasts 60 s)"
    )


class RepositoriesSettings(BaseModel):
    """The git repositories on disk and what a push may bring."""

    root: Path = Field(description="the directory of the repositories; API and workers see the same")
    object_size_bytes_max: int = Field(default=100 * 1024**2, ge=1, description="of one file in a push")
    push_size_bytes_max: int = Field(default=4 * 1024**3, ge=1, description="of one push")


class SandboxSettings(BaseModel):
    """The local sandbox: the operator's policy for steps."""

    root: Path = Field(description="the directory of workspaces and records")
    network_projects: list[str] = Field(default=[], description="`owner/name` of projects whose steps get network")
    memory_bytes: int = Field(default=2 * 1024**3, description="of a step, all its processes together")
    processes: int = Field(default=512, description="of a step at once")
    cpu_seconds: int = Field(default=3600, description="of a step, all its processes together")
    file_size_bytes: int = Field(default=4 * 1024**3, description="of one file that a step writes")
    log_size_bytes: int = Field(default=2 * 1024**3, description="of a step's output")
    allow_unisolated: bool = Field(
        default=False, description="run steps also on a host that cannot isolate them; only for code that you trust"
    )


class AccessSettings(BaseModel):
    """The first administrator, passwords, and what follows wrong ones."""

    admin_name: str = Field(default="admin", description="login name")
    admin_email: str = Field(default="admin@localhost", description="address")
    admin_password_file: Path | None = Field(
        default=None, description="where the first password is; read when there is no administrator yet"
    )
    password_length_min: int = Field(default=12, ge=8, le=128, description="characters of a new password")
    password_memory_kib: int = Field(
        default=65_536, ge=8, le=4_194_304, description="argon2id: KiB of memory for one hash (RFC 9106)"
    )
    password_passes: int = Field(default=3, ge=1, le=100, description="argon2id: passes over that memory")
    password_lanes: int = Field(default=4, ge=1, le=64, description="argon2id: threads that share the work of one hash")
    failures_of_name_max: int = Field(default=5, ge=1, description="wrong proofs for one name before it is banned")
    failures_of_address_max: int = Field(
        default=30, ge=1, description="wrong proofs from one address (IPv6: its /64) before it is banned"
    )
    failures_window: timedelta = Field(
        default=timedelta(minutes=10), description="failures are counted from new after so long without one"
    )
    ban_first: timedelta = Field(
        default=timedelta(minutes=1), description="the first ban; each further one is twice as long"
    )
    ban_max: timedelta = Field(default=timedelta(hours=1), description="no ban is longer")
    bans_remembered: timedelta = Field(
        default=timedelta(days=1),
        le=timedelta(days=30),
        description="bans begin with the shortest again after so long without a failure",
    )
    proof_lifetime: timedelta = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="dangerous actions (role changes, audit export, second factors) ask again who it is after so long",
    )
    exchange_lifetime_max: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="tokens of a token exchange live no longer"
    )
    tokens_without_proof: bool = Field(
        default=False, description="whether API tokens, which can prove nothing, may do such actions all the same"
    )
    identity_providers: dict[ShortName, IdentityProviderSettings] = Field(
        default={}, description="whom people may sign in with; see below"
    )
    token_issuers: dict[ShortName, TokenIssuerSettings] = Field(
        default={}, description="whose signed tokens the API accepts; see below"
    )


class RateLimitsSettings(BaseModel):
    """How often one may ask. Wrong passwords have their own limits: see `[access]`."""

    enabled: bool = Field(default=True, description="whether requests are counted at all")
    requests_of_credential: int = Field(
        default=1000, ge=1, description="in a window, with one token or browser session; all API processes together"
    )
    requests_of_address: int = Field(
        default=600, ge=1, description="in a window, from one address (IPv6: its /64) without a good credential"
    )
    window: timedelta = Field(
        default=timedelta(minutes=1), ge=timedelta(seconds=1), description="over which requests are counted; it slides"
    )


class MailSettings(BaseModel):
    """Mail to people: links that verify an address, set a password, or invite."""

    outbox: Path | None = Field(
        default=None, description="the directory that mails are written to; without one they wait until it is set"
    )
    sender: str = Field(default="Perdure <perdure@localhost>", description="the From of every mail")


class AuditSettings(BaseModel):
    """The keys of the audit log."""

    secret_key: SecretStr = Field(
        description="base64 of 32 bytes; personal data in the audit log is encrypted with it, so it is never changed"
    )
    signing_key: SecretStr = Field(
        description="base64 of 32 bytes; signs checkpoints (Ed25519); `perdure audit key` prints the public key"
    )

    @field_validator("secret_key", "signing_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        try:
            size_bytes = len(base64.b64decode(key.get_secret_value(), validate=True))
        except binascii.Error:
            size_bytes = 0
        if size_bytes != KEY_SIZE_BYTES:
            raise ValueError(f"must be the base64 of {KEY_SIZE_BYTES} random bytes")
        return key

    def secret(self) -> bytes:
        """``secret_key`` as bytes."""
        return base64.b64decode(self.secret_key.get_secret_value())

    def signing_seed(self) -> bytes:
        """``signing_key`` as bytes."""
        return base64.b64decode(self.signing_key.get_secret_value())


class Settings(BaseSettings):
    """All groups. ``Settings()`` reads the file and the environment; see the module's docstring."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", env_nested_delimiter="__", extra="ignore")

    database: DatabaseSettings
    temporal: TemporalSettings
    bus: BusSettings
    objects: ObjectsSettings
    api: ApiSettings
    worker: WorkerSettings = WorkerSettings()
    repositories: RepositoriesSettings
    sandbox: SandboxSettings
    access: AccessSettings = AccessSettings()
    rate_limits: RateLimitsSettings = RateLimitsSettings()
    mail: MailSettings = MailSettings()
    audit: AuditSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the TOML file."""
        path = os.environ.get("PERDURE_SETTINGS")
        file = (TomlConfigSettingsSource(settings_cls, toml_file=path),) if path else ()
        return (init_settings, env_settings, *file)


def load_settings() -> Settings:
    """Reads the settings of this process.

    Raises:
        pydantic.ValidationError: A group or value is missing or malformed; names each.
    """
    return Settings()
