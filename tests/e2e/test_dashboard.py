"""The dashboard in a real Chromium: signing in, a run that is live, phones, the keyboard, and JavaScript off."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from adapters.bus.base import run_channel
from adapters.bus.memory import MemoryBus
from domain.pipelines.status import RunStatus, StepStatus
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.eventually import eventually
from tests.support.factories import PASSWORD, make_session
from tests.support.pipelines import (
    HELLO,
    fill_repository,
    finish_run,
    finish_step,
    make_run,
    start_run,
    start_step,
    write_log,
)

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
CASES = Path(__file__).parents[1] / "api" / "pages" / "ansi_cases.json"

pytestmark = pytest.mark.browser


class Watched:
    """A page, and everything about it that must not happen."""

    def __init__(self, page: Page, host: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("request", lambda request: self._on_request(request.url, host))

    def _on_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"console {kind}: {text}")

    def _on_request(self, url: str, host: str) -> None:
        if urlsplit(url).netloc not in (host, ""):
            self.complaints.append(f"asked another host: {url}")


async def opened(
    chromium: Browser, server: ApiServer, person: Person | None, path: str, **options: object
) -> tuple[BrowserContext, Watched]:
    """A fresh browser context, signed in as that person, on a page."""
    settings: dict[str, Any] = {"viewport": WIDE, **options}
    context = await chromium.new_context(**settings)
    if person is not None:
        async with server.transaction() as session:
            _, secret = await make_session(session, person.user)
        await context.add_cookies([{"name": "perdure_session", "value": secret, "url": server.base_url}])
    watched = Watched(await context.new_page(), urlsplit(server.base_url).netloc)
    await watched.page.goto(server.base_url + path)
    return context, watched


async def running(server: ApiServer, person: Person, project: ProjectView, *, yaml: str = HELLO) -> tuple[UUID, UUID]:
    """A run whose step ``build`` runs: both ids."""
    database = server.services.database
    run = await make_run(database, project, person.user, yaml=yaml)
    await start_run(database, run.run_id)
    return run.run_id, await start_step(database, run.run_id, "build")


async def write(server: ApiServer, run_id: UUID, step_id: UUID, data: bytes) -> None:
    await write_log(server.services.database, step_id, data)
    await server.services.bus.publish(run_channel(run_id))


async def shown(page: Page, line: int, text: str, *, timeout_seconds: float = 20) -> None:
    """Waits until a line stands in the window.

    Not ``expect``: with each failing look that draws up an accessibility tree, which takes seconds for a long log.
    """
    seen = """([id, text]) => {
        const row = document.getElementById(id), place = row?.getBoundingClientRect();
        const visible = place && place.bottom > 0 && place.top < innerHeight;
        return visible && row.lastElementChild.textContent.startsWith(text);
    }"""
    await page.wait_for_function(seen, arg=[f"build-L{line}", text], timeout=1000 * timeout_seconds)


async def overflow_px(page: Page) -> int:
    width: int = await page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    return width


async def test_signing_in_leads_to_the_page_that_was_asked_for_and_out_again(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    context, watched = await opened(chromium, api_server, None, f"/{project.full_name}")
    page = watched.page
    await page.get_by_label("Name").fill(person.name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name=project.name)).to_be_visible()
    await expect(page.get_by_text("The repository is empty")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert watched.complaints == []
    await context.close()


async def test_a_live_run_shows_its_log_its_states_and_its_end(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    await write(api_server, run_id, step_id, b"\x1b[36m+ echo building\x1b[0m\nfirst\nhalf of")
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    page = watched.page
    await expect(page.locator("#build-L2")).to_contain_text("first")
    await expect(page.locator("#build-L3")).to_contain_text("half of")
    await write(api_server, run_id, step_id, b" a line\n\x1b[32mgreen\x1b[0m <b>no markup</b>\n")
    await expect(page.locator("#build-L3 > span")).to_have_text("half of a line")
    await expect(page.locator("#build-L4 .f2")).to_have_text("green")
    await expect(page.locator("#build-L4 > span")).to_have_text("green <b>no markup</b>")
    database = api_server.services.database
    await finish_step(database, step_id, StepStatus.FAILURE, exit_code=3)
    await finish_run(database, run_id, RunStatus.FAILURE)
    await api_server.services.bus.publish(run_channel(run_id))
    await expect(page.locator("#log-meta")).to_have_text("ended: failure")
    await expect(page.locator("#state .pill")).to_have_text("failure")
    await expect(page.locator("#node-build")).to_have_class("is-failure chosen")
    await expect(page).to_have_title(f"#1 failure · {project.full_name} · Perdure")
    assert watched.complaints == []
    await context.close()


async def test_the_cancel_button_asks_and_then_cancels(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, _ = await running(api_server, person, project)
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    page = watched.page
    await page.locator("#cancel-button").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Reason").fill("the wrong branch")
    await page.get_by_role("button", name="Cancel this run").click()
    await expect(page.get_by_text("it is being cancelled")).to_be_visible()
    assert watched.complaints == []
    await context.close()


async def test_an_open_confirmation_survives_what_happens_meanwhile(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    page = watched.page
    await page.locator("#cancel-button").click()
    await page.get_by_label("Reason").fill("half a sen")
    await finish_step(api_server.services.database, step_id)
    await write(api_server, run_id, step_id, b"the log goes on\n")
    await expect(page.locator("#log")).to_contain_text("the log goes on")
    await expect(page.get_by_label("Reason")).to_have_value("half a sen")
    await page.keyboard.press("Escape")
    await expect(page.locator("#node-build")).to_have_class("is-success chosen")
    await context.close()


async def test_lines_are_linked_folded_and_loaded_in_pieces(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    data = b"".join(b"line %d %s\n" % (number, b"x" * 90) for number in range(1, 30_001))
    await write_log(api_server.services.database, step_id, data)
    await write_log(api_server.services.database, step_id, b"\x1b[36m+ make\x1b[0m\ninside\n\x1b[36m+ test\x1b[0m\n")
    await finish_step(api_server.services.database, step_id)
    path = f"/{project.full_name}/pipelines/{run_id}?step=build"
    context, watched = await opened(chromium, api_server, person, path)
    page = watched.page
    first = int((await page.locator("#log .row > a").first.text_content()) or "0")
    assert first > 10_000
    await page.locator("#log-earlier button").click()
    await page.locator(f"#build-L{first - 1}").wait_for(state="attached")
    inside = page.locator("#build-L30002")
    await page.locator("#build-L30001 > span").focus()
    await page.keyboard.press("Enter")
    await inside.wait_for(state="hidden")
    await page.keyboard.press("Enter")
    await inside.wait_for(state="visible")
    await page.goto(f"{api_server.base_url}{path}#build-L500")
    await page.reload()
    await shown(page, 500, "line 500 x")
    await page.locator("#log-later button").click()
    await page.locator("#build-L2500").wait_for(state="attached")
    assert watched.complaints == []
    await context.close()


async def test_a_flood_of_output_keeps_the_page_small_and_following(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    page = watched.page
    await expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "true")
    for start in range(0, 60_000, 10_000):
        await write(api_server, run_id, step_id, b"".join(b"line %d\n" % n for n in range(start + 1, start + 10_001)))
    await shown(page, 60_000, "line 60000")
    assert await page.locator("#log .row").count() < 25_000
    assert await page.locator("#log-earlier").is_visible()
    assert watched.complaints == []
    await context.close()


async def test_a_tab_that_nobody_sees_holds_no_connection_and_catches_up(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    page = watched.page
    await write(api_server, run_id, step_id, b"one\nhalf ")
    await expect(page.locator("#build-L2")).to_contain_text("half")
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    bus = api_server.services.bus
    assert isinstance(bus, MemoryBus)
    await page.evaluate(hide, True)
    await eventually(lambda: run_channel(run_id) not in bus._audience.channels)
    await write(api_server, run_id, step_id, b"and half\nthree\n")
    await page.evaluate(hide, False)
    await expect(page.locator("#build-L3 > span")).to_have_text("three")
    await expect(page.locator("#build-L2 > span")).to_have_text("half and half")
    assert await page.locator("#log .row").count() == 3
    assert watched.complaints == []
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_wider_than_a_phone(
    *, chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path, scheme: str
) -> None:
    await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path, title="w" * 300)
    run_id, step_id = await running(api_server, person, project)
    await write(api_server, run_id, step_id, b"x" * 3000 + b"\n")
    for path in ("/", f"/{project.full_name}", f"/{project.full_name}/pipelines/{run_id}", "/no/such"):
        context, watched = await opened(chromium, api_server, person, path, viewport=PHONE, color_scheme=scheme)
        assert await overflow_px(watched.page) <= 0, path
        await context.close()


async def test_without_javascript_everything_can_be_read(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, step_id = await running(api_server, person, project)
    await write(api_server, run_id, step_id, b"\x1b[31mred\x1b[0m\n")
    path = f"/{project.full_name}/pipelines/{run_id}"
    context, watched = await opened(chromium, api_server, person, path, java_script_enabled=False)
    page = watched.page
    await expect(page.locator("#build-L1 .f1")).to_have_text("red")
    await expect(page.locator("#log-follow")).to_be_hidden()
    await page.locator("#node-test").click()
    await expect(page.locator("#log-title")).to_have_text("test")
    await page.locator("#cancel-button").click()
    await page.get_by_role("button", name="Cancel this run").click()
    await expect(page.get_by_text("it is being cancelled")).to_be_visible()
    await context.close()


async def test_lines_are_drawn_as_the_server_draws_them(
    chromium: Browser, api_server: ApiServer, person: Person, project: ProjectView
) -> None:
    run_id, _ = await running(api_server, person, project)
    context, watched = await opened(chromium, api_server, person, f"/{project.full_name}/pipelines/{run_id}")
    for case in json.loads(CASES.read_text()):
        drawn = await watched.page.evaluate(
            """(text) => {
                const line = Ansi.renderLine(text, Ansi.PLAIN), span = document.createElement("span");
                Ansi.fill(span, line.pieces);
                return [span.innerHTML, line.group];
            }""",
            case["text"],
        )
        assert drawn == [case["html"], case["group"]], case["name"]
    await context.close()
