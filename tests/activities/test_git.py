"""Pushes made by the real git through the real API, settled by the activities."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from activities.git import REFS_WITH_RUNS_MAX, GitActivities, PushInProgress
from adapters.bus.memory import MemoryBus
from domain.errors import NotFound
from domain.pipelines.messages import SettlePushResult
from domain.pipelines.status import RunStatus
from tests.support.api import ApiServer, Person
from tests.support.git import Git, new_clone
from tests.support.git_server import settle

PIPELINE = """\
steps:
  - name: build
    commands: [echo hello]
"""
WITH_PATHS = """\
name: docs
steps:
  - name: docs
    commands: [echo docs]
    when: {path: "docs/**"}
"""


@pytest.fixture(scope="module")
def api_server(api_server_without_temporal: ApiServer) -> ApiServer:
    """Pushes stay open for these tests to settle."""
    return api_server_without_temporal


@pytest.fixture
def activities(api_server: ApiServer) -> GitActivities:
    return GitActivities(api_server.services.database, api_server.services.repositories, MemoryBus())


@pytest.fixture
async def git(ada: Person, tmp_path: Path) -> Git:
    return await new_clone(tmp_path / "work", token=ada.token.secret, url=f"{ada.server.base_url}/{ada.name}/demo.git")


async def newest_push(ada: Person) -> UUID:
    async with ada.server.transaction() as session:
        found: UUID = await session.scalar(
            text("SELECT id FROM pushes WHERE actor->>'user_id' = :id ORDER BY created_at DESC LIMIT 1"),
            {"id": str(ada.user.id)},
        )
    return found


async def settled(activities: GitActivities, ada: Person) -> SettlePushResult:
    return await settle(activities, await newest_push(ada))


async def runs_of(ada: Person) -> list[Any]:
    async with ada.server.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT git_ref, commit_sha, commit_title, config_path, status, trigger, number FROM pipelines "
                "WHERE triggered_by = :id ORDER BY number"
            ),
            {"id": ada.user.id},
        )
        return list(rows)


async def test_a_push_that_is_not_there(activities: GitActivities) -> None:
    with pytest.raises(NotFound):
        await settle(activities, uuid4())


async def test_a_push_that_git_still_works_on_is_tried_again(activities: GitActivities, ada: Person, git: Git) -> None:
    await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main")
    push_id = await newest_push(ada)
    lock = ada.server.services.repositories.lock_push(push_id)
    assert lock is not None
    with pytest.raises(PushInProgress) as refused:
        await settled(activities, ada)
    assert refused.value.retryable
    assert await runs_of(ada) == []
    async with ada.server.transaction() as session:
        await session.execute(
            text("UPDATE pushes SET created_at = now() - interval '1 minute' WHERE id = :id"), {"id": push_id}
        )
    assert push_id not in (await activities.sweep_pushes()).push_ids
    lock.close()
    assert push_id in (await activities.sweep_pushes()).push_ids
    await settled(activities, ada)
    assert push_id not in (await activities.sweep_pushes()).push_ids


async def test_a_push_makes_its_runs_once_however_often_it_is_settled(
    activities: GitActivities, ada: Person, git: Git
) -> None:
    sha = await git.commit({".platform.yaml": PIPELINE, ".platform/docs.yaml": PIPELINE}, "The title\n\nMore")
    await git("push", "-q", "origin", "main")
    push_id = await newest_push(ada)
    first = await settle(activities, push_id)
    again = await asyncio.gather(*(settle(activities, push_id) for _ in range(4)))
    assert all(one == first for one in again)
    assert [(run.name, run.number, run.status) for run in first.runs] == [
        ("platform", 1, RunStatus.PENDING),
        ("docs", 2, RunStatus.PENDING),
    ]
    assert {run.project for run in first.runs} == {f"{ada.name}/demo"}
    assert [tuple(row) for row in await runs_of(ada)] == [
        ("refs/heads/main", sha, "The title", ".platform.yaml", "pending", "push", 1),
        ("refs/heads/main", sha, "The title", ".platform/docs.yaml", "pending", "push", 2),
    ]
    async with ada.server.transaction() as session:
        audit = (
            await session.execute(
                text("SELECT outcome, detail FROM audit_log WHERE actor_id = :id AND action = 'git:push'"),
                {"id": ada.user.id},
            )
        ).all()
    assert [row.outcome for row in audit] == ["success"]
    assert audit[0].detail["moved_count"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "UPDATE api_tokens SET scopes = '{project:read,project:write}' WHERE user_id = :ada",
            "the scopes of the credential do not include pipeline:run",
        ),
        ("UPDATE api_tokens SET revoked_at = now() WHERE user_id = :ada", "the API token that {ada} used was revoked"),
        ("UPDATE users SET is_active = false WHERE id = :ada", "{ada} is deactivated"),
    ],
)
async def test_a_push_whose_pusher_may_not_run_pipelines_any_more_starts_none_and_says_why(
    activities: GitActivities, ada: Person, git: Git, change: str, reason: str
) -> None:
    await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main")
    push_id = await newest_push(ada)
    async with ada.server.transaction() as session:
        await session.execute(text(change), {"ada": ada.user.id})
    first = await settle(activities, push_id)
    assert (first.runs, await runs_of(ada)) == ((), [])
    told = f"No pipeline was started: this needs pipeline:run, and {reason.format(ada=ada.name)}."
    assert first.notes == (told,)
    assert await settle(activities, push_id) == first
    async with ada.server.transaction() as session:
        rows = await session.execute(
            text(
                "SELECT action, outcome FROM audit_log WHERE actor_id = :id AND action IN ('git:push', 'pipeline:run') "
                "ORDER BY action"
            ),
            {"id": ada.user.id},
        )
        assert [tuple(row) for row in rows] == [("git:push", "success"), ("pipeline:run", "denied")]


async def test_settling_at_the_same_time_makes_one_set_of_runs(
    activities: GitActivities, ada: Person, git: Git
) -> None:
    await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main")
    push_id = await newest_push(ada)
    answers = await asyncio.gather(*(settle(activities, push_id) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(one, SettlePushResult | PushInProgress) for one in answers)
    assert len(await runs_of(ada)) == 1


async def test_an_invalid_file_makes_a_run_that_shows_every_problem(
    activities: GitActivities, ada: Person, git: Git
) -> None:
    await git.commit(
        {".platform.yaml": "steps:\n  - name: x\n    comands: [a]\n", ".platform/big.yaml": "#" * 2_000_000}
    )
    await git("push", "-q", "origin", "main")
    result = await settled(activities, ada)
    told = {run.config_path: run for run in result.runs}
    assert {run.status for run in result.runs} == {RunStatus.ERROR}
    assert any("did you mean 'commands'?" in problem for problem in told[".platform.yaml"].problems)
    assert any("the limit" in problem for problem in told[".platform/big.yaml"].problems)


async def test_what_starts_no_run_says_why(activities: GitActivities, ada: Person, git: Git) -> None:
    await git.commit({"a": "1"})
    await git("push", "-q", "origin", "main")
    result = await settled(activities, ada)
    assert (result.runs, len(result.notes)) == ((), 1)
    assert "no .platform.yaml" in result.notes[0]
    await git.commit({".platform.yaml": PIPELINE}, "Skip me [skip ci]")
    await git("push", "-q", "origin", "main")
    assert "skipped" in (await settled(activities, ada)).notes[0]
    await git.commit({"a": "2"})
    await git("push", "-q", "-o", "ci.skip", "origin", "main")
    assert "skipped" in (await settled(activities, ada)).notes[0]
    await git("tag", "-a", "blob", "-m", "no commit", await git.sha("HEAD:a"))
    await git("push", "-q", "origin", "blob")
    assert "does not point at a commit" in (await settled(activities, ada)).notes[0]
    assert await runs_of(ada) == []


async def test_paths_decide_where_the_changes_are_known(activities: GitActivities, ada: Person, git: Git) -> None:
    await git.commit({".platform/docs.yaml": WITH_PATHS})
    await git("push", "-q", "origin", "main")
    assert len((await settled(activities, ada)).runs) == 1
    await git.commit({"src": "1"})
    await git("push", "-q", "origin", "main")
    result = await settled(activities, ada)
    assert (result.runs, len(result.notes)) == ((), 1)
    await git.commit({"docs/a": "1"})
    await git("push", "-q", "origin", "main")
    assert len((await settled(activities, ada)).runs) == 1


async def test_a_tag_runs_at_its_commit_and_a_deletion_runs_nothing(
    activities: GitActivities, ada: Person, git: Git
) -> None:
    sha = await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main")
    await settled(activities, ada)
    await git("tag", "-a", "v1", "-m", "annotated")
    await git("push", "-q", "origin", "v1")
    [run] = (await settled(activities, ada)).runs
    assert run.git_ref == "refs/tags/v1"
    assert (await runs_of(ada))[-1].commit_sha == sha
    await git("push", "-q", "origin", ":v1")
    assert (await settled(activities, ada)) == SettlePushResult()


async def test_many_refs_at_once_start_a_bounded_number(activities: GitActivities, ada: Person, git: Git) -> None:
    await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main", *(f"main:refs/tags/v{number}" for number in range(25)))
    result = await settled(activities, ada)
    assert len(result.runs) == REFS_WITH_RUNS_MAX
    assert "26 refs were pushed at once" in result.notes[0]


async def test_a_ref_that_moved_on_meanwhile_still_has_the_runs_of_every_push(
    activities: GitActivities, ada: Person, git: Git
) -> None:
    await git.commit({"a": "no pipeline yet"})
    await git("push", "-q", "origin", "main")
    pushes: list[UUID] = []
    shas: list[str] = []
    for number in range(3):
        shas.append(await git.commit({".platform.yaml": PIPELINE, "n": str(number)}))
        await git("push", "-q", "origin", "main:side")
        pushes.append(await newest_push(ada))
    # Even a deletion takes nothing away: what the older pushes did is noted before.
    await git("push", "-q", "origin", "main", ":side")
    pushes.append(await newest_push(ada))
    for push_id in reversed(pushes):
        await settle(activities, push_id)
    found = [(row.git_ref, row.commit_sha) for row in await runs_of(ada)]
    assert sorted(found) == sorted([*(("refs/heads/side", sha) for sha in shas), ("refs/heads/main", shas[-1])])


async def test_a_ref_that_a_push_still_works_on_cannot_be_deleted_by_another(
    ada: Person, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.protocols.git.settling._OLDER_PUSH_WAIT_SECONDS", 0.2)
    await git.commit({"a": "1"})
    await git("push", "-q", "origin", "main", "main:side")
    lock = ada.server.services.repositories.lock_push(await newest_push(ada))
    assert lock is not None
    refused = await git.try_to("push", "origin", ":side")
    assert "another push to it is still under way" in refused.text
    lock.close()
    await git("push", "-q", "origin", ":side")


async def test_two_pushes_of_the_same_commit_make_the_runs_of_one(
    activities: GitActivities, ada: Person, git: Git, tmp_path: Path
) -> None:
    """The slower one is rejected by git; that the ref has its value is not its doing."""
    await git.commit({".platform.yaml": PIPELINE})
    await git("push", "-q", "origin", "main")
    await settled(activities, ada)
    base = await git.sha()
    new = await git.commit({"a": "1"})
    other = await new_clone(
        tmp_path / "other", token=git.token, url=(await git("remote", "get-url", "origin")).stdout.strip()
    )
    await other("fetch", "-q", str(git.directory), "main")
    results = await asyncio.gather(
        *(one.try_to("push", "origin", f"{new}:refs/heads/main") for one in (git, other, git, other))
    )
    assert any(result.code == 0 for result in results)
    async with ada.server.transaction() as session:
        ids = (
            await session.execute(
                text("SELECT id FROM pushes WHERE actor->>'user_id' = :id ORDER BY created_at"),
                {"id": str(ada.user.id)},
            )
        ).scalars()
    for push_id in ids:
        await settle(activities, push_id)
    assert [row.commit_sha for row in await runs_of(ada)] == [base, new]
