"""External login in a real Chromium: cookies between two sites and the Content-Security-Policy are what is tested."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import text

from tests.support.factories import PASSWORD
from tests.support.openid_scene import Scene

pytestmark = pytest.mark.browser


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A page of a browser that was never here; what its console says must not be a complaint."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    await context.close()
    # The provider has no icon.
    assert not [one for one in complaints if "404" not in one], complaints


async def sign_in_there(page: Page, login: str) -> None:
    await page.locator("input[name=login]").fill(login)
    await page.get_by_role("button", name="Sign in").click()


async def test_a_button_leads_to_the_provider_and_back_to_where_one_was_going(oidc: Scene, page: Page) -> None:
    assert urlsplit(oidc.provider.issuer).hostname != urlsplit(oidc.server.base_url).hostname
    login = await oidc.account(preferred_username="clicker")
    await page.goto(f"{oidc.server.base_url}/me/providers")
    await page.get_by_role("link", name="Sign in with Corp open").click()
    await sign_in_there(page, login)
    await expect(page.get_by_role("heading", name="Sign-in providers")).to_be_visible()
    await expect(page.get_by_text(login)).to_be_visible()


async def test_linking_leaves_our_site_by_a_form_and_unlinking_needs_another_way_in(oidc: Scene, page: Page) -> None:
    person = await oidc.server.user()
    login = await oidc.account()
    await page.goto(f"{oidc.server.base_url}/login?next=/me/providers")
    await page.get_by_label("Name").fill(person.name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.get_by_role("button", name="Link Corp closed").click()
    await sign_in_there(page, login)
    await expect(page.get_by_text(login)).to_be_visible()
    await page.get_by_role("button", name="Unlink").click()
    await expect(page.get_by_text("None yet.")).to_be_visible()


async def test_the_second_factor_follows_the_provider_though_its_cookies_stay_on_our_site(
    oidc: Scene, page: Page
) -> None:
    login = await oidc.account(preferred_username="second")
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        me = await browser.me()
        assert me is not None
    async with oidc.server.transaction() as session:
        await session.execute(
            text("INSERT INTO totp_factors (user_id, secret, confirmed_at) VALUES (:user, '\\x00', now())"),
            {"user": me["id"]},
        )
    await page.goto(f"{oidc.server.base_url}/login")
    await page.get_by_role("link", name="Sign in with Corp open").click()
    await sign_in_there(page, login)
    await expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    await expect(page.get_by_text(me["name"], exact=True)).to_be_visible()
