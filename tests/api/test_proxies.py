from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from starlette.types import Message, Receive, Scope, Send

from api.main import server_config
from settings.values import ApiSettings

PROXY = "10.1.2.3"
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def _settings(*proxies: str) -> ApiSettings:
    return ApiSettings(public_url="https://perdure.example", secret_key=SecretStr("x"), trusted_proxies=list(proxies))


async def _client_seen(settings: ApiSettings, peer: str, *forwarded: str) -> tuple[str, str]:
    """What the application takes the client's address and the scheme to be."""
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # what ASGI prescribes
        seen.update(scope)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        del message

    config = server_config(app, settings)
    config.load()
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded] + [(b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": headers}
    served: App = config.loaded_app
    await served(scope, receive, send)
    return seen["client"][0], seen["scheme"]


@pytest.mark.parametrize("proxy", ["everybody", "*", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_is_no_network_cannot_be_trusted(proxy: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        _settings(proxy)


async def test_nobody_is_believed_unless_the_operator_says_so() -> None:
    assert await _client_seen(_settings(), PROXY, "203.0.113.9") == (PROXY, "http")
    assert await _client_seen(_settings("10.0.0.0/8"), "203.0.113.66", "203.0.113.9") == ("203.0.113.66", "http")


async def test_a_trusted_proxy_is_believed_about_the_nearest_address_that_is_not_trusted() -> None:
    settings = _settings("10.0.0.0/8", "2001:db8::/32")
    assert await _client_seen(settings, PROXY, "203.0.113.9") == ("203.0.113.9", "https")
    invented = "1.1.1.1, 203.0.113.9, 10.9.9.9"
    assert await _client_seen(settings, PROXY, invented) == ("203.0.113.9", "https")
    assert await _client_seen(settings, "2001:db8::5", "1.1.1.1", "203.0.113.9") == ("203.0.113.9", "https")
