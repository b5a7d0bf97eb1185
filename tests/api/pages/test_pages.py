"""The pages as HTML: who may see what, what stands in them, and that they are safe without JavaScript."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from domain.pipelines.status import RunStatus, StepStatus
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.git_server import api_without_temporal
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
from tests.support.stack import Stack, TestDatabase

HTML = {"accept": "text/html"}


@pytest.fixture
async def browser(api_server: ApiServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with await api_server.browser(person) as client:
        client.headers.update(HTML)
        yield client


def token_in(page: httpx.Response) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


def run_path(project: ProjectView, run_id: UUID) -> str:
    return f"/{project.full_name}/pipelines/{run_id}"


@pytest.mark.parametrize("path", ["/", "/someone/something", "/someone/something/pipelines/{id}"])
async def test_a_stranger_is_led_to_the_login_and_back(api_server: ApiServer, path: str) -> None:
    path = path.format(id="7f0c7c3e-1f0b-4d8f-9b57-0f3c0d1f4d10")
    answer = await api_server.client.get(path, headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2F")


async def test_a_private_project_of_somebody_else_is_not_found(api_server: ApiServer, person: Person) -> None:
    other = await api_server.project(person)
    run = await make_run(api_server.services.database, other, person.user)
    async with await api_server.browser(await api_server.user(role=None)) as browser:
        for path in (f"/{other.full_name}", run_path(other, run.run_id), run_path(other, run.run_id) + "/state"):
            answer = await browser.get(path, headers=HTML)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_no_page_has_inline_script_or_style(
    api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView, tmp_path: Path
) -> None:
    await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
    run = await make_run(api_server.services.database, project, person.user)
    for path in ("/", f"/{project.full_name}", run_path(project, run.run_id)):
        page = await browser.get(path)
        assert page.status_code == 200, page.text
        assert not re.search(r"\sstyle=|<style|<script(?![^>]*\ssrc=\"/static/)|\son\w+=", page.text), path
        assert not re.search(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)', page.text), path
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy


class TestProjects:
    async def test_an_empty_list_says_what_to_push(
        self, idle_stack: Stack, migrated: TestDatabase, tmp_path: Path
    ) -> None:
        # On a server of its own: on the shared one, other tests make projects that everybody may see.
        async with api_without_temporal(idle_stack, migrated, tmp_path) as server:
            newcomer = await server.user(role=None)
            async with await server.browser(newcomer) as browser:
                page = await browser.get("/", headers=HTML)
            assert f"git push {server.base_url}/{newcomer.name}/NAME.git main" in page.text
            assert "New project" not in page.text

    async def test_a_bad_name_shows_the_form_again_with_the_reason(self, browser: httpx.AsyncClient) -> None:
        token = token_in(await browser.get("/"))
        answer = await browser.post("/projects", data={"name": "No Good", "csrf_token": token})
        assert answer.status_code == 400
        assert 'value="No Good"' in answer.text
        assert "lower-case letters" in answer.text

    async def test_making_one_without_the_csrf_token_is_refused(self, browser: httpx.AsyncClient) -> None:
        assert (await browser.post("/projects", data={"name": "sneaky"})).status_code == 403

    async def test_making_one_leads_to_its_page(self, browser: httpx.AsyncClient, person: Person) -> None:
        token = token_in(await browser.get("/"))
        answer = await browser.post("/projects", data={"name": "fresh", "csrf_token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/{person.name}/fresh")
        page = await browser.get(answer.headers["location"])
        assert "The repository is empty" in page.text
        assert f"/{person.name}/fresh.git" in page.text

    async def test_a_page_shows_branches_commits_and_runs(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        sha = await fill_repository(
            api_server, project, {".platform.yaml": HELLO}, tmp_path, title="<b>Bold</b> commit"
        )
        await fill_repository(api_server, project, {"x": "y"}, tmp_path, branch="topic", title="On the topic")
        run = await make_run(api_server.services.database, project, person.user, commit_sha=sha)
        page = (await browser.get(f"/{project.full_name}")).text
        assert "&lt;b&gt;Bold&lt;/b&gt; commit" in page
        assert "topic" in page
        assert page.count(str(run.run_id)) == 2, "in the list of runs and at its commit"
        topic = (await browser.get(f"/{project.full_name}?branch=topic")).text
        assert "Last commits of topic" in topic
        assert (await browser.get(f"/{project.full_name}?branch=none")).status_code == 404

    async def test_runs_are_filtered(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        pending = await make_run(database, project, person.user)
        failed = await make_run(database, project, person.user, git_ref="refs/heads/topic")
        await start_run(database, failed.run_id)
        await finish_run(database, failed.run_id, RunStatus.FAILURE)
        page = (await browser.get(f"/{project.full_name}?status=failure&ref=")).text
        assert str(failed.run_id) in page
        assert str(pending.run_id) not in page
        page = (await browser.get(f"/{project.full_name}?status=&ref=refs/heads/topic")).text
        assert str(failed.run_id) in page
        assert str(pending.run_id) not in page
        assert "No run is like that" in (await browser.get(f"/{project.full_name}?status=cancelled")).text


class TestRun:
    async def test_shows_the_log_of_the_step_that_failed(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await start_run(database, run.run_id)
        await finish_step(database, await start_step(database, run.run_id, "build"))
        step_id = await start_step(database, run.run_id, "test")
        await write_log(database, step_id, b"\x1b[31m<script>alert(1)</script>\x1b[0m\nlast words without a line feed")
        await finish_step(database, step_id, StepStatus.FAILURE, exit_code=1)
        page = (await browser.get(run_path(project, run.run_id))).text
        assert '<span class="f1">&lt;script&gt;alert(1)&lt;/script&gt;</span>' in page
        assert 'id="test-L2"' in page
        assert "last words" in page
        build = (await browser.get(run_path(project, run.run_id) + "?step=build")).text
        assert "This step wrote nothing." in build
        assert (await browser.get(run_path(project, run.run_id) + "?step=none")).status_code == 404

    async def test_of_a_long_log_shows_the_end_with_true_line_numbers(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await start_run(database, run.run_id)
        step_id = await start_step(database, run.run_id, "build")
        for start in range(0, 40_000, 10_000):
            lines = "".join(f"this is line {number}\n" for number in range(start + 1, start + 10_001))
            await write_log(database, step_id, (lines + "").encode().replace(b"this", b"this" * 10))
        await finish_step(database, step_id)
        path = run_path(project, run.run_id)
        page = (await browser.get(path)).text
        first = re.search(r'id="build-L(\d+)"', page)
        assert first
        number = int(first[1])
        assert number > 1000
        assert re.search(rf'id="build-L{number}">.*?is line {number}</span>', page)
        assert 'id="build-L40000"' in page
        before = (await browser.get(f"{path}/steps/build/lines?before={number}")).json()
        assert before["text"].endswith(f" is line {number - 1}\n")
        assert before["text"].startswith("thisthis")
        assert f" is line {before['first_line']}\n" in before["text"].split("\n")[0] + "\n"
        middle = (await browser.get(f"{path}/steps/build/lines?start=12345")).json()
        assert middle["text"].split("\n")[0].endswith(" is line 12345")
        last = (await browser.get(f"{path}/steps/build/lines?start=39999")).json()
        assert (last["next_line"], last["at_end"]) == (40_001, True)
        beyond = (await browser.get(f"{path}/steps/build/lines?start=50000")).json()
        assert (beyond["text"], beyond["at_end"]) == ("", True)

    async def test_shows_every_problem_of_an_invalid_file(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        problem = {"path": ".platform.yaml", "line": 3, "column": 5, "message": "unknown key 'comands'"}
        run = await make_run(
            api_server.services.database,
            project,
            person.user,
            plan=None,
            problems=[{**problem, "suggestion": "commands"}],
        )
        page = (await browser.get(run_path(project, run.run_id))).text
        assert ".platform.yaml:3:5" in page
        assert "unknown key &#39;comands&#39;" in page
        assert "<strong>commands</strong>" in page

    async def test_says_what_it_waits_for_and_links_to_temporal(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        run = await make_run(api_server.services.database, project, person.user)
        page = (await browser.get(run_path(project, run.run_id))).text
        assert "Waits for a worker to pick it up." in page
        assert f"/workflows/pipeline-run%2F{run.run_id}" in page

    async def test_a_viewer_gets_no_buttons_and_may_not_use_them(self, api_server: ApiServer, person: Person) -> None:
        project = await api_server.project(person, visibility="internal")
        run = await make_run(api_server.services.database, project, person.user)
        viewer = await api_server.user(role="viewer")
        async with await api_server.browser(viewer) as browser:
            page = await browser.get(run_path(project, run.run_id), headers=HTML)
            assert "cancel-button" not in page.text
            data = {"csrf_token": token_in(page)}
            answer = await browser.post(run_path(project, run.run_id) + "/cancel", data=data, headers=HTML)
            assert answer.status_code == 403

    async def test_run_again_makes_a_run_and_leads_to_it(
        self, api_server: ApiServer, browser: httpx.AsyncClient, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await finish_run(database, run.run_id, RunStatus.CANCELLED)
        path = run_path(project, run.run_id)
        data = {"csrf_token": token_in(await browser.get(path))}
        answer = await browser.post(path + "/rerun", data=data)
        assert answer.status_code == 303
        assert "repeats an earlier run" in (await browser.get(answer.headers["location"])).text

    async def test_running_a_branch_leads_to_the_run(
        self, api_server: ApiServer, browser: httpx.AsyncClient, project: ProjectView, tmp_path: Path
    ) -> None:
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        page = await browser.get(f"/{project.full_name}")
        data = {"csrf_token": token_in(page), "ref": "main", "variables": "WHO=you\n\nWHERE = here"}
        refused = await browser.post(f"/{project.full_name}/pipelines", data={**data, "variables": "nonsense"})
        assert refused.status_code == 400
        answer = await browser.post(f"/{project.full_name}/pipelines", data=data)
        assert answer.status_code == 303, answer.text
        run = (await browser.get(answer.headers["location"])).text
        assert "<code>WHO</code>" in run
        assert "<code>WHERE</code>" in run


async def test_static_files_are_served_with_their_types(api_server: ApiServer) -> None:
    for name, kind in (
        ("app.css", "text/css"),
        ("ansi.css", "text/css"),
        ("log.js", "javascript"),
        ("vendor/htmx.min.js", "javascript"),
        ("icons.svg", "image/svg+xml"),
        ("favicon.svg", "image/svg+xml"),
    ):
        answer = await api_server.client.get(f"/static/{name}")
        assert answer.status_code == 200, name
        assert kind in answer.headers["content-type"]
    assert (await api_server.client.get("/static/../app.py")).status_code == 404
