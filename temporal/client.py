"""Connections to Temporal: one way to make them, and errors that mean something to our callers."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import HeaderCodecBehavior
from temporalio.converter import DataConverter
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression, KeepAliveConfig, RetryConfig, RPCError, RPCStatusCode

from domain.errors import NotFound, PermissionMissing, Unavailable

CONNECT_TIMEOUT = timedelta(seconds=2)
# A dead connection is noticed within 25 s. The server refuses pings more often than every 10 s.
KEEP_ALIVE = KeepAliveConfig(interval_millis=15_000, timeout_millis=10_000)
RETRY_AFTER_SECONDS = 5
BACK_OFF_SECONDS_MAX = 5.0

_AWAY = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.ABORTED,
    }
)


async def connect(
    address: str,
    namespace: str,
    converter: DataConverter,
    *,
    program: str,
    lazy: bool = False,
    patience: timedelta = timedelta(seconds=3),
    runtime: Runtime | None = None,
) -> Client:
    """Makes a client.

    Args:
        address: ``host:port`` of the frontend.
        namespace: Where our workflows live.
        converter: ``temporal.converter.data_converter``.
        program: ``api`` or ``worker``; with host and pid it is the identity that histories show.
        lazy: Connect at the first call, so that a program can start while Temporal is away.
        patience: How long one call is retried while the server is away.
        runtime: Where metrics of the connection go; ``None`` means the default one.

    Raises:
        domain.errors.Unavailable: Not lazy, and the server does not answer.
    """
    with translated_errors():
        return await Client.connect(
            address,
            namespace=namespace,
            data_converter=converter,
            lazy=lazy,
            identity=f"{program}:{os.getpid()}@{socket.gethostname()}",
            retry_config=RetryConfig(max_elapsed_time_millis=int(patience / timedelta(milliseconds=1)), max_retries=0),
            keep_alive_config=KEEP_ALIVE,
            connect_timeout=CONNECT_TIMEOUT,
            # Payloads are compressed before they are encrypted; afterwards there is nothing left to compress.
            grpc_compression=GrpcCompression.NONE,
            header_codec_behavior=HeaderCodecBehavior.CODEC,
            runtime=runtime,
        )


async def connect_patiently(
    address: str,
    namespace: str,
    converter: DataConverter,
    *,
    program: str,
    patience: timedelta,
    say: Callable[[str], None],
    runtime: Runtime | None = None,
) -> Client:
    """``connect`` for a program that is of no use without Temporal: tries until the server is there.

    Args:
        say: Told of each attempt that failed.
    """
    delay_seconds = 0.2
    while True:
        try:
            return await connect(address, namespace, converter, program=program, patience=patience, runtime=runtime)
        except Unavailable as error:
            say(f"{error.message} Next attempt on {address} in {delay_seconds:.1f} s.")
        await asyncio.sleep(delay_seconds)
        delay_seconds = min(delay_seconds * 2, BACK_OFF_SECONDS_MAX)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns the errors of Temporal's client into ours; put it around every call.

    ``WorkflowAlreadyStartedError`` and ``WorkflowFailureError`` pass: they are answers, not failures to ask.

    Raises:
        domain.errors.Unavailable: The server is away or overloaded. Whether a start arrived is not known; starting
            again with the same id is safe.
        domain.errors.NotFound: There is no such workflow (any more).
        domain.errors.PermissionMissing: The server refuses our credentials.
    """
    try:
        yield
    except RPCError as error:
        if error.status in _AWAY:
            raise _away() from error
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"Temporal does not know it: {error.message}") from error
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            raise PermissionMissing(f"Temporal refuses us: {error.message}") from error
        raise
    except RuntimeError as error:
        # What the SDK raises when a (lazy) connection cannot be made; its subclasses are bugs of ours.
        if type(error) is not RuntimeError:
            raise
        raise _away() from error


def _away() -> Unavailable:
    return Unavailable(
        "Temporal does not answer. Workflows that were started are kept and go on when it is back.",
        neighbour="temporal",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
