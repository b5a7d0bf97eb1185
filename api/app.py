"""The application: routes, error translation and the outermost layer, around services that somebody else built."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from api import errors, pages, protocols, routes
from api.documentation import document_of
from api.edge import Edge
from api.rights import RightsHints
from api.services import Services
from api.throttle import Throttle
from domain.errors import PerdureError

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"


def create_app(services: Services) -> FastAPI:
    """Builds the application."""
    app = FastAPI(
        title="Perdure",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.services = services
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    # Whoever bootstraps in the background says so until it is done (``api/main.py``).
    app.state.is_prepared = True
    errors.install(app)
    # Before the pages, one of which is /{owner}/{name}.
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    for module in _modules():
        router = getattr(import_module(module), "router", None)
        if router is not None:
            app.router.routes.extend(router.routes)
    app.add_middleware(RightsHints, bus=services.bus)
    if services.rate_limits is not None:
        app.add_middleware(Throttle, limits=services.rate_limits)
    # Added last, so it is the outermost.
    app.add_middleware(Edge, metrics=services.metrics, body_size_bytes_max=services.limits.body_size_bytes_max)
    return app


def _modules() -> list[str]:
    """Every module that may bring a ``router``, in the order in which an address is looked up.

    Each route is tried in turn, so the most asked for (projects, health) come before all other JSON routes;
    pages come last, because ``/{owner}/{name}`` would take addresses of the others. Found instead of listed, so that
    none is forgotten.
    """
    found = [
        module.name
        for package in (routes, protocols, pages)
        for module in walk_packages(package.__path__, package.__name__ + ".")
    ]
    return sorted(found, key=lambda name: not name.startswith(("api.routes.projects", "api.routes.health")))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    all_uses = (services.token_uses, services.session_uses)
    tasks = [asyncio.create_task(uses.write_forever(services.database)) for uses in all_uses]
    if services.rate_limits is not None:
        tasks.append(asyncio.create_task(services.rate_limits.limiter.exchange_forever()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        try:
            for uses in all_uses:
                await uses.write(services.database)
        except PerdureError as error:
            logger.warning("The last uses of credentials are lost: %s", error.message)
