"""``python -m api.main``: settings to services to a serving process.

Starts whatever its neighbours do (promise D4): Temporal and the bus are connected to when first used, and what must
be in the database is made as soon as it answers.
"""

import asyncio
import base64
import binascii
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from adapters.bus.valkey import ValkeyBus
from adapters.objects.s3 import S3Objects
from adapters.repositories.git_cli import GitRepositories
from api.app import create_app
from api.bootstrap import FirstAdmin, bootstrap_when_possible
from api.services import Limits, Services
from database.engine import Database
from domain.errors import InvalidInput
from settings.program import run_program
from settings.values import Settings
from temporal.client import connect
from temporal.codec import PayloadKeys
from temporal.converter import data_converter

BACKLOG = 2048
# Each open live log or git transfer counts as one; beyond this the answer is an immediate 503.
CONNECTIONS_MAX = 2000
KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 8
SECRET_KEY_SIZE_BYTES = 32
# Somebody waits for the answer: if the database hangs, it is a 503 after this.
TRANSACTION_TIMEOUT_SECONDS = 8.0

logger = logging.getLogger("api")


@asynccontextmanager
async def built_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything that the routes work with, closed again at the end.

    Raises:
        InvalidInput: A setting cannot be used; names it.
    """
    objects = S3Objects(**settings.objects.connection())
    keys = PayloadKeys(settings.temporal.revealed_keys(), settings.temporal.payload_key_id)
    bus = ValkeyBus(settings.bus.url.get_secret_value())
    database = Database(
        settings.database.url.get_secret_value(),
        pool_size=settings.database.pool_size,
        timeout_seconds=TRANSACTION_TIMEOUT_SECONDS,
    )
    try:
        yield Services(
            database=database,
            objects=objects,
            bus=bus,
            repositories=GitRepositories(
                settings.repositories.root,
                object_size_bytes_max=settings.repositories.object_size_bytes_max,
                push_size_bytes_max=settings.repositories.push_size_bytes_max,
            ),
            temporal=await connect(
                settings.temporal.address,
                settings.temporal.namespace,
                data_converter(keys, objects),
                program="api",
                lazy=True,
            ),
            public_url=settings.api.public_url.rstrip("/"),
            temporal_ui_url=settings.temporal.ui_url.rstrip("/"),
            namespace=settings.temporal.namespace,
            secret_key=_secret_key(settings.api.secret_key.get_secret_value()),
            limits=Limits(
                object_size_bytes_max=settings.repositories.object_size_bytes_max,
                push_size_bytes_max=settings.repositories.push_size_bytes_max,
            ),
            session_lifetime=settings.api.session_lifetime,
        )
    finally:
        await bus.close()
        await database.close()
        # Last: it waits for a request that is under way.
        await objects.close()


def _secret_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) < SECRET_KEY_SIZE_BYTES:
        raise InvalidInput(f"api.secret_key must be the base64 of at least {SECRET_KEY_SIZE_BYTES} random bytes.")
    return key


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn's own way raises the signal again after serving, which would end us before connections are closed.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What lives now lives for ever: taking it out of the collector's sight cures most of the latency's tail.
        gc.collect()
        gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound here so that a taken port is told in one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"The API cannot listen on {host} port {port}: {error.strerror}. Stop what holds it, or set api.port."
        ) from error
    return listening


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; open requests get a few seconds to end.

    Raises:
        InvalidInput: A setting cannot be used, or the port is taken.
    """
    listening = _listen(settings.api.host, settings.api.port)
    admin = FirstAdmin(settings.access.admin_name, settings.access.admin_email, settings.access.admin_password_file)
    async with built_services(settings) as services:
        if services.secure_cookies and not services.public_url.startswith("https://"):
            logger.warning(
                "%s is neither https nor loopback: browsers will not keep a session there.", services.public_url
            )
        app = create_app(services)
        app.state.is_prepared = False
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = _Server(config)
        preparing = asyncio.create_task(
            bootstrap_when_possible(services.database, services.passwords, admin, logger.info)
        )
        preparing.add_done_callback(lambda task: _tell_end(task, app, server))
        await server.serve(sockets=[listening])
        preparing.cancel()
        with suppress(asyncio.CancelledError):
            await preparing


def _tell_end(task: asyncio.Task[None], app: FastAPI, server: uvicorn.Server) -> None:
    """An installation that cannot have an administrator stops instead of serving a door without a key."""
    if task.cancelled():
        return
    app.state.is_prepared = task.exception() is None
    server.should_exit = server.should_exit or not app.state.is_prepared


def main() -> int:
    """Runs the API; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return run_program("The API", serve)


if __name__ == "__main__":
    sys.exit(main())
