"""Every route, swept: without credentials, with dead ones, and with each way of holding too little."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import text
from starlette.routing import Route

from api.app import create_app
from api.csrf import csrf_token
from domain.access.permissions import Permission
from domain.projects import ProjectView
from tests.policy.routes import ROUTES
from tests.support.api import ApiServer, Person
from tests.support.factories import TestToken, make_session, make_token, make_user

PROTECTED = [key for key, call in ROUTES.items() if call.needs != "nothing"]
ON_PROJECT = [key for key, call in ROUTES.items() if call.on_project]
ON_PLATFORM = [key for key, call in ROUTES.items() if isinstance(call.needs, Permission) and not call.on_project]


@dataclass
class Scene:
    """One private project and people around it."""

    server: ApiServer
    owner: Person
    project: ProjectView
    other_project: ProjectView
    stranger: Person

    async def call_by_session(self, key: str, person: Person, *, proved_minutes_ago: int = 0) -> httpx.Response:
        """Calls as somebody at a browser."""
        async with self.server.transaction() as session:
            session_id, secret = await make_session(session, person.user)
            await session.execute(
                text("UPDATE auth_sessions SET proved_at = now() - make_interval(mins => :minutes) WHERE id = :id"),
                {"minutes": proved_minutes_ago, "id": session_id},
            )
        csrf = csrf_token(self.server.services.secret_key, session_id)
        headers = {"cookie": f"perdure_session={secret}", "x-csrf-token": csrf}
        return await self.call(key, None, headers)

    async def call(
        self, key: str, token: TestToken | None, more_headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        method, path = key.split(" ", 1)
        call = ROUTES[key]
        values = {"owner": self.project.owner_name, "name": self.project.name, **call.values}
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value)
        extra: dict[str, Any] = {"json": call.body} if call.body is not None else {}
        headers = {**({} if token is None else token.headers), **(more_headers or {})}
        if call.form is not None:
            extra = {"data": call.form}
            headers["content-type"] = "application/x-www-form-urlencoded"
        if call.content_type is not None:
            headers["content-type"] = call.content_type
            extra = {"content": call.raw}
        if call.query:
            path += f"?{call.query}"
        return await self.server.client.request(method, path, headers=headers, **extra)

    async def token(
        self,
        person: Person,
        *,
        scopes: frozenset[str] = frozenset(Permission),
        project_id: UUID | None = None,
        lifetime: timedelta = timedelta(hours=1),
        is_revoked: bool = False,
    ) -> TestToken:
        async with self.server.transaction() as session:
            return await make_token(
                session, person.user, scopes=scopes, project_id=project_id, lifetime=lifetime, is_revoked=is_revoked
            )

    async def holder(self, role: str | None, *, on: ProjectView | None = None) -> TestToken:
        async with self.server.transaction() as session:
            user = await make_user(session, role=role, role_project_id=on.id if on else None)
            return await make_token(session, user)

    async def denials(self, token: TestToken) -> int:
        async with self.server.transaction() as session:
            rows = await session.execute(
                text("SELECT count(*) FROM audit_log WHERE token_id = :id AND outcome = 'denied'"), {"id": token.id}
            )
            return int(rows.scalar_one())


@pytest.fixture(scope="module")
async def scene(api_server: ApiServer) -> Scene:
    owner = await api_server.user()
    project = await api_server.project(owner)
    other = await api_server.project(owner)
    return Scene(api_server, owner, project, other, await api_server.user(role=None))


def _app(server: ApiServer) -> FastAPI:
    return create_app(server.services)


def _permissions(dependant: Dependant) -> set[Permission]:
    found = {permission} if (permission := getattr(dependant.call, "permission", None)) else set()
    return found.union(*(_permissions(inner) for inner in dependant.dependencies))


def test_the_table_holds_exactly_the_routes_that_there_are(api_server: ApiServer) -> None:
    routes = {
        f"{method} {route.path}"
        for route in _app(api_server).router.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes - set(ROUTES) == set(), "new routes: say in tests/policy/routes.py what they need"
    assert set(ROUTES) - routes == set(), "these routes are gone: take them out of tests/policy/routes.py"


def test_the_declared_permission_is_that_of_the_table(api_server: ApiServer) -> None:
    for route in _app(api_server).router.routes:
        if not isinstance(route, APIRoute):
            continue
        for method in route.methods or ():
            declared = _permissions(route.dependant)
            needed = ROUTES[f"{method} {route.path}"].needs
            assert declared <= {needed}, f"{method} {route.path}"


@pytest.mark.parametrize("key", PROTECTED)
async def test_no_credential_and_dead_ones_are_401(scene: Scene, key: str) -> None:
    expired = await scene.token(scene.owner, lifetime=timedelta(seconds=-1))
    revoked = await scene.token(scene.owner, is_revoked=True)
    unknown = TestToken(expired.id, expired.secret[:-8] + "00000000")
    for token in (None, expired, revoked, unknown):
        answer = await scene.call(key, token)
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"]


@pytest.mark.parametrize("key", ON_PROJECT)
async def test_who_may_not_see_the_project_finds_nothing(scene: Scene, key: str) -> None:
    elsewhere = await scene.token(scene.owner, project_id=scene.other_project.id)
    without_read = await scene.token(
        scene.owner, scopes=frozenset(Permission) - {Permission.PROJECT_READ, _needed(key)}
    )
    role_elsewhere = await scene.holder("developer", on=scene.other_project)
    for token in (scene.stranger.token, elsewhere, without_read, role_elsewhere):
        answer = await scene.call(key, token)
        assert answer.status_code == 404, answer.text
        assert scene.project.default_branch not in answer.text
        assert await scene.denials(token) >= 1


@pytest.mark.parametrize("key", [key for key in ON_PROJECT if ROUTES[key].needs is not Permission.PROJECT_READ])
async def test_who_may_see_but_not_do_is_told_the_permission(scene: Scene, key: str) -> None:
    viewer = await scene.holder("viewer")
    reading = await scene.token(scene.owner, scopes=frozenset({"project:read"}))
    for token in (viewer, reading):
        answer = await scene.call(key, token)
        assert answer.status_code == 403, answer.text
        assert str(_needed(key)) in answer.text
        assert await scene.denials(token) == 1


@pytest.mark.parametrize("key", ON_PLATFORM)
async def test_a_platform_permission_is_named_when_missing(scene: Scene, key: str) -> None:
    unscoped = await scene.token(scene.owner, scopes=frozenset(Permission) - {_needed(key)})
    restricted = await scene.token(scene.owner, project_id=scene.project.id)
    for token in (scene.stranger.token, unscoped, restricted):
        answer = await scene.call(key, token)
        assert answer.status_code == 403, answer.text
        assert str(_needed(key)) in answer.text
        assert await scene.denials(token) >= 1


@pytest.mark.parametrize("key", PROTECTED)
async def test_who_holds_the_right_is_let_through(api_server: ApiServer, key: str) -> None:
    admin = await api_server.user(role="admin")
    owner = await api_server.user()
    project = await api_server.project(owner)
    await api_server.services.repositories.ensure(project.id, default_branch=project.default_branch)
    scene = Scene(api_server, owner, project, project, owner)
    call = ROUTES[key]
    person = owner if call.on_project else admin
    answer = await (scene.call(key, person.token) if call.by == "any" else scene.call_by_session(key, person))
    # What is asked for may not exist (a run, a step); the caller's rights never stand in the way.
    assert answer.status_code not in (401, 403), answer.text
    # 503: let through, to Temporal, which no test here has started.
    assert answer.status_code < 500 or answer.status_code == 503, answer.text


@pytest.mark.parametrize("key", [key for key, call in ROUTES.items() if call.by != "any"])
async def test_a_token_does_not_do_what_needs_somebody_at_a_browser(api_server: ApiServer, key: str) -> None:
    admin = await api_server.user(role="admin")
    project = await api_server.project(admin)
    answer = await Scene(api_server, admin, project, project, admin).call(key, admin.token)
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] in ("proof_required", "session_needed")


@pytest.mark.parametrize("key", [key for key, call in ROUTES.items() if call.by == "proof"])
async def test_what_needs_a_recent_proof_is_refused_with_an_old_one(api_server: ApiServer, key: str) -> None:
    admin = await api_server.user(role="admin")
    project = await api_server.project(admin)
    scene = Scene(api_server, admin, project, project, admin)
    answer = await scene.call_by_session(key, admin, proved_minutes_ago=16)
    assert (answer.status_code, answer.json()["code"]) == (403, "proof_required")
    assert answer.json()["details"] == {"how": ["password"]}


def test_the_table_says_which_routes_need_a_recent_proof(api_server: ApiServer) -> None:
    for route in _app(api_server).router.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                declared = _needs_proof(route.dependant)
                assert declared == (ROUTES[f"{method} {route.path}"].by == "proof"), f"{method} {route.path}"


def _needs_proof(dependant: Dependant) -> bool:
    return getattr(dependant.call, "needs_proof", False) or any(map(_needs_proof, dependant.dependencies))


@pytest.mark.parametrize("key", [key for key, call in ROUTES.items() if call.needs == "nothing"])
async def test_open_routes_serve_anybody(scene: Scene, key: str) -> None:
    answer = await scene.call(key, None)
    # Signing in with a wrong password is the one open route that answers 401, and being away is /readyz's to say.
    assert answer.status_code < 500 or key == "GET /readyz"
    assert answer.status_code != 401 or key == "POST /api/v1/sessions"


def _needed(key: str) -> Permission:
    needs = ROUTES[key].needs
    assert isinstance(needs, Permission)
    return needs


OF_FEATURES_TO_COME = {
    *(Permission.AGENT_RUN, Permission.ALERT_MANAGE, Permission.DEPLOY_PROMOTE, Permission.DEPLOY_READ),
    *(Permission.OBSERVE_READ, Permission.OBSERVE_WRITE, Permission.SECRET_READ, Permission.SECRET_WRITE),
}
"""The seed's roles bundle them already; whoever builds the feature takes them from this list."""


def test_every_permission_is_asked_for_somewhere() -> None:
    asked = {call.needs for call in ROUTES.values() if isinstance(call.needs, Permission)}
    assert asked == set(Permission) - OF_FEATURES_TO_COME
