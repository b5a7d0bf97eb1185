"""The browser of these tests: the machine's Chromium, or the one that Playwright brings where there is none."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Playwright, async_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def _program(playwright: Playwright) -> str | None:
    bundled = Path(playwright.chromium.executable_path)
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return found or (str(bundled) if bundled.exists() else None)


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        program = _program(playwright)
        if program is None and not os.environ.get("CI"):
            pytest.skip("needs a browser: make test-packages (with CI set it is required)")
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        await browser.close()
