"""Passkeys in a real Chromium with a virtual authenticator (CDP), and the pages of second factors on a phone."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, expect

from tests.support.api import ApiServer, Person
from tests.support.factories import PASSWORD
from tests.support.second_factor import audited, code_now, desk, site_origin

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}

pytestmark = pytest.mark.browser


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


class Window:
    """A page with a virtual authenticator, and what it must not complain about."""

    def __init__(self, page: Page, devices: CDPSession, origin: str) -> None:
        self.page = page
        self.devices = devices
        self.origin = origin
        self.authenticator_id = ""
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._on_console(message.type, message.text))

    def _on_console(self, kind: str, text: str) -> None:
        # That a wrong code is answered 401 is what the test asks for; the browser writes it down all the same.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(text)

    async def plug_in(self, **options: Any) -> None:  # noqa: ANN401  # handed on to CDP
        """Adds an authenticator like the one in a phone: it keeps keys and verifies its user."""
        kind = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            **options,
        }
        made = await self.devices.send("WebAuthn.addVirtualAuthenticator", {"options": kind})
        self.authenticator_id = made["authenticatorId"]

    async def verify_user(self, *, verified: bool) -> None:
        await self.devices.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self.authenticator_id, "isUserVerified": verified}
        )

    async def credentials(self) -> list[dict[str, Any]]:
        answer = await self.devices.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator_id})
        found: list[dict[str, Any]] = answer["credentials"]
        return found

    async def goto(self, path: str) -> None:
        await self.page.goto(self.origin + path)

    async def sign_in(self, person: Person, *, next_path: str = "/me/factors") -> None:
        await self.goto(f"/login?next={next_path}")
        await self.page.get_by_label("Name").fill(person.name)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Sign in", exact=True).click()

    async def sign_out(self) -> None:
        await self.page.context.clear_cookies()


@asynccontextmanager
async def window(chromium: Browser, server: ApiServer, **options: object) -> AsyncIterator[Window]:
    settings: dict[str, Any] = {"viewport": WIDE, **options}
    context: BrowserContext = await chromium.new_context(**settings)
    page = await context.new_page()
    devices = await context.new_cdp_session(page)
    await devices.send("WebAuthn.enable")
    made = Window(page, devices, site_origin(server))
    try:
        yield made
        assert made.complaints == []
    finally:
        await context.close()


async def _add_passkey(at: Window, name: str) -> None:
    await at.page.get_by_label("Name, for you to recognise it by").fill(name)
    await at.page.get_by_role("button", name="Add a passkey").click()


async def test_a_passkey_is_made_signs_in_alone_proves_again_and_is_removed(
    chromium: Browser, api_server: ApiServer, person: Person
) -> None:
    async with window(chromium, api_server) as at:
        await at.plug_in()
        await at.sign_in(person)
        await _add_passkey(at, "phone")
        await expect(at.page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
        await expect(at.page.locator(".codes li")).to_have_count(10)
        [credential] = await at.credentials()
        assert (credential["isResidentCredential"], credential["rpId"]) == (True, "localhost")

        await _add_passkey(at, "phone again")
        await expect(at.page.get_by_text("This device or key is registered already.")).to_be_visible()

        await at.sign_out()
        await at.goto("/login?next=/me/factors")
        await at.page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(at.page.get_by_text("phone", exact=True)).to_be_visible()
        await expect(at.page.get_by_text("last used")).to_be_visible()

        async with desk(api_server, person) as other:
            await other.age_proof()
        await at.page.get_by_role("button", name="Remove phone").click()
        await expect(at.page.get_by_role("heading", name="Is it still you?")).to_be_visible()
        await at.page.get_by_role("button", name="Use a passkey").click()
        await expect(at.page.get_by_text("phone", exact=True)).not_to_be_visible()
        await expect(at.page.get_by_role("heading", name="Second factors")).to_be_visible()
    assert await audited(api_server, person, "passkey:delete") == ["success"]
    assert await audited(api_server, person, "session:elevate") == ["success"]


async def test_a_security_key_that_verifies_nobody_is_a_second_factor_only(
    chromium: Browser, api_server: ApiServer, person: Person
) -> None:
    async with window(chromium, api_server) as at:
        await at.plug_in(transport="usb", hasResidentKey=False, hasUserVerification=False, isUserVerified=False)
        await at.sign_in(person)
        await _add_passkey(at, "key")
        await expect(at.page.get_by_text("key", exact=True)).to_be_visible()
        await at.sign_out()
        await at.sign_in(person)
        await expect(at.page.get_by_role("heading", name="Second factor", exact=True)).to_be_visible()
        await at.page.get_by_role("button", name="Use a passkey").click()
        await expect(at.page.get_by_role("heading", name="Second factors")).to_be_visible()


async def test_a_passkey_whose_user_is_not_verified_does_not_sign_in_alone(
    chromium: Browser, api_server: ApiServer, person: Person
) -> None:
    async with window(chromium, api_server) as at:
        await at.plug_in()
        await at.sign_in(person)
        await _add_passkey(at, "phone")
        await expect(at.page.get_by_text("phone", exact=True)).to_be_visible()
        await at.sign_out()
        await at.verify_user(verified=False)
        await at.goto("/login")
        await at.page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(at.page.get_by_text("No passkey was used: it was cancelled, or took too long.")).to_be_visible()
        await expect(at.page.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()


async def test_an_authenticator_app_by_hand_and_a_form_that_waits(
    chromium: Browser, api_server: ApiServer, person: Person
) -> None:
    async with desk(api_server, person) as other:
        secret, codes = await other.set_up_totp()
        async with window(chromium, api_server) as at:
            await at.sign_in(person)
            await at.page.get_by_label("Code").fill("000 000")
            await at.page.get_by_role("button", name="Sign in", exact=True).click()
            await expect(at.page.get_by_role("alert")).to_contain_text("The code is not right")
            await at.page.get_by_label("Code").fill(code_now(secret))
            await at.page.keyboard.press("Enter")
            await expect(at.page.get_by_role("heading", name="Second factors")).to_be_visible()

            await other.age_proof()
            await at.page.get_by_role("button", name="Make new codes").click()
            await expect(at.page.get_by_role("heading", name="Is it still you?")).to_be_visible()
            await at.page.get_by_label("Code of your authenticator app").fill(codes[0])
            await at.page.keyboard.press("Enter")
            await expect(at.page.locator(".codes li")).to_have_count(10)
            await expect(at.page.get_by_text(codes[1])).not_to_be_visible()
    assert await audited(api_server, person, "recovery_codes:create") == ["success", "success"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_fit_a_phone(
    chromium: Browser, api_server: ApiServer, person: Person, scheme: str, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("PERDURE_PICTURES", tmp_path))
    async with window(chromium, api_server, viewport=PHONE, color_scheme=scheme) as at:
        await at.plug_in()

        async def looks_right(name: str) -> None:
            await at.page.screenshot(path=pictures / f"{name}-{scheme}.png", full_page=True)
            assert await at.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name

        await at.goto("/login?next=/me/factors")
        await looks_right("login")
        await at.sign_in(person)
        await looks_right("factors-none")
        await at.page.get_by_role("button", name="Set up an app").click()
        await expect(at.page.get_by_role("img", name="QR code for an authenticator app")).to_be_visible()
        await looks_right("factors-app")
        await at.goto("/me/factors")
        await _add_passkey(at, "a telephone with a rather long name that was typed by its owner")
        await expect(at.page.locator(".codes li")).to_have_count(10)
        await looks_right("factors-passkey")
        await at.goto("/me/proof?next=/me/factors")
        await looks_right("proof")
        await at.sign_out()
        await at.sign_in(person)
        await expect(at.page.get_by_role("heading", name="Second factor", exact=True)).to_be_visible()
        await looks_right("second-factor")
