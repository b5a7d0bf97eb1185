"""A run stops when whoever started it may not do so any more; what merely ran out stops nothing."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from database.engine import Database
from database.store.access.delegations import lend
from database.store.access.exchange import Exchange, exchange_token
from database.store.access.standing import standing_of
from domain.access.decide import RightLost
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from domain.actors import SYSTEM, Actor
from domain.pipelines.messages import FinishRunInput, PrepareRunInput, RunStepInput
from domain.pipelines.status import RunStatus, StepStatus
from tests.activities.pipelines.scene import Scene, make_scene, step_file
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import TestUser, give_role, make_session, make_token, make_user
from tests.support.pipelines import start_run
from tests.support.stack import Stack, TestDatabase

RUN = Permission.PIPELINE_RUN
AGAIN = step_file(env={"DUMMY_EXIT_CODE": "1", "DUMMY_OUTPUT": "first\n"}, retry={"on": "exit:1", "limit": 3})


@pytest.fixture(scope="module")
async def database(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    """One for all tests here: each has people and a project of its own."""
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> Scene:
    return await make_scene(database, tmp_path)


@dataclass
class Helper:
    """Somebody who runs pipelines by a right of the owner's, each time with a token."""

    scene: Scene
    user: TestUser
    token_id: UUID
    actor: Actor

    async def sql(self, statement: str) -> None:
        values = {"user": self.user.id, "token": self.token_id, "owner": self.scene.user.id}
        values["project"] = self.scene.project.id
        async with self.scene.database.transaction() as session:
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            await session.execute(text(statement), named)

    async def denials(self) -> list[Any]:
        async with self.scene.database.transaction() as session:
            rows = await session.execute(
                text("SELECT action, resource_id FROM audit_log WHERE actor_id = :id AND outcome = 'denied'"),
                {"id": self.user.id},
            )
            return [tuple(row) for row in rows]


async def lent_helper(scene: Scene) -> Helper:
    """Holds ``pipeline:run`` because the owner lent it."""
    async with scene.database.transaction() as session:
        user = await make_user(session, role=None, kind="agent")
        await lend(session, scene.user.actor, user.name, Offer(frozenset({RUN}), scene.project.id))
        token = await make_token(session, user)
    actor = Actor(
        user_id=user.id,
        name=user.name,
        kind="agent",
        token_id=token.id,
        scopes=frozenset(map(str, Permission)),
        on_behalf_of=(scene.user.id,),
    )
    return Helper(scene, user, token.id, actor)


TAKEN = {
    "the delegation is taken back": (
        "UPDATE delegations SET revoked_at = now(), revoked_by = :owner WHERE delegate_id = :user",
        "does not hold pipeline:run here",
    ),
    "the delegation expires": (
        "UPDATE delegations SET expires_at = now() WHERE delegate_id = :user",
        "does not hold pipeline:run here",
    ),
    "the lender is deactivated": (
        "UPDATE users SET is_active = false WHERE id = :owner",
        "does not hold pipeline:run here",
    ),
    "the actor is deactivated": ("UPDATE users SET is_active = false WHERE id = :user", "is deactivated"),
    "the token is revoked": ("UPDATE api_tokens SET revoked_at = now() WHERE id = :token", "used was revoked"),
    "the token is gone": ("DELETE FROM api_tokens WHERE id = :token", "used was revoked"),
    "the token's scopes are cut": (
        "UPDATE api_tokens SET scopes = '{project:read}' WHERE id = :token",
        "do not include pipeline:run",
    ),
    "the project is deleted": ("UPDATE projects SET is_active = false WHERE id = :project", "was deleted"),
}


@pytest.mark.parametrize(("change", "reason"), TAKEN.values(), ids=list(TAKEN))
async def test_what_is_taken_back_stops_a_run_before_and_between_its_attempts(
    scene: Scene, change: str, reason: str
) -> None:
    helper = await lent_helper(scene)
    fresh = await scene.run_of(actor=helper.actor, commit_sha=await scene.commit({"a": "1"}))
    running = await scene.run_of(AGAIN, actor=helper.actor)
    await start_run(scene.database, running)
    await scene.sandboxes.create_workspace(running)
    await scene.sandboxes.hand_over_workspace(running)
    first = await scene.run_step(running)
    assert first.retry_after_seconds is not None
    await helper.sql(change)
    scene.sandboxes.ran.clear()

    with pytest.raises(RightLost, match=reason) as refused:
        await scene.prepare(fresh)
    assert not refused.value.retryable
    assert (await scene.run(fresh)).status == "pending"
    with pytest.raises(RightLost, match=reason):
        await scene.run_step(running, attempt=2, previous="exit code 1")
    assert scene.sandboxes.ran == []
    assert (await scene.step(running)).attempt == 1, "the attempt was not begun"
    assert await helper.denials() == [("pipeline:run", scene.project.id)] * 2

    end = FinishRunInput(run_id=running, status=RunStatus.CANCELLED, error=str(refused.value))
    await ActivityEnvironment().run(scene.runs.finish_run, end)
    run, step = await scene.run(running), await scene.step(running)
    assert (run.status, run.error, step.status) == ("cancelled", str(refused.value), "cancelled")
    assert (await scene.log(running)).startswith("first\n")
    assert running not in await scene.sandboxes.run_ids(), "nothing is left behind"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_tokens SET expires_at = now() WHERE id = :token",
        "DELETE FROM auth_sessions WHERE user_id = :user",
    ],
)
async def test_what_merely_ran_out_stops_nothing(scene: Scene, change: str) -> None:
    helper = await lent_helper(scene)
    async with scene.database.transaction() as session:
        session_id, _ = await make_session(session, helper.user)
    actor = helper.actor if "api_tokens" in change else helper.actor.model_copy(update={"token_id": None})
    run_id = await scene.run_of(actor=actor.model_copy(update={"session_id": session_id}))
    await scene.sandboxes.create_workspace(run_id)
    await scene.sandboxes.hand_over_workspace(run_id)
    await helper.sql(change)
    assert (await scene.run_step(run_id)).status is StepStatus.SUCCESS


async def test_another_path_to_the_right_keeps_a_run_going(scene: Scene) -> None:
    helper = await lent_helper(scene)
    async with scene.database.transaction() as session:
        await give_role(session, helper.user, "ops", project_id=scene.project.id)
    await helper.sql(TAKEN["the lender is deactivated"][0])
    run_id = await scene.run_of(actor=helper.actor)
    await scene.sandboxes.create_workspace(run_id)
    await scene.sandboxes.hand_over_workspace(run_id)
    assert (await scene.run_step(run_id)).status is StepStatus.SUCCESS


async def test_the_actor_of_the_order_is_the_one_who_is_asked_about(scene: Scene) -> None:
    helper = await lent_helper(scene)
    await helper.sql(TAKEN["the actor is deactivated"][0])
    run_id = await scene.run_of(commit_sha=await scene.commit({"a": "1"}))
    order = PrepareRunInput(run_id=run_id, actor=helper.actor)
    with pytest.raises(RightLost):
        await ActivityEnvironment().run(scene.runs.prepare_run, order)
    step = await scene.step(run_id)
    attempt = RunStepInput(run_id=run_id, step_id=step.id, attempt=1, actor=helper.actor)
    with pytest.raises(RightLost):
        await ActivityEnvironment().run(scene.steps().run_step, attempt)
    assert (await scene.prepare(run_id)).status is RunStatus.RUNNING, "the row's own actor still may"


async def test_the_platform_itself_is_never_refused(scene: Scene) -> None:
    run_id = await scene.run_of(actor=SYSTEM, commit_sha=await scene.commit({"a": "1"}))
    assert (await scene.prepare(run_id)).status is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ("UPDATE api_tokens SET expires_at = now() WHERE id IN (:token)", True),
        ("UPDATE auth_sessions SET expires_at = now() WHERE id = :session", True),
        ("UPDATE api_tokens SET revoked_at = now() WHERE id = :token", False),
        ("DELETE FROM auth_sessions WHERE id = :session", False),
        ("UPDATE users SET is_active = false WHERE id = :between", False),
    ],
)
async def test_an_exchanged_token_stands_while_nothing_before_it_was_taken_back(
    scene: Scene, change: str, allowed: bool
) -> None:
    scopes = frozenset({RUN.value})
    async with scene.database.transaction() as session:
        between, last = await make_user(session, role=None), await make_user(session, role=None)
        session_id, _ = await make_session(session, scene.user)
        person = scene.user.actor.model_copy(update={"session_id": session_id})
        hour = timedelta(hours=1)
        first = await exchange_token(
            session, Exchange(person, between.actor, secrets.token_hex(32), scopes, None, hour)
        )
        agent = Actor(
            user_id=between.id, name=between.name, rights_of=scene.user.id, on_behalf_of=(scene.user.id,),
            token_id=first.id, session_id=session_id, scopes=scopes,
        )  # fmt: skip
        second = await exchange_token(session, Exchange(agent, last.actor, secrets.token_hex(32), scopes, None, hour))
        actor = agent.model_copy(
            update={
                "user_id": last.id,
                "name": last.name,
                "token_id": second.id,
                "on_behalf_of": (between.id, scene.user.id),
            }
        )
        assert (await standing_of(session, actor, RUN, scene.project.id)).verdict.allowed
        values = {"token": first.id, "session": session_id, "between": between.id}
        await session.execute(text(change), {name: value for name, value in values.items() if f":{name}" in change})
        assert (await standing_of(session, actor, RUN, scene.project.id)).verdict.allowed == allowed
