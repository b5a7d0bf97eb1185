"""The four servers of the embedded stack, wired to one directory."""

from dataclasses import dataclass
from pathlib import Path

from deploy.local.credentials import ServerCredentials
from deploy.local.part import Part
from deploy.local.postgres import Postgres
from deploy.local.s3 import S3
from deploy.local.temporal import Temporal
from deploy.local.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    """One of each."""

    temporal: Temporal
    postgres: Postgres
    valkey: Valkey
    s3: S3

    @property
    def parts(self) -> list[Part]:
        """All four."""
        return [self.temporal, self.postgres, self.valkey, self.s3]


def embedded_servers(
    directory: Path, *, ports: dict[str, int], credentials: ServerCredentials, codec_endpoint: str | None = None
) -> Servers:
    """The servers with their data under ``directory``, listening on ``ports`` (named in ``ports.PORT_NAMES``)."""
    return Servers(
        temporal=Temporal(directory / "temporal", ports=ports, codec_endpoint=codec_endpoint),
        postgres=Postgres(directory / "postgres", ports=ports, credentials=credentials.postgres),
        valkey=Valkey(directory / "valkey", ports=ports, password=credentials.valkey),
        s3=S3(directory / "s3", ports=ports, credentials=credentials.s3),
    )
