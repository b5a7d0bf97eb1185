"""A real OpenID provider (npm ``oidc-provider``, OpenID certified) in a child process, and a browser to go there."""

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from deploy.local.loopback import PLAIN_HTTP_ONLY
from tests.support.eventually import eventually

DIRECTORY = Path(__file__).parent / "openid_provider"
CLIENT, SECRET = "perdure", "a secret of the client: 100% & more"
SERVICE, SERVICE_SECRET = "build-service", "its secret"
AUDIENCE = "https://perdure.example/api"


class OpenIdProvider:
    """The provider; ``control`` says what it is to be."""

    def __init__(self, issuer: str, port: int) -> None:
        self.issuer = issuer
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        self._client = httpx.AsyncClient(base_url=issuer, trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=20)

    async def start(self) -> None:
        """Starts it, or starts it again; it forgot everything but its address."""
        node = shutil.which("node")
        assert node is not None, "the tests of external login need Node.js: run `make test-packages`"
        assert (DIRECTORY / "node_modules").is_dir(), "run `make test-packages`: it installs the OpenID provider"
        self._process = await asyncio.create_subprocess_exec(
            node, str(DIRECTORY / "server.mjs"), self.issuer, str(self.port), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await eventually(self._answers, timeout_seconds=30)

    async def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return (await self._client.get("/.well-known/openid-configuration")).status_code == 200
        return False

    async def stop(self) -> None:
        """Stops it."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def close(self) -> None:
        """Stops it for good."""
        await self.stop()
        await self._client.aclose()

    async def control(self, **wanted: object) -> dict[str, Any]:
        """Changes what it is; returns how often each of its endpoints was asked, and the id of its present key."""
        answer = await self._client.post("/_control", json=wanted)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def service_token(self, scope: str = "project:read", **form: str) -> str:
        """A JWT access token of the service client, by client credentials."""
        data = {"grant_type": "client_credentials", "scope": scope, "resource": AUDIENCE, **form}
        answer = await self._client.post("/token", data=data, auth=(SERVICE, "its+secret"))
        token: str = answer.raise_for_status().json()["access_token"]
        return token


class Browser:
    """Follows redirects between us and the provider by hand, with one cookie jar, as a browser does."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx.AsyncClient(
            trust_env=False, verify=PLAIN_HTTP_ONLY, timeout=30, headers={"accept": "text/html"}
        )

    async def close(self) -> None:
        """Closes it."""
        await self.http.aclose()

    async def get(self, url: str) -> httpx.Response:
        """Goes somewhere; redirects are followed until one would come back to our callback."""
        return await self._follow(await self.http.get(urljoin(self.base_url, url)))

    async def post(self, url: str, form: dict[str, str]) -> httpx.Response:
        """Sends a form."""
        return await self._follow(await self.http.post(urljoin(self.base_url, url), data=form))

    async def _follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect and "/callback" not in answer.headers["location"]:
            answer = await self.http.get(urljoin(str(answer.url), answer.headers["location"]))
        return answer

    async def login_there(self, answer: httpx.Response, login: str, **form: str) -> str:
        """Fills in the provider's form; returns the address of our callback that it leads back to."""
        if not answer.is_redirect:
            answer = await self._follow(await self.http.post(str(answer.url), data={"login": login, **form}))
        assert answer.is_redirect, answer.text
        return urljoin(str(answer.url), answer.headers["location"])

    async def way_there_and_back(self, provider: str, login: str, next_path: str = "/") -> str:
        """From our login page to the address of our callback."""
        answer = await self.get(f"/login/oidc/{provider}?next={next_path}")
        return await self.login_there(answer, login)

    async def sign_in(self, provider: str, login: str, next_path: str = "/") -> httpx.Response:
        """The whole sign-in; the answer is that of our callback."""
        return await self.http.get(await self.way_there_and_back(provider, login, next_path))

    async def me(self) -> dict[str, Any] | None:
        """Who the browser is here; ``None`` if nobody."""
        answer = await self.http.get(f"{self.base_url}/api/v1/me")
        return answer.json() if answer.status_code == 200 else None

    async def csrf(self) -> str:
        """The token for forms of the present session."""
        me = await self.me()
        assert me is not None
        token: str = me["csrf_token"]
        return token

    async def onward(self, answer: httpx.Response) -> httpx.Response:
        """Follows a page that leads on by itself."""
        found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
        assert found is not None, answer.text
        return await self.get(found.group(1).replace("&amp;", "&"))


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@pytest.fixture(scope="session")
async def openid_provider() -> AsyncIterator[OpenIdProvider]:
    """The provider, running; tests say with ``control`` who its clients are."""
    port = _free_port()
    # Another site than that of the API, as browsers see it: a name, not the address.
    provider = OpenIdProvider(f"http://localhost:{port}", port)
    await provider.start()
    yield provider
    await provider.close()
