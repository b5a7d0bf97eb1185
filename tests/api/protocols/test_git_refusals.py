"""What the git server refuses, and that nothing is left of it."""

import gzip
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from adapters.repositories.git_cli import GitRepositories
from domain.git.pkt_line import FLUSH, encode
from domain.git.refs import ZERO_SHA
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.factories import make_token
from tests.support.git import Git, new_clone, tip_of

RECEIVE = {"Content-Type": "application/x-git-receive-pack-request"}
UPLOAD = {"Content-Type": "application/x-git-upload-pack-request"}
A = "a" * 40


def repositories_of(server: ApiServer) -> GitRepositories:
    repositories = server.services.repositories
    assert isinstance(repositories, GitRepositories)
    return repositories


def left_of(server: ApiServer, project_id: UUID) -> list[str]:
    """Objects and quarantines of a project's repository."""
    objects = repositories_of(server).path(project_id) / "objects"
    found = (path for path in objects.rglob("*") if path.is_file() or "incoming" in path.name)
    return [str(path.relative_to(objects)) for path in found if path.name not in ("commit-graph", "packs")]


async def pushes_of(server: ApiServer, project_id: UUID) -> list[tuple[str, Any]]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT status, outcome FROM pushes WHERE project_id = :id ORDER BY created_at"), {"id": project_id}
        )
        return [(row.status, row.outcome) for row in rows]


def url_of(server: ApiServer, project: ProjectView) -> str:
    return f"{server.base_url}/{project.full_name}.git"


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (None, 401),
        ("", 401),
        ("hunter2", 401),
        ("prd_" + "x" * 49, 401),
    ],
)
async def test_without_a_good_token_there_is_a_challenge(
    api_server: ApiServer, project: ProjectView, password: str | None, expected: int
) -> None:
    auth = None if password is None else ("any", password)
    async with httpx.AsyncClient(base_url=api_server.base_url, auth=auth, trust_env=False) as client:
        answer = await client.get(f"/{project.full_name}.git/info/refs?service=git-upload-pack")
    assert answer.status_code == expected
    assert answer.headers["www-authenticate"].startswith('Basic realm="')
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_malformed_authorization_is_a_challenge(api_server: ApiServer, project: ProjectView) -> None:
    for header in ("Basic", "Basic %%%", "Basic bm9jb2xvbg==", "Digest x", "Bearer", "Bearer nonsense"):
        answer = await api_server.client.get(
            f"/{project.full_name}.git/info/refs?service=git-upload-pack", headers={"Authorization": header}
        )
        assert answer.status_code == 401, header


async def test_expired_revoked_and_narrowed_tokens(
    api_server: ApiServer, ada: Person, project: ProjectView, tmp_path: Path
) -> None:
    elsewhere = await api_server.project(ada)
    async with api_server.transaction() as session:
        expired = await make_token(session, ada.user, lifetime=timedelta(seconds=-1))
        other = await make_token(session, ada.user, project_id=elsewhere.id)
        reader = await make_token(session, ada.user, scopes=frozenset({"project:read"}))
    git = await new_clone(tmp_path / "w", url=url_of(api_server, project))
    await git.commit({"a": "1"})
    refused = await Git(git.directory, expired.secret).try_to("push", "origin", "main")
    assert refused.code != 0
    assert "Authentication failed" in refused.text
    refused = await Git(git.directory, other.secret).try_to("push", "origin", "main")
    assert "not found" in refused.text
    refused = await Git(git.directory, reader.secret).try_to("push", "origin", "main")
    assert "This needs the permission project:write" in refused.text
    assert "403" in refused.text
    assert (await Git(git.directory, reader.secret).try_to("fetch", "origin")).code == 0
    assert await pushes_of(api_server, project.id) == []


async def test_a_strangers_private_project_looks_like_none(
    api_server: ApiServer, project: ProjectView, ada: Person
) -> None:
    bob = await api_server.user(role=None)
    answers = [
        await api_server.client.get(f"/{name}.git/info/refs?service={service}", auth=("x", bob.token.secret))
        for name in (project.full_name, f"{ada.name}/nothing", "nobody/nothing")
        for service in ("git-upload-pack", "git-receive-pack")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1


async def test_a_project_that_one_may_see_but_not_change_names_the_permission(
    api_server: ApiServer, ada: Person, tmp_path: Path
) -> None:
    shown = await api_server.project(ada, visibility="internal")
    bob = await api_server.user(role=None)
    git = await new_clone(tmp_path / "w", token=bob.token.secret, url=url_of(api_server, shown))
    await git.commit({"a": "1"})
    assert (await git.try_to("ls-remote", "origin")).code == 0
    refused = await git.try_to("push", "origin", "main")
    assert "project:write" in refused.text
    async with api_server.transaction() as session:
        outcome = await session.scalar(
            text("SELECT outcome FROM audit_log WHERE actor_id = :id AND action = 'project:write'"), {"id": bob.user.id}
        )
    assert outcome == "denied"


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd.git/info/refs?service=git-upload-pack",
        "/%2e%2e/%2e%2e.git/info/refs?service=git-upload-pack",
        "/a/..%2f..%2fb.git/info/refs?service=git-upload-pack",
        "/a/%00.git/info/refs?service=git-upload-pack",
        "/a/-x.git/info/refs?service=git-receive-pack",
    ],
)
async def test_names_that_are_paths_lead_nowhere(api_server: ApiServer, ada: Person, path: str) -> None:
    answer = await api_server.client.get(path, auth=("x", ada.token.secret))
    assert answer.status_code in (400, 404)


async def test_the_dumb_protocol_and_unknown_services_are_refused_clearly(
    api_server: ApiServer, ada: Person, project: ProjectView
) -> None:
    auth = ("x", ada.token.secret)
    for query in ("", "?service=git-upload-archive", "?service=-x"):
        answer = await api_server.client.get(f"/{project.full_name}.git/info/refs{query}", auth=auth)
        assert answer.status_code == 400
        assert "smart HTTP" in answer.text
    for path in ("HEAD", "objects/info/packs", "config", "objects/../config"):
        answer = await api_server.client.get(f"/{project.full_name}.git/{path}", auth=auth)
        assert answer.status_code == 404
    wrong = await api_server.client.post(f"/{project.full_name}.git/git-upload-pack", auth=auth, content=b"0000")
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"", None, 400),
        (b"00", None, 400),
        (b"zzzz", None, 400),
        (b"fff1", None, 400),
        (b"00a0" + b"x" * 20, None, 400),
        (encode(b"hello") + FLUSH, None, 400),
        (b"not gzip", "gzip", 400),
        (gzip.compress(b"0000", mtime=0)[:-6], "gzip", 400),
        (b"0000", "br", 400),
        (gzip.compress(b"0" * 50_000_000, mtime=0), "gzip", 400),
        (encode(b"x" * 65000) * 80, None, 400),
        (FLUSH, None, 200),
    ],
)
async def test_a_body_that_is_no_push_is_refused(
    project: ProjectView, ada: Person, body: bytes, encoding: str | None, status: int
) -> None:
    api_server = ada.server
    headers = RECEIVE | ({"Content-Encoding": encoding} if encoding else {})
    answer = await api_server.client.post(
        f"/{project.full_name}.git/git-receive-pack", auth=("x", ada.token.secret), content=body, headers=headers
    )
    assert answer.status_code == status, answer.text
    assert await pushes_of(api_server, project.id) == []


@pytest.mark.parametrize("protocol", [None, "version=2"])
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", None),
        (b"00", None),
        (b"zzzz", None),
        (os.urandom(100_000), None),
        (encode(b"want x\n") + FLUSH, None),
        (encode(b"hello\n") + FLUSH, None),
        (encode(f"want {A}\n".encode()), None),
        (b"", "gzip"),
        (gzip.compress(b"", mtime=0), "gzip"),
        (gzip.compress(encode(b"x" * 65000) * 4000, mtime=0), "gzip"),
    ],
)
async def test_a_body_that_is_no_fetch_is_refused(
    ada: Person, project: ProjectView, protocol: str | None, body: bytes, encoding: str | None
) -> None:
    headers = UPLOAD | ({"Content-Encoding": encoding} if encoding else {})
    headers |= {"Git-Protocol": protocol} if protocol else {}
    answer = await ada.server.client.post(
        f"/{project.full_name}.git/git-upload-pack", auth=("x", ada.token.secret), content=body, headers=headers
    )
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_commit_that_is_not_there_is_told_by_git(ada: Person, project: ProjectView) -> None:
    body = encode(f"want {A}\n".encode()) + FLUSH + encode(b"done\n")
    answer = await ada.server.client.post(
        f"/{project.full_name}.git/git-upload-pack", auth=("x", ada.token.secret), content=body, headers=UPLOAD
    )
    assert answer.status_code == 200
    assert b"ERR upload-pack: not our ref" in answer.content


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ({"project:create", "project:read", "project:write"}, False),
        ({"project:create", "project:write", "admin:users"}, True),
        ({"project:write", "admin:users"}, False),
    ],
)
async def test_a_push_in_the_name_of_another_needs_both_scopes(
    api_server: ApiServer, ada: Person, scopes: set[str], allowed: bool
) -> None:
    root = await api_server.user(role="admin")
    async with api_server.transaction() as session:
        token = await make_token(session, root.user, scopes=frozenset(scopes))
    answer = await api_server.client.get(
        f"/{ada.name}/brand-new.git/info/refs?service=git-receive-pack", auth=("x", token.secret)
    )
    assert answer.status_code == (200 if allowed else 404), answer.text


async def test_a_first_push_to_a_name_of_ones_own_says_what_it_needs(api_server: ApiServer) -> None:
    viewer = await api_server.user(role="viewer")
    path = f"/{viewer.name}/brand-new.git/info/refs"
    told = await api_server.client.get(f"{path}?service=git-receive-pack", auth=("x", viewer.token.secret))
    assert (told.status_code, "needs the permission project:create" in told.text) == (403, True)
    fetched = await api_server.client.get(f"{path}?service=git-upload-pack", auth=("x", viewer.token.secret))
    assert fetched.status_code == 404


async def test_a_push_that_stops_in_its_pack_leaves_nothing(
    api_server: ApiServer, ada: Person, project: ProjectView
) -> None:
    head = encode(f"{ZERO_SHA} {A} refs/heads/main\0report-status side-band-64k".encode()) + FLUSH
    for pack in (b"", b"PACK", b"PACK\0\0\0\2\0\0\0\1garbage", b"PACK\0\0\0\2\xff\xff\xff\xff" + os.urandom(5000)):
        answer = await api_server.client.post(
            f"/{project.full_name}.git/git-receive-pack",
            auth=("x", ada.token.secret),
            content=head + pack,
            headers=RECEIVE,
        )
        assert answer.status_code == 200
        assert b"ng refs/heads/main" in answer.content
    assert left_of(api_server, project.id) == []
    assert [(status, outcome["moved"]) for status, outcome in await pushes_of(api_server, project.id)] == [
        ("settled", [])
    ] * 4


async def test_refs_that_may_not_be_pushed_are_named_and_the_rest_is_refused_with_them(
    api_server: ApiServer, ada: Person, project: ProjectView, tmp_path: Path
) -> None:
    git = await new_clone(tmp_path / "w", token=ada.token.secret, url=url_of(api_server, project))
    await git.commit({"a": "1"})
    refused = await git.try_to("push", "origin", "main:refs/notes/x", "main")
    assert refused.code != 0
    assert "[remote rejected] main -> refs/notes/x (only refs/heads/* and refs/tags/* may be pushed)" in refused.text
    assert "[remote rejected] main -> main (refused together with refs/notes/x)" in refused.text
    assert left_of(api_server, project.id) == []
    assert await pushes_of(api_server, project.id) == []
    async with api_server.transaction() as session:
        detail = await session.scalar(
            text("SELECT detail FROM audit_log WHERE project_id = :id AND outcome = 'denied'"), {"id": project.id}
        )
    assert list(detail) == ["refs/notes/x"]


async def test_the_default_branch_only_moves_forward(
    api_server: ApiServer, ada: Person, project: ProjectView, tmp_path: Path
) -> None:
    git = await new_clone(tmp_path / "w", token=ada.token.secret, url=url_of(api_server, project))
    first = await git.commit({"a": "1"})
    second = await git.commit({"a": "2"})
    await git("push", "origin", "main", "main:other")
    deleted = await git.try_to("push", "origin", ":main")
    assert "(protected: the default branch cannot be deleted)" in deleted.text
    await git("reset", "-q", "--hard", first)
    forced = await git.commit({"a": "3"})
    before = left_of(api_server, project.id)
    refused = await git.try_to("push", "-f", "origin", "main")
    assert refused.code != 0
    assert "remote: perdure: refs/heads/main is protected: it only moves forward." in refused.text
    assert left_of(api_server, project.id) == before
    repositories = repositories_of(api_server)
    assert await tip_of(repositories, project.id, "main") == second
    # Any other branch may be forced and deleted.
    await git("push", "-f", "origin", "main:other")
    assert await tip_of(repositories, project.id, "other") == forced
    await git("push", "origin", ":other")
    assert [branch.name for branch in await repositories.branches(project.id)] == ["main"]


async def test_a_name_that_the_owner_may_not_create(api_server: ApiServer, tmp_path: Path) -> None:
    viewer, ada = await api_server.user(role="viewer"), await api_server.user()
    nothing_there = "There is no such project, or you may not see it."
    for person, name, said in (
        (viewer, f"{viewer.name}/new", "needs the permission project:create"),
        (ada, f"{viewer.name}/new", nothing_there),
    ):
        git = await new_clone(
            tmp_path / person.name, token=person.token.secret, url=f"{api_server.base_url}/{name}.git"
        )
        await git.commit({"a": "1"})
        refused = await git.try_to("push", "origin", "main")
        assert said in refused.text
    bad = await new_clone(tmp_path / "bad", token=ada.token.secret, url=f"{api_server.base_url}/{ada.name}/Bad.git")
    await bad.commit({"a": "1"})
    assert "A project cannot be called 'Bad'" in (await bad.try_to("push", "origin", "main")).text


async def test_a_push_to_an_organisation_makes_a_project_for_its_owners_only(
    api_server: ApiServer, ada: Person, tmp_path: Path
) -> None:
    member, name = await api_server.user(), f"acme-{ada.name[-10:]}"
    organization = f"/api/v1/organizations/{name}"
    client = api_server.client
    await client.post("/api/v1/organizations", headers=ada.headers, json={"name": name})
    await client.post(f"{organization}/teams", headers=ada.headers, json={"name": "crew"})
    await client.put(f"{organization}/teams/crew/members/{member.name}", headers=ada.headers)
    url = f"{api_server.base_url}/{name}/new.git"
    refused = await new_clone(tmp_path / "member", token=member.token.secret, url=url)
    await refused.commit({"a": "1"})
    assert "There is no such project" in (await refused.try_to("push", "origin", "main")).text
    git = await new_clone(tmp_path / "owner", token=ada.token.secret, url=url)
    await git.commit({"a": "1"})
    await git("push", "origin", "main")
    project = (await client.get(f"/api/v1/projects/{name}/new", headers=ada.headers)).json()
    assert (project["owner"], project["visibility"]) == (name, "private")
    assert (await client.get(f"/api/v1/projects/{name}/new", headers=member.headers)).status_code == 200


async def test_a_method_that_is_none(api_server: ApiServer, ada: Person, project: ProjectView) -> None:
    answer: httpx.Response = await api_server.client.put(
        f"/{project.full_name}.git/git-receive-pack", auth=("x", ada.token.secret)
    )
    assert answer.status_code == 405
