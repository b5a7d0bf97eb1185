"""Every activity, swept: what acts for somebody does nothing once the right, the credential or the identity is gone."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from inspect import isclass
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, get_args, get_type_hints
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

import activities
from activities.git import GitActivities
from database.engine import Database
from database.store.access.delegations import lend
from database.store.git import note_moved, open_push
from domain.access.decide import RightLost
from domain.access.delegations import Offer
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.git.receive_pack import RefUpdate
from domain.pipelines.messages import PrepareRunInput, RunStepInput, SettlePushInput
from tests.activities.pipelines.scene import Scene, make_scene
from tests.policy.activities import ACTING_FOR_SOMEBODY, THE_PLATFORMS_OWN
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import make_token, make_user
from tests.support.stack import Stack, TestDatabase

MAIN = "refs/heads/main"
PIPELINE = "steps: [{name: build, commands: [echo hello]}]"


def defined() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Name and method of every activity."""
    for found in walk_packages(activities.__path__, f"{activities.__name__}."):
        module = import_module(found.name)
        for holder in vars(module).values():
            if isclass(holder) and holder.__module__ == module.__name__:
                for method in vars(holder).values():
                    definition = getattr(method, "__temporal_activity_definition", None)
                    if definition is not None:
                        yield definition.name, method


def carries_an_actor(annotation: Any) -> bool:  # noqa: ANN401  # an annotation
    """Whether a value of this type may have an actor in it, however deep."""
    if annotation is Actor:
        return True
    if isclass(annotation) and issubclass(annotation, BaseModel):
        return any(carries_an_actor(field.annotation) for field in annotation.model_fields.values())
    return any(carries_an_actor(part) for part in get_args(annotation))


def test_the_list_is_all_of_them() -> None:
    assert not set(ACTING_FOR_SOMEBODY) & set(THE_PLATFORMS_OWN)
    assert {*ACTING_FOR_SOMEBODY, *THE_PLATFORMS_OWN} == {name for name, _ in defined()}
    assert set(ATTEMPTS) == set(ACTING_FOR_SOMEBODY), "say below how it is tried"


@pytest.mark.parametrize(("name", "method"), list(defined()))
def test_what_gets_an_actor_acts_for_somebody(name: str, method: Callable[..., Any]) -> None:
    hints = {key: value for key, value in get_type_hints(method).items() if key != "return"}
    if any(carries_an_actor(hint) for hint in hints.values()):
        assert name in ACTING_FOR_SOMEBODY


@pytest.fixture(scope="module")
async def database(idle_stack: Stack, template_database: TestDatabase) -> AsyncIterator[Database]:
    """One for all tests here: each has people and a project of its own."""
    made = await idle_stack.create_database(template=template_database.name)
    async with Database(made.url, pool_size=5, audit_keys=AUDIT_KEYS) as database:
        yield database
    await idle_stack.drop_database(made)


@dataclass
class Borrowed:
    """An agent that holds a permission because the owner of the scene's project lent it, and uses it with a token."""

    scene: Scene
    actor: Actor

    async def change(self, statement: str) -> None:
        """Takes something away; the statement names ``:user``, ``:token`` or ``:owner``."""
        values = {"user": self.actor.user_id, "token": self.actor.token_id, "owner": self.scene.user.id}
        async with self.scene.database.transaction() as session:
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            await session.execute(text(statement), named)

    async def denials(self) -> list[tuple[str, UUID]]:
        """Action and project of what the audit log says was refused to the agent."""
        async with self.scene.database.transaction() as session:
            rows = await session.execute(
                text("SELECT action, project_id FROM audit_log WHERE actor_id = :id AND outcome = 'denied'"),
                {"id": self.actor.user_id},
            )
            return [(row.action, row.project_id) for row in rows]


async def borrowed(scene: Scene, permission: Permission) -> Borrowed:
    async with scene.database.transaction() as session:
        user = await make_user(session, f"bot-{secrets.token_hex(4)}", role=None, kind="agent")
        await lend(session, scene.user.actor, user.name, Offer(frozenset({permission}), scene.project.id))
        token = await make_token(session, user)
    return Borrowed(
        scene,
        Actor(
            user_id=user.id,
            name=user.name,
            kind="agent",
            token_id=token.id,
            scopes=frozenset(map(str, Permission)),
            on_behalf_of=(scene.user.id,),
        ),
    )


async def runs_of(scene: Scene) -> int:
    async with scene.database.transaction() as session:
        found = await session.execute(
            text("SELECT count(*) FROM pipelines WHERE project_id = :id"), {"id": scene.project.id}
        )
        return int(found.scalar_one())


# How each is ordered while the right is there, and then tried: whether it did what it is for, and why not.
Attempt = Callable[[], Awaitable[tuple[bool, str]]]


async def _settle_push(scene: Scene, actor: Actor) -> Attempt:
    sha = await scene.commit({".platform.yaml": PIPELINE})
    push_id = uuid4()
    async with scene.database.transaction() as session:
        update = RefUpdate(old="0" * 40, new=sha, ref=MAIN)
        await open_push(session, actor, push_id, scene.project.id, updates=[update])
        await note_moved(session, push_id, [MAIN])

    async def attempt() -> tuple[bool, str]:
        git = GitActivities(scene.database, scene.repositories, scene.bus)
        settled = await ActivityEnvironment().run(git.settle_push, SettlePushInput(push_id=push_id))
        assert await runs_of(scene) == len(settled.runs)
        return bool(settled.runs), " ".join(settled.notes)

    return attempt


async def _prepare_run(scene: Scene, actor: Actor) -> Attempt:
    run_id = await scene.run_of(actor=actor, commit_sha=await scene.commit({"a": "1"}))

    async def attempt() -> tuple[bool, str]:
        said = ""
        try:
            await ActivityEnvironment().run(scene.runs.prepare_run, PrepareRunInput(run_id=run_id, actor=actor))
        except RightLost as lost:
            said = lost.message
        return (await scene.run(run_id)).status == "running", said

    return attempt


async def _run_step(scene: Scene, actor: Actor) -> Attempt:
    run_id: UUID = await scene.run_of(actor=actor)
    await scene.sandboxes.create_workspace(run_id)
    await scene.sandboxes.hand_over_workspace(run_id)
    step = await scene.step(run_id)

    async def attempt() -> tuple[bool, str]:
        said, order = "", RunStepInput(run_id=run_id, step_id=step.id, attempt=1, actor=actor)
        try:
            await ActivityEnvironment().run(scene.steps().run_step, order)
        except RightLost as lost:
            said = lost.message
        return bool(scene.sandboxes.ran), said

    return attempt


ATTEMPTS: dict[str, Callable[[Scene, Actor], Awaitable[Attempt]]] = {
    "prepare_run": _prepare_run,
    "run_step": _run_step,
    "settle_push": _settle_push,
}

GONE = {
    "the right": (
        "UPDATE delegations SET revoked_at = now(), revoked_by = :owner WHERE delegate_id = :user",
        "does not hold {permission} here",
    ),
    "the lender": ("UPDATE users SET is_active = false WHERE id = :owner", "does not hold {permission} here"),
    "the credential": ("UPDATE api_tokens SET revoked_at = now() WHERE id = :token", "used was revoked"),
    "the identity": ("UPDATE users SET is_active = false WHERE id = :user", "is deactivated"),
}


@pytest.mark.parametrize("name", ACTING_FOR_SOMEBODY)
async def test_it_works_while_the_right_is_there(database: Database, tmp_path: Path, name: str) -> None:
    who = await borrowed(await make_scene(database, tmp_path), ACTING_FOR_SOMEBODY[name])
    attempt = await ATTEMPTS[name](who.scene, who.actor)
    assert await attempt() == (True, "")


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("name", ACTING_FOR_SOMEBODY)
async def test_it_does_nothing_and_says_why_when_it_is_gone(
    database: Database, tmp_path: Path, name: str, gone: str
) -> None:
    permission, (change, reason) = ACTING_FOR_SOMEBODY[name], GONE[gone]
    who = await borrowed(await make_scene(database, tmp_path), permission)
    attempt = await ATTEMPTS[name](who.scene, who.actor)
    await who.change(change)
    done, said = await attempt()
    assert not done
    assert reason.format(permission=permission.value) in said
    assert await who.denials() == [(permission.value, who.scene.project.id)]
