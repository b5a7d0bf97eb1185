"""The credentials of the embedded servers: made once, kept in one private file."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deploy.local.postgres import PostgresCredentials
from deploy.local.private_files import write_private
from deploy.local.s3 import S3Credentials


def _secret() -> str:
    # 32 bytes as text that needs no quoting in an address, a configuration file or SQL.
    return secrets.token_urlsafe(32).replace("-", "a").replace("_", "b")


@dataclass(frozen=True)
class ServerCredentials:
    """What each embedded server was set up with."""

    postgres: PostgresCredentials
    s3: S3Credentials
    valkey: str

    @classmethod
    def generate(cls) -> Self:
        """New ones."""
        return cls(
            postgres=PostgresCredentials(superuser=_secret(), owner=_secret(), app=_secret()),
            s3=S3Credentials(
                access_key=f"perdure{secrets.token_hex(6)}",
                secret_key=_secret(),
                volume_write=_secret(),
                volume_read=_secret(),
                filer_write=_secret(),
                filer_read=_secret(),
            ),
            valkey=_secret(),
        )

    @classmethod
    def load_or_generate(cls, path: Path) -> Self:
        """Those in ``path``; on first use new ones, written there with mode 0600."""
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                postgres=PostgresCredentials(**stored["postgres"]),
                s3=S3Credentials(**stored["s3"]),
                valkey=stored["valkey"],
            )
        made = cls.generate()
        write_private(path, json.dumps(asdict(made), indent=2) + "\n")
        return made
