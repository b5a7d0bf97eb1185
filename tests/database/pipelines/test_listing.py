from datetime import datetime
from uuid import UUID

import pytest

from database.engine import Database
from database.store.pipelines.listing import ListedRun, listed_runs
from database.store.pipelines.runs import run_by_id
from domain.errors import InvalidInput
from domain.projects import ProjectView
from tests.support.factories import TestUser, make_project, make_user
from tests.support.pipelines import make_run, start_run

PROBLEM = {"path": ".platform.yaml", "line": 1, "column": 2, "message": "no", "suggestion": None}


@pytest.fixture
async def owner(database: Database) -> TestUser:
    async with database.transaction() as session:
        return await make_user(session)


@pytest.fixture
async def project(database: Database, owner: TestUser) -> ProjectView:
    async with database.transaction() as session:
        return await make_project(session, owner)


async def test_a_nul_is_refused(database: Database, project: ProjectView) -> None:
    with pytest.raises(InvalidInput):
        await listed_runs(database, project.id, git_ref="a\0b", limit=1)


async def test_a_listed_run_says_the_same_as_the_whole_one(
    database: Database, project: ProjectView, owner: TestUser
) -> None:
    valid = await make_run(database, project, owner)
    invalid = await make_run(database, project, owner, plan=None, problems=[PROBLEM], rerun_of=valid.run_id)
    await start_run(database, valid.run_id)
    listed = await listed_runs(database, project.id, limit=9)
    async with database.transaction() as session:
        whole = [ListedRun.of(await run_by_id(session, made.run_id)) for made in (invalid, valid)]
    assert listed == whole
    assert [run.has_plan for run in listed] == [False, True]
    assert listed[0].problems == [PROBLEM]


async def test_pages_are_newest_first_and_hold_every_run_once(
    database: Database, project: ProjectView, owner: TestUser
) -> None:
    for _ in range(5):
        await make_run(database, project, owner)
    seen: list[int] = []
    before: tuple[datetime, UUID] | None = None
    while page := await listed_runs(database, project.id, before=before, limit=2):
        seen += [run.number for run in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == [5, 4, 3, 2, 1]


async def test_filters_are_combined_and_other_projects_left_out(
    database: Database, project: ProjectView, owner: TestUser
) -> None:
    async with database.transaction() as session:
        other = await make_project(session, owner)
    await make_run(database, other, owner)
    first = await make_run(database, project, owner, git_ref="refs/heads/a", trigger="api")
    await make_run(database, project, owner, git_ref="refs/heads/b", trigger="api")
    await make_run(database, project, owner, git_ref="refs/heads/a")
    await start_run(database, first.run_id)

    async def numbers(
        *, git_ref: str | None = None, trigger: str | None = None, status: str | None = None
    ) -> list[int]:
        found = await listed_runs(database, project.id, git_ref=git_ref, trigger=trigger, status=status, limit=9)
        return [run.number for run in found]

    assert await numbers() == [3, 2, 1]
    assert await numbers(git_ref="refs/heads/a") == [3, 1]
    assert await numbers(git_ref="refs/heads/a", trigger="api", status="running") == [1]
    assert await numbers(git_ref="refs/heads/b", status="running") == []
