"""Every unsafe route leaves its row in the audit log: when it did something, and when it was denied."""

import pytest
from sqlalchemy import text

from domain.access.permissions import Permission
from tests.policy.routes import ROUTES
from tests.policy.test_routes import Scene
from tests.support.api import ApiServer, Person

SAFE = ("GET", "HEAD", "OPTIONS")
UNSAFE = [key for key, call in ROUTES.items() if key.split()[0] not in SAFE and call.needs != "nothing"]
WITH_PERMISSION = [key for key in UNSAFE if isinstance(ROUTES[key].needs, Permission)]

CHANGES_NOTHING = {
    "POST /api/v1/temporal/codec/decode": "reads payloads for the Temporal UI",
    "POST /api/v1/temporal/codec/encode": "reads payloads for the Temporal UI",
    "POST /{owner}/{name}.git/git-upload-pack": "the sweep asks for nothing; a fetch that sends objects has its row",
    "POST /{owner}/{name}.git/git-receive-pack": "the sweep pushes nothing; a push that opens has its row",
    "POST /api/v1/me/factors/passkeys/options": "hands out a challenge",
    "DELETE /api/v1/sessions": "there is no other session to end",
    "POST /me/sessions/end-others": "as above",
    "POST /me/sessions/{session_id}/end": "there is no such session",
    "POST /me/tokens/{token_id}/revoke": "there is no such token",
    "POST /me/factors/totp/remove": "there is no authenticator app",
    "POST /me/proof": "the swept form proves nothing, and shows the form again",
    "POST /logout": "a token has no session to end",
}
"""Routes that answer a swept call well and have nothing to tell of, with the reason."""


async def rows_of(server: ApiServer, person: Person, outcome: str | None = None) -> int:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT count(*) FROM audit_log WHERE actor_id = :id AND (:outcome = '' OR outcome = :outcome)"),
            {"id": person.user.id, "outcome": outcome or ""},
        )
        return int(rows.scalar_one())


@pytest.mark.parametrize("key", UNSAFE)
async def test_what_is_done_is_written_down(api_server: ApiServer, key: str) -> None:
    call = ROUTES[key]
    person = await api_server.user(role="developer" if call.on_project else "admin")
    project = await api_server.project(person)
    await api_server.services.repositories.ensure(project.id, default_branch=project.default_branch)
    scene = Scene(api_server, person, project, project, person)
    before = await rows_of(api_server, person)
    answer = await (scene.call(key, person.token) if call.by == "any" else scene.call_by_session(key, person))
    if answer.is_success or answer.is_redirect:
        assert await rows_of(api_server, person) > before or CHANGES_NOTHING.get(key), f"{key} left no row"


@pytest.mark.parametrize("key", WITH_PERMISSION)
async def test_what_was_denied_is_written_down(api_server: ApiServer, key: str) -> None:
    owner, stranger = await api_server.user(), await api_server.user(role=None)
    project = await api_server.project(owner)
    scene = Scene(api_server, owner, project, project, stranger)
    answer = await (
        scene.call(key, stranger.token) if ROUTES[key].by == "any" else scene.call_by_session(key, stranger)
    )
    assert answer.status_code in (403, 404), answer.text
    assert await rows_of(api_server, stranger, "denied") == 1
