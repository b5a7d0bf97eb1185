"""``python -m api.main``: settings to services to a serving process.

Starts whatever its neighbours do (promise D4): Temporal and the bus are connected to when first used, and what must
be in the database is made as soon as it answers.
"""

import asyncio
import base64
import binascii
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.types import ASGIApp

from adapters.bus.valkey import ValkeyBus
from adapters.cache.valkey import ValkeyCache
from adapters.objects.s3 import S3Objects
from adapters.ratelimits.valkey import ValkeyCounters
from adapters.repositories.git_cli import GitRepositories
from adapters.signing.ed25519 import SigningKey
from api.app import create_app
from api.bootstrap import FirstAdmin, bootstrap_when_possible
from api.passwords import Passwords
from api.providers import identity_providers, token_issuers
from api.ratelimit import Limit, RateLimiter
from api.services import Limits, Services
from api.throttle import RateLimits
from database.engine import Database
from database.store.access.cache import Rights, SharedHeld
from database.store.audit_keys import AuditKeys
from domain.access.bans import BanPolicy
from domain.access.passwords import PasswordRules
from domain.errors import InvalidInput
from settings.program import run_program
from settings.values import AccessSettings, ApiSettings, Settings
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
    cache = ValkeyCache(settings.bus.url.get_secret_value())
    secret_key = _secret_key(settings.api.secret_key.get_secret_value())
    providers = identity_providers(settings.access)
    issuers = token_issuers(settings.access, settings.api.public_url.rstrip("/"))
    database = Database(
        settings.database.url.get_secret_value(),
        pool_size=settings.database.pool_size,
        timeout_seconds=TRANSACTION_TIMEOUT_SECONDS,
        audit_keys=AuditKeys(settings.audit.secret()),
    )
    rate_limits = _rate_limits(settings)
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
            secret_key=secret_key,
            audit_key=SigningKey(settings.audit.signing_seed()).public,
            rights=Rights(SharedHeld(cache, secret_key)),
            limits=Limits(
                object_size_bytes_max=settings.repositories.object_size_bytes_max,
                push_size_bytes_max=settings.repositories.push_size_bytes_max,
            ),
            session_lifetime=settings.api.session_lifetime,
            passwords=_passwords(settings.access),
            bans=_bans(settings.access),
            rate_limits=rate_limits,
            session_idle=settings.api.session_idle,
            proof_lifetime=settings.access.proof_lifetime,
            tokens_without_proof=settings.access.tokens_without_proof,
            exchange_lifetime_max=settings.access.exchange_lifetime_max,
            identity_providers=providers,
            token_issuers=issuers,
            retired_secret_keys=tuple(_secret_key(key.get_secret_value()) for key in settings.api.retired_secret_keys),
        )
    finally:
        for provider in providers.values():
            await provider.close()
        await issuers.close()
        if rate_limits is not None:
            await rate_limits.limiter.close()
        await cache.close()
        await bus.close()
        await database.close()
        # Last: it waits for a request that is under way.
        await objects.close()


def _rate_limits(settings: Settings) -> RateLimits | None:
    chosen = settings.rate_limits
    if not chosen.enabled:
        return None
    seconds = math.ceil(chosen.window.total_seconds())
    return RateLimits(
        limiter=RateLimiter(ValkeyCounters(settings.bus.url.get_secret_value())),
        credential=Limit("credential", chosen.requests_of_credential, seconds),
        address=Limit("address", chosen.requests_of_address, seconds),
    )


def _passwords(settings: AccessSettings) -> Passwords:
    hasher = PasswordHasher(
        time_cost=settings.password_passes,
        memory_cost=settings.password_memory_kib,
        parallelism=settings.password_lanes,
    )
    return Passwords(hasher, PasswordRules(length_min=settings.password_length_min))


def _bans(settings: AccessSettings) -> BanPolicy:
    return BanPolicy(
        failures_of_name_max=settings.failures_of_name_max,
        failures_of_address_max=settings.failures_of_address_max,
        window=settings.failures_window,
        ban_first=settings.ban_first,
        ban_max=settings.ban_max,
        remembered=settings.bans_remembered,
    )


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


def server_config(app: ASGIApp, settings: ApiSettings) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        # Only what a proxy that the operator named says about its clients is believed.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


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
        server = _Server(server_config(app, settings.api))
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
