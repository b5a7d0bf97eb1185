"""Which port each part listens on, and who holds a port that is taken."""

import random
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

BASE_DEFAULT = 7400
PORT_MIN = 1024
"""Ports below this need privileges."""
PORT_MAX = 65535
PORT_RANDOM_MIN = 10000
"""Below lie the ports that people know by heart."""
LOCAL_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"

PORT_NAMES = (
    "api",
    "worker",
    "temporal_ui",
    "temporal",
    "temporal_http",
    "temporal_metrics",
    "postgres",
    "valkey",
    "s3",
    "s3_master",
    "s3_volume",
    "s3_filer",
    "s3_admin",
    "s3_grpc",
    "s3_master_grpc",
    "s3_volume_grpc",
    "s3_filer_grpc",
    "s3_admin_grpc",
)
"""In the order of the block: the API has the first port."""


@dataclass(frozen=True)
class PortHolder:
    """A process that listens on a port; ``pid`` is ``None`` if it belongs to another user and cannot be seen."""

    port: int
    pid: int | None
    program: str

    def __str__(self) -> str:
        """For an error message."""
        who = f"pid {self.pid} ({self.program})" if self.pid is not None else "a process of another user"
        return f"port {self.port} is held by {who}"


def block_of_ports(base: int) -> dict[str, int]:
    """The fixed ports from ``base`` on, one for each name.

    Raises:
        ValueError: The block does not lie between ``PORT_MIN`` and ``PORT_MAX``.
    """
    last = PORT_MAX - len(PORT_NAMES) + 1
    if not PORT_MIN <= base <= last:
        raise ValueError(f"the first port must lie between {PORT_MIN} and {last}, not {base}")
    return {name: base + offset for offset, name in enumerate(PORT_NAMES)}


def free_ports() -> dict[str, int]:
    """A free port for each name, at random.

    They lie outside the range from which the kernel takes the near ends of outgoing connections: a port from that
    range may be taken by such a connection whenever its server is away.
    """
    first, last = (int(word) for word in Path(LOCAL_RANGE).read_text(encoding="ascii").split())
    every = range(PORT_RANDOM_MIN, PORT_MAX + 1)
    # Where the kernel may use nearly all, one in sixty thousand is a risk to take.
    candidates = [port for port in every if not first <= port <= last] or list(every)
    chosen: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if len(chosen) == len(PORT_NAMES):
            break
        if is_free(port):
            chosen.append(port)
    return dict(zip(PORT_NAMES, chosen, strict=True))


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at ``port`` now."""
    with socket.socket() as probe:
        # As servers do: a port whose old connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> PortHolder:
    """Who listens on ``port``, as far as this user may know."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            if connection.pid is None:
                break
            return PortHolder(port, connection.pid, program_of(connection.pid))
    return PortHolder(port, None, "")


def program_of(pid: int) -> str:
    """The name of a process with its first arguments, or ``unknown`` if it ended or is not ours to see."""
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline()[:3]) or process.name()
    except psutil.Error:
        return "unknown"
