"""Runs over HTTP, with real PostgreSQL, real git repositories and, where it matters, a real Temporal."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client

from deploy.local.temporal import Temporal
from domain.pipelines.status import RunStatus, StepStatus
from domain.projects import ProjectView
from temporal.namespace import ensure_namespace
from tests.support.api import ApiServer, Person
from tests.support.pipelines import (
    HELLO,
    fill_repository,
    finish_run,
    finish_step,
    make_run,
    start_run,
    start_step,
    step_named,
    without_temporal,
)


@pytest.fixture
async def temporal(api_server: ApiServer, temporal_server: Temporal) -> Client:
    """The API's own client of a Temporal that is ready for our workflows; no worker runs."""
    del temporal_server
    await ensure_namespace(api_server.services.temporal)
    return api_server.services.temporal


def runs_path(project: ProjectView) -> str:
    return f"/api/v1/projects/{project.full_name}/pipelines"


async def trigger(server: ApiServer, person: Person, project: ProjectView, **body: object) -> httpx.Response:
    return await server.client.post(runs_path(project), json=body, headers=person.headers)


class TestTrigger:
    @pytest.mark.parametrize("ref", ["-h", "--upload-pack=x", "main~1", "HEAD^{tree}", "a..b", "x" * 1025, ""])
    async def test_refuses_what_is_no_name(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path, ref: str
    ) -> None:
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref=ref)
        assert answer.status_code == 400, answer.text

    async def test_says_when_there_is_no_such_branch(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref="no-such-branch")
        assert answer.status_code == 404
        assert "no-such-branch" in answer.json()["detail"]

    async def test_of_an_empty_project_is_not_found(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        assert (await trigger(api_server, person, project, ref="main")).status_code == 404

    async def test_says_what_to_add_when_there_is_no_pipeline_file(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        await fill_repository(api_server, project, {"README": "x", ".platform.yml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref="main")
        assert answer.status_code == 400
        assert answer.json()["code"] == "no_pipeline"
        assert ".platform.yaml" in answer.json()["detail"]
        assert ".platform.yml:1:1" in answer.json()["detail"]

    async def test_names_the_files_when_config_path_is_none_of_them(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        await fill_repository(api_server, project, {".platform/a.yaml": HELLO, ".platform/b.yaml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref="main", config_path=".platform/c.yaml")
        assert answer.status_code == 400
        assert answer.json()["details"]["config_paths"] == [".platform/a.yaml", ".platform/b.yaml"]

    async def test_refuses_variables_that_cannot_be_environment(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref="main", variables={"NOT A NAME": "x"})
        assert answer.status_code == 400
        assert "NOT A NAME" in answer.json()["detail"]

    async def test_says_so_when_no_step_matches(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        only_push = "steps:\n  - name: a\n    commands: 'true'\n    when: {event: push}\n"
        await fill_repository(api_server, project, {".platform.yaml": only_push}, tmp_path)
        answer = await trigger(api_server, person, project, ref="main")
        assert answer.status_code == 400
        assert answer.json()["code"] == "nothing_to_run"

    async def test_needs_the_permission_to_run(self, api_server: ApiServer, person: Person, tmp_path: Path) -> None:
        project = await api_server.project(person, visibility="internal")
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        viewer = await api_server.user(role="viewer")
        answer = await trigger(api_server, viewer, project, ref="main")
        assert answer.status_code == 403
        assert answer.json()["details"]["permission"] == "pipeline:run"

    async def test_with_temporal_away_keeps_the_run_and_says_that_it_waits(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        sha = await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path, title="Greet")
        async with without_temporal(api_server) as lonely:
            answer = await trigger(lonely, person, project, ref="main", variables={"WHO": "you"})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert "Temporal does not answer" in body["notes"][0]
        (run,) = body["items"]
        assert run["status"] == "pending"
        assert run["waiting_for"]
        assert (run["ref"], run["commit_sha"], run["commit_title"]) == ("refs/heads/main", sha, "Greet")
        assert run["variables"] == {"WHO": "you"}
        assert [step["name"] for step in run["steps"]] == ["build", "test"]
        assert run["steps"][1]["depends_on"] == ["build"]
        assert run["url"] == f"{lonely.base_url}/{project.full_name}/pipelines/{run['id']}"
        assert run["workflow_id"] == f"pipeline-run/{run['id']}"

    async def test_makes_one_run_per_file_and_an_error_of_an_invalid_one(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        files = {".platform/good.yaml": HELLO, ".platform/bad.yaml": "steps:\n  - nam: x\n    commands: y\n"}
        sha = await fill_repository(api_server, project, files, tmp_path)
        answer = await trigger(api_server, person, project, ref=sha)
        assert answer.status_code == 201, answer.text
        runs = {run["name"]: run for run in answer.json()["items"]}
        assert runs["bad"]["status"] == "error"
        assert runs["bad"]["problems"][0]["line"] == 2
        assert runs["bad"]["workflow_id"] is None
        assert runs["good"]["status"] == "pending"
        assert runs["good"]["ref"] == sha

    async def test_a_file_that_is_too_large_to_be_read_makes_an_error_too(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path
    ) -> None:
        files = {".platform/good.yaml": HELLO, ".platform/large.yaml": "#" * 2_000_000}
        await fill_repository(api_server, project, files, tmp_path)
        answer = await trigger(api_server, person, project, ref="main", config_path=".platform/large.yaml")
        assert answer.status_code == 201, answer.text
        [run] = answer.json()["items"]
        assert (run["name"], run["status"]) == ("large", "error")
        assert "the limit" in run["problems"][0]["message"]

    async def test_starts_the_workflow_of_the_run(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path, temporal: Client
    ) -> None:
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        answer = await trigger(api_server, person, project, ref="refs/heads/main")
        assert answer.status_code == 201, answer.text
        run = answer.json()["items"][0]
        assert answer.json()["notes"] == []
        description = await temporal.get_workflow_handle(run["workflow_id"]).describe()
        assert description.workflow_type == "PipelineRunWorkflow"

    async def test_with_an_idempotency_key_makes_the_run_once(
        self, api_server: ApiServer, person: Person, project: ProjectView, tmp_path: Path, temporal: Client
    ) -> None:
        del temporal
        await fill_repository(api_server, project, {".platform.yaml": HELLO}, tmp_path)
        headers = {**person.headers, "Idempotency-Key": "once"}
        answers = [
            await api_server.client.post(runs_path(project), json={"ref": "main"}, headers=headers) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        listed = (await api_server.client.get(runs_path(project), headers=person.headers)).json()
        assert len(listed["items"]) == 1


class TestList:
    async def test_refuses_a_forged_cursor_and_an_unknown_status(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        for query in ("cursor=AAAA", "status=green", "trigger=magic", "limit=0"):
            answer = await api_server.client.get(f"{runs_path(project)}?{query}", headers=person.headers)
            assert answer.status_code == 400, query

    async def test_pages_through_all_runs_once_newest_first(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        made = [str((await make_run(database, project, person.user)).run_id) for _ in range(5)]
        seen: list[str] = []
        url: str | None = f"{runs_path(project)}?limit=2"
        while url:
            page = (await api_server.client.get(url, headers=person.headers)).json()
            seen += [run["id"] for run in page["items"]]
            url = page["next"]
        assert seen == made[::-1]

    async def test_filters_by_status_ref_and_trigger(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        running = await make_run(database, project, person.user, git_ref="refs/heads/topic")
        await start_run(database, running.run_id)
        by_api = await make_run(database, project, person.user, trigger="api")
        for query, expected in (
            ("status=running", running),
            ("ref=refs/heads/topic", running),
            ("trigger=api", by_api),
            ("trigger=api&status=pending", by_api),
        ):
            page = (await api_server.client.get(f"{runs_path(project)}?{query}", headers=person.headers)).json()
            assert [run["id"] for run in page["items"]] == [str(expected.run_id)], query


class TestRead:
    async def test_a_run_of_another_project_is_not_found(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        run = await make_run(api_server.services.database, project, person.user)
        other = await api_server.project(person)
        for run_id, where in ((run.run_id, other), (uuid4(), project)):
            answer = await api_server.client.get(f"{runs_path(where)}/{run_id}", headers=person.headers)
            assert answer.status_code == 404

    async def test_shows_steps_and_the_link_to_temporal(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await start_run(database, run.run_id)
        step_id = await start_step(database, run.run_id, "build")
        await finish_step(database, step_id, StepStatus.FAILURE, exit_code=3)
        body = (await api_server.client.get(f"{runs_path(project)}/{run.run_id}", headers=person.headers)).json()
        build = body["steps"][0]
        assert (build["status"], build["exit_code"], build["attempt"]) == ("failure", 3, 1)
        assert build["log_url"] == f"{runs_path(project)}/{run.run_id}/steps/build/log"
        assert body["workflow_url"].endswith(f"/workflows/pipeline-run%2F{run.run_id}")


class TestCancel:
    async def test_of_an_ended_run_is_a_conflict(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await finish_run(database, run.run_id, RunStatus.CANCELLED)
        answer = await api_server.client.post(f"{runs_path(project)}/{run.run_id}/cancel", headers=person.headers)
        assert answer.status_code == 409
        assert answer.json()["code"] == "run_ended"

    async def test_of_a_pending_run_without_a_workflow_ends_it_at_once(
        self, api_server: ApiServer, person: Person, project: ProjectView, temporal: Client
    ) -> None:
        del temporal
        run = await make_run(api_server.services.database, project, person.user)
        answer = await api_server.client.post(
            f"{runs_path(project)}/{run.run_id}/cancel", headers=person.headers, json={"reason": "wrong branch"}
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["status"] == "cancelled"
        assert body["error"] == f"Cancelled by {person.name}: wrong branch"
        assert {step["status"] for step in body["steps"]} == {"skipped"}

    async def test_with_temporal_away_is_kept_and_shown(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user)
        await start_run(database, run.run_id)
        async with without_temporal(api_server) as lonely:
            answer = await lonely.client.post(f"{runs_path(project)}/{run.run_id}/cancel", headers=person.headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "running"
        assert "being cancelled" in answer.json()["waiting_for"]


class TestRerun:
    async def test_of_a_run_without_a_plan_is_a_conflict(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        run = await make_run(api_server.services.database, project, person.user, plan=None)
        answer = await api_server.client.post(f"{runs_path(project)}/{run.run_id}/rerun", headers=person.headers)
        assert answer.status_code == 409
        assert answer.json()["code"] == "run_has_no_plan"

    async def test_makes_a_new_run_of_the_same_plan(
        self, api_server: ApiServer, person: Person, project: ProjectView
    ) -> None:
        database = api_server.services.database
        run = await make_run(database, project, person.user, variables={"A": "1"})
        answer = await api_server.client.post(f"{runs_path(project)}/{run.run_id}/rerun", headers=person.headers)
        assert answer.status_code == 201, answer.text
        (again,) = answer.json()["items"]
        assert again["id"] != str(run.run_id)
        assert again["rerun_of"] == str(run.run_id)
        assert again["number"] == run.number + 1
        assert again["variables"] == {"A": "1"}
        assert (await step_named(database, again["id"], "test")).depends_on == ["build"]
