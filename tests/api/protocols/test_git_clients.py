"""Real clients: git in all its protocol versions and ways of sending, and curl."""

import asyncio
import gzip
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.repositories.git_cli import GitRepositories
from api.services import Limits
from domain.git.pkt_line import FLUSH, encode
from tests.support.api import ApiServer, Person
from tests.support.eventually import eventually
from tests.support.git import Git, new_clone, tip_of
from tests.support.git_server import api_without_temporal
from tests.support.stack import Stack, TestDatabase


@pytest.fixture
async def git(ada: Person, tmp_path: Path) -> Git:
    """A work tree with three commits, pushed to a project that the push made."""
    made = await new_clone(tmp_path / "work", token=ada.token.secret, url=f"{ada.server.base_url}/{ada.name}/demo.git")
    for number in range(3):
        await made.commit({"a.txt": f"{number}\n", f"d{number}/f": "x" * 1000})
    await made("push", "-q", "origin", "main")
    return made


async def audit_count(server: ApiServer, person: Person, action: str) -> int:
    async with server.transaction() as session:
        count = await session.scalar(
            text("SELECT count(*) FROM audit_log WHERE actor_id = :id AND action = :action"),
            {"id": person.user.id, "action": action},
        )
    return int(count or 0)


@pytest.mark.usefixtures("git")
async def test_the_first_push_makes_the_project(ada: Person) -> None:
    answer = await ada.server.client.get(f"/api/v1/projects/{ada.name}/demo", headers=ada.headers)
    assert answer.json()["default_branch"] == "main"
    assert await audit_count(ada.server, ada, "project:create") == 1


async def test_a_first_push_of_another_branch_makes_it_the_default(ada: Person, tmp_path: Path) -> None:
    made = await new_clone(tmp_path / "w", token=ada.token.secret, url=f"{ada.server.base_url}/{ada.name}/old.git")
    await made.commit({"a": "1"})
    await made("push", "-q", "origin", "main:trunk", "main:zweig")
    answer = await ada.server.client.get(f"/api/v1/projects/{ada.name}/old", headers=ada.headers)
    assert answer.json()["default_branch"] == "trunk"
    cloned = await Git(tmp_path, ada.token.secret)("clone", "-q", f"{ada.server.base_url}/{ada.name}/old", "c")
    assert cloned.code == 0
    assert (await Git(tmp_path / "c")("branch", "--show-current")).stdout == "trunk\n"


@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_every_protocol_version_clones_and_fetches(ada: Person, git: Git, tmp_path: Path, version: str) -> None:
    url = f"{ada.server.base_url}/{ada.name}/demo.git"
    client = Git(tmp_path, ada.token.secret)
    await client("-c", f"protocol.version={version}", "clone", "-q", url, "c")
    clone = Git(tmp_path / "c", ada.token.secret)
    await clone("fsck", "--strict")
    assert await clone.sha() == await git.sha()
    assert await audit_count(ada.server, ada, "git:fetch") == 1
    newer = await git.commit({"b": "new"})
    await git("push", "-q", "origin", "main")
    await clone("-c", f"protocol.version={version}", "pull", "-q", "--ff-only")
    assert await clone.sha() == newer
    assert await audit_count(ada.server, ada, "git:fetch") == 2
    await clone("-c", f"protocol.version={version}", "fetch", "-q")
    assert await audit_count(ada.server, ada, "git:fetch") == 2


@pytest.mark.usefixtures("git")
async def test_shallow_and_partial_clones(ada: Person, tmp_path: Path) -> None:
    url = f"{ada.server.base_url}/{ada.name}/demo.git"
    client = Git(tmp_path, ada.token.secret)
    await client("clone", "-q", "--depth=1", url, "shallow")
    shallow = Git(tmp_path / "shallow", ada.token.secret)
    assert (await shallow("rev-list", "--count", "HEAD")).stdout == "1\n"
    await shallow("fetch", "-q", "--unshallow")
    assert (await shallow("rev-list", "--count", "HEAD")).stdout == "3\n"
    await client("clone", "-q", "--filter=blob:none", "--no-checkout", url, "partial")
    partial = Git(tmp_path / "partial", ada.token.secret)
    missing = (await partial("rev-list", "--objects", "--missing=print", "HEAD")).stdout
    assert "?" in missing
    await partial("checkout", "-q", "main")
    assert (tmp_path / "partial/a.txt").read_text() == "2\n"
    # From a shallow clone one may push too: the commands then come with "shallow" lines.
    await client("clone", "-q", "--depth=1", url, "again")
    again = Git(tmp_path / "again", ada.token.secret)
    await again.commit({"c": "from shallow"})
    await again("push", "-q", "origin", "HEAD:refs/heads/from-shallow")


async def test_a_chunked_push_with_a_small_buffer(git: Git) -> None:
    sha = await git.commit({"big.bin": os.urandom(3_000_000)})
    pushed = await git("-c", "http.postBuffer=65536", "push", "origin", "main", env={"GIT_CURL_VERBOSE": "1"})
    assert "Transfer-Encoding: chunked" in pushed.text
    assert await git.sha() == sha


async def test_expect_100_continue_by_git_and_by_curl(ada: Person, git: Git, tmp_path: Path) -> None:
    await git.commit({"more.bin": os.urandom(2_000_000)})
    pushed = await git(
        "-c", "http.postBuffer=65536", "-c", "http.extraHeader=Expect: 100-continue", "push", "origin", "main",
        env={"GIT_CURL_VERBOSE": "1"},
    )  # fmt: skip
    assert "100 Continue" in pushed.text
    body = tmp_path / "body"
    body.write_bytes(gzip.compress(encode(b"command=ls-refs\n") + b"0001" + encode(b"peel\n") + FLUSH))
    config = tmp_path / "curlrc"
    config.write_text(f'user = "x:{ada.token.secret}"\n')
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "-K", str(config), "-H", "Expect: 100-continue", "-H", "Content-Encoding: gzip",
        "-H", "Git-Protocol: version=2", "-H", "Content-Type: application/x-git-upload-pack-request",
        "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{body}",
        f"{ada.server.base_url}/{ada.name}/demo.git/git-upload-pack",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert output.startswith(b"HTTP/1.1 100 Continue")
    assert b"refs/heads/main" in output
    refused = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "-H", "Expect: 100-continue", "-H", "Content-Type: application/x-git-receive-pack-request",
        "--data-binary", f"@{body}", f"{ada.server.base_url}/{ada.name}/demo.git/git-receive-pack",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await refused.communicate()
    assert output.startswith(b"HTTP/1.1 401")


async def test_many_haves_are_sent_as_gzip(ada: Person, git: Git, tmp_path: Path) -> None:
    await Git(tmp_path, ada.token.secret)("clone", "-q", f"{ada.server.base_url}/{ada.name}/demo.git", "c")
    clone = Git(tmp_path / "c", ada.token.secret)
    for number in range(60):
        await clone("commit", "-q", "--allow-empty", "-m", f"mine {number}")
    # So many new tips that the request is over git's 1,024 bytes whatever it has in common.
    for number in range(30):
        await git.commit({"theirs": str(number)})
        await git("branch", f"b{number}")
    await git("push", "-q", "origin", "--all")
    fetched = await clone("fetch", "origin", env={"GIT_CURL_VERBOSE": "1"})
    assert "Content-Encoding: gzip" in fetched.text
    assert await clone.sha("origin/main") == await git.sha()


async def test_push_options_are_kept(ada: Person, git: Git) -> None:
    await git.commit({"o": "1"})
    await git("push", "-q", "-o", "ci.skip", "-o", "x=ü", "origin", "main")
    async with ada.server.transaction() as session:
        options = await session.scalar(text("SELECT push_options FROM pushes ORDER BY created_at DESC LIMIT 1"))
    assert options == ["ci.skip", "x=ü"]


async def test_an_atomic_push_moves_all_refs_or_none(git: Git) -> None:
    first = await git.sha("HEAD~2")
    await git("push", "-q", "origin", f"{first}:refs/heads/b")
    await git.commit({"n": "1"})
    # Behind the client's back "b" moves, so its update fails, and with it the other one.
    await git("push", "-q", "origin", f"{await git.sha('HEAD~2')}:refs/heads/b")
    await git("update-ref", "refs/remotes/origin/b", first)
    refused = await git.try_to(
        "push", "--atomic", f"--force-with-lease=refs/heads/b:{first}", "origin", "main:c", f"{first}:refs/heads/b"
    )
    assert refused.code != 0
    assert "c" not in {line.rsplit("/", 1)[-1] for line in (await git("ls-remote", "origin")).stdout.split()}
    await git("push", "-q", "--atomic", "origin", "main:c", "main:d", "main:refs/tags/t")
    assert (await git("ls-remote", "origin")).stdout.count(await git.sha()) == 3


async def test_eight_clients_at_once(ada: Person, git: Git, tmp_path: Path) -> None:
    url = f"{ada.server.base_url}/{ada.name}/demo.git"

    async def work(number: int) -> None:
        await Git(tmp_path, ada.token.secret)("clone", "-q", url, f"c{number}")
        clone = Git(tmp_path / f"c{number}", ada.token.secret)
        await clone.commit({f"from-{number}": "x" * 10_000})
        await clone("push", "-q", "origin", f"HEAD:refs/heads/by-{number}")

    await asyncio.gather(*(work(number) for number in range(8)))
    listed = (await git("ls-remote", "--heads", "origin")).stdout
    assert listed.count("refs/heads/by-") == 8
    async with ada.server.transaction() as session:
        count = await session.scalar(
            text("SELECT count(*) FROM pushes WHERE actor->>'user_id' = :id"), {"id": str(ada.user.id)}
        )
    assert count == 9


@pytest.mark.usefixtures("git")
async def test_public_projects_are_read_by_every_signed_in_user_and_by_nobody_else(
    api_server: ApiServer, ada: Person, tmp_path: Path
) -> None:
    await api_server.client.patch(
        f"/api/v1/projects/{ada.name}/demo", headers=ada.headers, json={"visibility": "public"}
    )
    bob = await api_server.user(role=None)
    url = f"{api_server.base_url}/{ada.name}/demo.git"
    await Git(tmp_path, bob.token.secret)("clone", "-q", url, "c")
    assert (await Git(tmp_path).try_to("clone", "-q", url, "d")).code != 0


@pytest.fixture
async def strict_server(idle_stack: Stack, migrated: TestDatabase, tmp_path: Path) -> AsyncIterator[ApiServer]:
    limits = Limits(object_size_bytes_max=100_000, push_size_bytes_max=1_000_000)
    async with api_without_temporal(idle_stack, migrated, tmp_path / "strict", limits=limits) as server:
        yield server


async def test_what_is_over_a_limit_is_refused_and_leaves_nothing(strict_server: ApiServer, tmp_path: Path) -> None:
    eve = await strict_server.user()
    work = await new_clone(tmp_path / "w", token=eve.token.secret, url=f"{strict_server.base_url}/{eve.name}/big.git")
    await work.commit({"fine": "x" * 99_000})
    await work("push", "-q", "origin", "main")
    repositories = strict_server.services.repositories
    assert isinstance(repositories, GitRepositories)
    async with strict_server.transaction() as session:
        project_id = await session.scalar(text("SELECT id FROM projects WHERE name = 'big'"))
    before = await tip_of(repositories, project_id, "main")
    objects = repositories.path(project_id) / "objects"

    def files() -> list[Path]:
        return sorted(path for path in objects.rglob("*") if path.is_file() or "incoming" in path.name)

    kept = files()
    for content, reason in (
        (b"x" * 100_001, "has 100001 bytes; the limit is 100000"),
        (os.urandom(1_500_000), "exceeds"),
    ):
        await work.commit({"large": content})
        refused = await work.try_to("push", "origin", "main")
        assert refused.code != 0
        assert reason in refused.text
        assert files() == kept
        await work("reset", "-q", "--hard", "HEAD~1")
    assert await tip_of(repositories, project_id, "main") == before


async def test_a_client_that_is_killed_leaves_no_process(ada: Person, git: Git, tmp_path: Path) -> None:
    repositories = ada.server.services.repositories
    assert isinstance(repositories, GitRepositories)
    root = str(repositories.path(ada.user.id).parent.parent)
    for number in range(3):
        (git.directory / f"large{number}").write_bytes(os.urandom(7_000_000))
    await git.commit({})
    before = (await git("ls-remote", "origin", "refs/heads/main")).stdout

    def processes() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if command[0] == "git" and any(part.startswith(root) for part in command):
                found.append(" ".join(command))
        return found

    # Slow enough to be caught in the middle: git's own transfer encoding, one small buffer after the other.
    pushing = await git.start("-c", "http.postBuffer=65536", "push", "origin", "main")
    await eventually(lambda: any("receive-pack" in one for one in processes()), interval_seconds=0.001)
    os.killpg(pushing.pid, 9)
    await pushing.communicate()
    await eventually(lambda: not processes())
    async with ada.server.transaction() as session:
        outcomes = (await session.execute(text("SELECT status FROM pushes ORDER BY created_at DESC LIMIT 1"))).scalars()
    assert list(outcomes)
    after = (await git("ls-remote", "origin", "refs/heads/main")).stdout
    if before == after:

        async def settled() -> bool:
            async with ada.server.transaction() as session:
                row = (
                    await session.execute(text("SELECT status, outcome FROM pushes ORDER BY created_at DESC LIMIT 1"))
                ).one()
            return bool(row.status == "settled" and row.outcome["moved"] == [])

        await eventually(settled)
    await git("push", "-q", "origin", "main")
    cloning = await Git(tmp_path, ada.token.secret).start(
        "clone", "-q", f"{ada.server.base_url}/{ada.name}/demo.git", "killed"
    )
    await eventually(lambda: any("upload-pack" in one for one in processes()), interval_seconds=0.001)
    os.killpg(cloning.pid, 9)
    await cloning.communicate()
    await eventually(lambda: not processes())
    shutil.rmtree(tmp_path / "killed", ignore_errors=True)
