"""Requests to identity providers: bounded in time and size, without redirects, and not into our own network.

A provider's discovery document names further addresses, so it could make us ask our neighbours. Only the hosts that
the operator named may have internal addresses; every other host is refused when it resolves to one, and the connection
goes to the very address that was checked, so that a second answer of the DNS changes nothing.
"""

import asyncio
import json
import socket
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from domain.errors import Unavailable

ANSWER_SIZE_BYTES_MAX = 512 * 1024
TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 5.0
_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Outbound:
    """The connections to one provider.

    Args:
        title: What the provider is called in messages.
        trusted_hosts: Those that may have internal addresses.
    """

    def __init__(self, title: str, trusted_hosts: Collection[str]) -> None:
        self._title = title
        self._trusted = frozenset(host.lower() for host in trusted_hosts)
        self._client = httpx.AsyncClient(
            transport=_Transport(self._trusted),
            timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "perdure"},
        )

    def away(self, what: str) -> Unavailable:
        """The error that says that the provider cannot be used at the moment."""
        return Unavailable(
            f"{self._title} cannot be used at the moment: {what}. Nothing was changed; try again in a moment.",
            neighbour=self._title,
            retry_after_seconds=10,
        )

    def check_address(self, url: object, what: str) -> str:
        """``url`` if it may be asked at all: HTTPS, or a trusted host of the loopback interface.

        Raises:
            Unavailable: It may not.
        """
        if isinstance(url, str) and url.isprintable():
            parts = urlsplit(url)
            if parts.hostname and (
                parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
            ):
                return url
        raise self.away(f"its {what} is not an https address")

    async def get_json(self, url: str, what: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Reads a JSON object.

        Raises:
            Unavailable: There is no answer, or it is not one with status 200 and a JSON object of reasonable size.
        """
        status, body = await self._ask("GET", url, what, headers=headers or {})
        if status != httpx.codes.OK:
            raise self.away(f"its {what} answers with status {status}")
        return self._object(body, what)

    async def post_form(
        self, url: str, what: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Sends a form; returns the status, which is below 500, and the JSON object of the answer.

        Raises:
            Unavailable: There is no such answer.
        """
        auth = httpx.BasicAuth(*basic) if basic else None
        status, body = await self._ask("POST", url, what, data=dict(form), auth=auth)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in range(300, 400):
            raise self.away(f"its {what} answers with status {status}")
        return status, self._object(body, what)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, url: str, what: str, **more: Any) -> tuple[int, bytes]:  # noqa: ANN401  # handed on to httpx
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._client.stream(method, url, **more) as response:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > ANSWER_SIZE_BYTES_MAX:
                        raise self.away(f"its {what} answers with more than {ANSWER_SIZE_BYTES_MAX} bytes")
                return response.status_code, bytes(body)
        except InternalAddress as error:
            raise self.away(
                f"its {what} is at {error.host!r}, an address of our own network that is not allowed"
            ) from None
        except TimeoutError as error:
            raise self.away(f"its {what} does not answer in {TIMEOUT_SECONDS:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self.away(f"its {what} does not answer") from error

    def _object(self, body: bytes, what: str) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self.away(f"its {what} does not answer with a JSON object")
        return value


class InternalAddress(Exception):
    """A host that is not trusted has no address outside of our network."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, trusted: frozenset[str]) -> None:
        super().__init__(trust_env=False)
        # httpx has no way to hand a network backend on; the pool that it would make is replaced before its first use.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=20,
            keepalive_expiry=5.0,
            network_backend=_CheckedBackend(trusted),
        )


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the address that was checked."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's protocol
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if host.lower() not in self._trusted:
            host = await _public_address(host, port)
        return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def _public_address(host: str, port: int) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    for *_, place in found:
        address = ip_address(str(place[0]).partition("%")[0])
        if address.is_global and not address.is_multicast:
            return str(address)
    raise InternalAddress(host)
