"""The settings of every program: one typed object with a group per area.

Read by the three composition roots only (``api/main.py``, ``worker/main.py``, ``migrations``); everything else is
handed built objects. Values come from the TOML file that ``PERDURE_SETTINGS`` names (mode 0600, because it holds
credentials) and, over it, from environment variables such as ``PERDURE_API__PORT``.
"""

import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class DatabaseSettings(BaseModel):
    """PostgreSQL: the serving role's address, and the owner's for migrations."""

    url: SecretStr
    owner_url: SecretStr | None = None
    pool_size: int = Field(default=10, ge=1, le=200)


class TemporalSettings(BaseModel):
    """The Temporal cluster, its UI, and the keys that payloads are encrypted with."""

    address: str
    namespace: str = "perdure"
    ui_url: str = ""
    payload_key_id: str
    payload_keys: dict[str, SecretStr] = Field(description="key id to base64 of 32 bytes")


class BusSettings(BaseModel):
    """Valkey: hints and fan-out only; nothing that cannot be rebuilt."""

    url: SecretStr


class ObjectsSettings(BaseModel):
    """The S3 server."""

    endpoint: str
    access_key: str
    secret_key: SecretStr
    bucket: str = "perdure"
    secure: bool = True
    region: str = "us-east-1"


class ApiSettings(BaseModel):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = 7400
    public_url: str
    secret_key: SecretStr = Field(description="base64 of 32 bytes; signs CSRF tokens and cursors")
    session_lifetime: timedelta = timedelta(days=14)


class WorkerSettings(BaseModel):
    """The worker: how much it does at once and where it says that it is alive."""

    health_port: int = 7401
    activities_at_once: int = Field(default=200, ge=1)
    steps_at_once: int = Field(default=50, ge=1)
    poll_silence: timedelta = Field(
        default=timedelta(seconds=90), description="not alive if no poll completed for so long (a poll lasts 60 s)"
    )


class RepositoriesSettings(BaseModel):
    """The git repositories on disk and what a push may bring."""

    root: Path
    object_size_bytes_max: int = Field(default=100 * 1024**2, ge=1)
    push_size_bytes_max: int = Field(default=4 * 1024**3, ge=1)


class SandboxSettings(BaseModel):
    """The local sandbox: the operator's policy for steps."""

    root: Path
    network_projects: list[str] = Field(default=[], description="owner/name of projects whose steps get network")
    memory_bytes: int = 2 * 1024**3
    processes: int = 512
    cpu_seconds: int = 3600
    file_size_bytes: int = 4 * 1024**3
    log_size_bytes: int = 2 * 1024**3
    allow_unisolated: bool = False


class AccessSettings(BaseModel):
    """The first administrator."""

    admin_name: str = "admin"
    admin_email: str = "admin@localhost"
    admin_password_file: Path | None = None


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
