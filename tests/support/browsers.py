"""Browsers that are signed in and know their CSRF token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.support.api import ApiServer, Person


@asynccontextmanager
async def browser_of(server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """A browser session of that person; unsafe requests carry its CSRF token."""
    async with await server.browser(person) as browser:
        browser.headers["X-CSRF-Token"] = (await browser.get("/api/v1/me")).json()["csrf_token"]
        yield browser


async def by_browser(server: ApiServer, person: Person, method: str, path: str, body: object = None) -> httpx.Response:
    """One request of a browser session that was just opened: its proof is fresh."""
    async with browser_of(server, person) as browser:
        return await browser.request(method, path, json=body)
