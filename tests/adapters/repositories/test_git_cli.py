import asyncio
import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.repositories.git_cli import GitRepositories
from adapters.repositories.git_process import GitFailed, GitProcess, git_environment, run_git
from domain.errors import InvalidInput, NotFound, TooLarge
from domain.git.receive_pack import RefUpdate
from domain.git.refs import ZERO_SHA
from tests.support.eventually import eventually
from tests.support.git import Git, new_clone, tip_of


@pytest.fixture
def repositories(tmp_path: Path) -> GitRepositories:
    return GitRepositories(tmp_path / "root", object_size_bytes_max=10**8, push_size_bytes_max=10**9)


@pytest.fixture
async def project_id(repositories: GitRepositories) -> UUID:
    made = uuid4()
    await repositories.ensure(made, default_branch="main")
    return made


@pytest.fixture
async def git(tmp_path: Path, repositories: GitRepositories, project_id: UUID) -> Git:
    """A work tree whose remote is the bare repository itself."""
    return await new_clone(tmp_path / "work", url=str(repositories.path(project_id)))


async def pushed(git: Git, files: dict[str, str | bytes], message: str = "A change") -> str:
    sha = await git.commit(files, message)
    await git("push", "-q", "origin", "HEAD")
    return sha


@pytest.mark.parametrize("revision", ["", "-x", "--help", "main~1", "main..main", ":a.txt", "@{1}", "no branch"])
async def test_a_revision_that_is_no_name_never_reaches_git(
    repositories: GitRepositories, project_id: UUID, revision: str
) -> None:
    with pytest.raises(InvalidInput):
        async with repositories.reader(project_id) as reader:
            await reader.resolve(revision)


@pytest.mark.parametrize("revision", ["nope", "refs/heads/nope", "0" * 40, "f" * 40])
async def test_a_revision_that_is_not_there_is_not_found(
    repositories: GitRepositories, project_id: UUID, git: Git, revision: str
) -> None:
    await pushed(git, {"a": "1"})
    with pytest.raises(NotFound):
        async with repositories.reader(project_id) as reader:
            await reader.resolve(revision)


async def test_a_project_without_a_repository_is_not_found(repositories: GitRepositories) -> None:
    with pytest.raises(NotFound):
        await repositories.branches(uuid4())


async def test_ids_that_are_none_are_refused(repositories: GitRepositories, project_id: UUID, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        await repositories.commits(project_id, "--all")
    with pytest.raises(InvalidInput):
        await repositories.checkout(project_id, "HEAD", tmp_path / "out")
    with pytest.raises(InvalidInput):
        await repositories.changed_paths(project_id, "x", "y")


async def test_names_are_resolved_and_a_branch_goes_before_a_tag(
    repositories: GitRepositories, project_id: UUID, git: Git
) -> None:
    first = await pushed(git, {"a": "1"})
    await git("tag", "-a", "both", "-m", "annotated")
    second = await pushed(git, {"a": "2"})
    await git("branch", "both")
    await git("push", "-q", "origin", "refs/heads/both", "refs/tags/both")
    async with repositories.reader(project_id) as reader:
        assert (await reader.resolve("main")).commit.sha == second
        assert (await reader.resolve("both")).ref == "refs/heads/both"
        tag = await reader.resolve("refs/tags/both")
        assert (tag.ref, tag.commit.sha) == ("refs/tags/both", first)
        bare = await reader.resolve(first)
        assert (bare.ref, bare.commit.sha) == (None, first)


async def test_objects_are_read(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    sha = await pushed(git, {"a.txt": "hello", "d/b": b"\0" * 5000}, "Title ü\n\nBody")
    await git("update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
    (git.directory / "link").symlink_to("a.txt")
    sha = await pushed(git, {}, "More")
    async with repositories.reader(project_id) as reader:
        commit = await reader.commit(sha)
        assert commit is not None
        assert (commit.title, commit.author_name, commit.author_email) == ("More", "Ada", "ada@example.org")
        [parent] = commit.parents
        before = await reader.commit(parent)
        assert before is not None
        assert before.message == "Title ü\n\nBody\n"
        kinds = {entry.name: entry.kind for entry in await reader.tree(sha)}
        assert kinds["a.txt"] == "blob"
        assert kinds["d"] == "tree"
        assert kinds["link"] == "link"
        [inner] = await reader.tree(sha, "d")
        with pytest.raises(TooLarge):
            await reader.blob(inner.sha, size_bytes_max=4999)
        # The reader goes on after a refusal, and after questions without an answer.
        assert await reader.blob(inner.sha, size_bytes_max=5000) == b"\0" * 5000
        assert await reader.tree(sha, "nope") == []
        assert await reader.commit("0" * 39 + "1") is None
        assert await reader.commit(inner.sha) is None
        with pytest.raises(NotFound):
            await reader.blob("0" * 39 + "1", size_bytes_max=1)
        with pytest.raises(InvalidInput):
            await reader.tree(sha, "a\nb")


async def test_a_commit_with_a_nul_in_its_message_can_be_stored(
    repositories: GitRepositories, project_id: UUID, git: Git, tmp_path: Path
) -> None:
    sha = await pushed(git, {"a": "1"})
    raw = tmp_path / "raw"
    raw.write_bytes((await git("cat-file", "commit", sha)).stdout.encode().replace(b"A change", b"A\0change"))
    bare = str(repositories.path(project_id))
    odd = (await git("--git-dir", bare, "hash-object", "-w", "-t", "commit", "--literally", str(raw))).stdout.strip()
    async with repositories.reader(project_id) as reader:
        commit = await reader.commit(odd)
    assert commit is not None
    assert (commit.title, commit.author_name) == ("A change", "Ada")


async def test_branches_and_history(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    shas = [await pushed(git, {"a": str(number)}, f"Number {number}") for number in range(3)]
    await git("push", "-q", "origin", f"{shas[0]}:refs/heads/old")
    assert {branch.name: branch.commit.sha for branch in await repositories.branches(project_id)} == {
        "main": shas[2],
        "old": shas[0],
    }
    assert [commit.sha for commit in await repositories.commits(project_id, shas[2])] == shas[::-1]
    [middle] = await repositories.commits(project_id, shas[2], skip=1, limit=1)
    assert middle.title == "Number 1"
    assert await repositories.is_ancestor(project_id, shas[0], shas[2])
    assert not await repositories.is_ancestor(project_id, shas[2], shas[0])


async def test_changed_paths_are_unknown_beyond_the_limit(
    repositories: GitRepositories, project_id: UUID, git: Git
) -> None:
    first = await pushed(git, {"a": "1", "gone": "x"})
    (git.directory / "gone").unlink()
    second = await pushed(git, {"a": "2", "d/ü b": "new"})
    changed = await repositories.changed_paths(project_id, first, second)
    assert set(changed or ()) == {"a", "gone", "d/ü b"}
    assert await repositories.changed_paths(project_id, first, second, limit=2) is None
    assert await repositories.changed_paths(project_id, ZERO_SHA, second) is None
    with pytest.raises(GitFailed):
        await repositories.changed_paths(project_id, "1" * 40, second)


async def test_a_checkout_shares_nothing_with_the_server(
    repositories: GitRepositories, project_id: UUID, git: Git, tmp_path: Path
) -> None:
    (git.directory / "run.sh").write_text("#!/bin/sh\n")
    (git.directory / "run.sh").chmod(0o755)
    await pushed(git, {"a": "1"})
    sha = await pushed(git, {"a": "2", "d/e": "3"})
    out = tmp_path / "out"
    await repositories.checkout(project_id, sha, out)
    inside = Git(out)
    assert (out / "a").read_text() == "2"
    assert os.access(out / "run.sh", os.X_OK)
    assert await inside.sha() == sha
    assert (await inside("status", "--porcelain")).stdout == ""
    assert len((await inside("log", "--format=%H")).stdout.split()) == 1
    await inside("fsck", "--strict")
    await inside("commit", "-q", "--allow-empty", "-m", "a step may commit")
    assert all(path.stat().st_nlink == 1 for path in out.rglob("*") if path.is_file())
    assert not (out / ".git/objects/info/alternates").exists()


async def test_the_packs_tell_how_much_there_is(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    with pytest.raises(NotFound):
        await repositories.packed_size_bytes(uuid4())
    noise = os.urandom(100_000).hex()
    await pushed(git, {"noise": noise})
    await repositories.maintain(project_id)
    assert 100_000 < await repositories.packed_size_bytes(project_id) < 150_000


async def test_a_checkout_starts_over(
    repositories: GitRepositories, project_id: UUID, git: Git, tmp_path: Path
) -> None:
    sha = await pushed(git, {"a": "1"})
    out = tmp_path / "out"
    (out / "left/over").mkdir(parents=True)
    (out / "link").symlink_to("/etc")
    (out / ".git").mkdir()
    for _ in range(2):
        await repositories.checkout(project_id, sha, out)
        assert sorted(path.name for path in out.iterdir()) == [".git", "a"]
    with pytest.raises(GitFailed, match="bad object"):
        await repositories.checkout(project_id, "1" * 40, out)


async def test_a_repository_is_made_once_however_many_ask(repositories: GitRepositories) -> None:
    project_id = uuid4()
    assert not repositories.exists(project_id)
    await asyncio.gather(*(repositories.ensure(project_id, default_branch="trunk") for _ in range(8)))
    assert (repositories.path(project_id) / "HEAD").read_text() == "ref: refs/heads/trunk\n"
    assert not any((repositories.path(project_id).parent.parent / "new").iterdir())
    await repositories.ensure(project_id, default_branch="main")
    assert (repositories.path(project_id) / "HEAD").read_text() == "ref: refs/heads/main\n"
    await repositories.remove(project_id)
    await repositories.remove(project_id)
    assert not repositories.exists(project_id)


async def test_maintenance_keeps_everything_readable(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    # As ``serve_push`` has it, where every push stays a pack.
    await git("--git-dir", str(repositories.path(project_id)), "config", "receive.unpackLimit", "1")
    for number in range(3):
        sha = await pushed(git, {"a": str(number)})
    left = repositories.path(project_id) / "objects" / "tmp_objdir-incoming-old"
    left.mkdir()
    os.utime(left, (1, 1))
    assert await repositories.crowded(packs_min=2, limit=9) == [project_id]
    await repositories.maintain(project_id)
    await repositories.maintain(project_id)
    assert not left.exists()
    assert await repositories.crowded(packs_min=2, limit=9) == []
    assert len(list((repositories.path(project_id) / "objects/pack").glob("*.pack"))) == 1
    assert await tip_of(repositories, project_id, "main") == sha
    assert len(await repositories.commits(project_id, sha)) == 3


async def test_a_push_is_evidenced_by_its_id(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    """The reflog of the bare repository names the push; here git is run with the identity that ``serve_push`` sets."""
    mine, other = uuid4(), uuid4()

    async def push_as(push_id: UUID, *arguments: str) -> None:
        identity = {"GIT_COMMITTER_NAME": "Perdure", "GIT_COMMITTER_EMAIL": f"{push_id}@push.perdure"}
        await git("push", "-q", "-f", "origin", *arguments, env=identity)

    await git("--git-dir", str(repositories.path(project_id)), "config", "core.logAllRefUpdates", "always")
    first, second = await git.commit({"a": "1"}), await git.commit({"a": "2"})
    ref = "refs/heads/x"
    made, moved = RefUpdate(ZERO_SHA, first, ref), RefUpdate(first, second, ref)

    def facts(push_id: UUID, *updates: RefUpdate) -> list[bool]:
        return repositories.moved_updates(project_id, push_id, updates)

    assert facts(mine, made, moved, RefUpdate(ZERO_SHA, first, "refs/heads/x/y")) == [False, False, False]
    await push_as(mine, f"{first}:{ref}")
    assert facts(mine, made, moved) == [True, False]
    assert facts(other, made) == [False]
    await push_as(other, f"{second}:{ref}")
    # Both happened, although only one is still to be seen in the ref; and after packing too.
    assert facts(mine, made) == [True]
    assert facts(other, moved) == [True]
    await repositories.maintain(project_id)
    assert (facts(mine, made), facts(other, moved)) == ([True], [True])
    assert facts(mine, moved) == [False]


async def test_an_entry_of_the_reflog_without_its_ref_is_no_proof(
    repositories: GitRepositories, project_id: UUID, git: Git
) -> None:
    """Git writes the entry before the ref: killed in between, the ref never moved."""
    first, second, push_id = await pushed(git, {"a": "1"}), await git.commit({"a": "2"}), uuid4()
    reflog = repositories.path(project_id) / "logs/refs/heads/main"
    reflog.parent.mkdir(parents=True, exist_ok=True)
    with reflog.open("a") as file:
        file.write(f"{first} {second} Perdure <{push_id}@push.perdure> 1 +0000\tpush\n")
    update = RefUpdate(first, second, "refs/heads/main")
    assert repositories.moved_updates(project_id, push_id, [update]) == [False]
    third = await git.commit({"a": "3"})
    with reflog.open("a") as file:
        file.write(f"{first} {third} Perdure <{uuid4()}@push.perdure> 1 +0000\tpush\n")
    assert repositories.moved_updates(project_id, push_id, [update]) == [False]


async def test_a_lock_is_free_only_when_the_last_process_that_inherited_it_is_gone(
    repositories: GitRepositories,
) -> None:
    push_id = uuid4()
    lock = repositories.lock_push(push_id)
    assert lock is not None
    process = GitProcess(["cat-file", "--batch"], environment=dict(os.environ), inherited_fds=(lock.fd,))
    assert repositories.lock_push(push_id) is None
    lock.close()
    lock.close()
    assert repositories.lock_push(push_id) is None
    await process.stop()
    again = repositories.lock_push(push_id)
    assert again is not None
    again.remove()
    third = repositories.lock_push(push_id)
    assert third is not None
    third.close()


async def test_only_locks_that_nobody_needs_are_discarded(repositories: GitRepositories) -> None:
    held, kept, old = uuid4(), uuid4(), uuid4()
    locks = {one: repositories.lock_push(one) for one in (held, kept, old)}
    for one in (kept, old):
        lock = locks[one]
        assert lock is not None
        lock.close()
    repositories.discard_locks(unused_seconds=3600, keep=frozenset())
    repositories.discard_locks(unused_seconds=-1, keep=frozenset({kept}))
    root = repositories.path(held).parent.parent
    assert {path.name for path in (root / "locks").iterdir()} == {str(held), str(kept)}
    lock = locks[held]
    assert lock is not None
    lock.close()


async def test_git_inherits_nothing_of_our_environment(
    repositories: GitRepositories, project_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'a.b=c'")
    environment = git_environment(Path("/dev/null"))
    assert not {"GIT_DIR", "GIT_CONFIG_PARAMETERS"} & set(environment)
    assert await repositories.branches(project_id) == []


async def test_git_that_hangs_or_talks_too_much_is_stopped() -> None:
    environment = git_environment(Path("/dev/null"))
    with pytest.raises(GitFailed, match="did not end"):
        await run_git(["-c", "alias.hang=!sleep 60", "hang"], environment=environment, timeout_seconds=0.2)
    with pytest.raises(GitFailed, match="more than"):
        await run_git(["-c", "alias.talk=!yes", "talk"], environment=environment, output_size_bytes_max=1000)
    with pytest.raises(GitFailed, match="not a git command"):
        await run_git(["frobnicate"], environment=environment)


async def test_stopping_ends_the_whole_group() -> None:
    process = GitProcess(
        ["-c", "alias.hang=!trap '' TERM; sleep 61 & sleep 61", "hang"], environment=git_environment(Path("/dev/null"))
    )
    members = Path("/proc")

    def group() -> list[str]:
        found = []
        for status in members.glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[2] == str(process.pid) and fields[0] != "Z":
                found.append(status.parent.name)
        return found

    await eventually(lambda: len(group()) >= 3)
    await asyncio.gather(process.stop(), process.stop())
    await eventually(lambda: not group())


def test_a_hook_is_always_executable(tmp_path: Path) -> None:
    GitRepositories(tmp_path, object_size_bytes_max=1, push_size_bytes_max=1)
    GitRepositories(tmp_path, object_size_bytes_max=1, push_size_bytes_max=1)
    [hook] = tmp_path.glob("shared/*/hooks/pre-receive")
    assert os.access(hook, os.X_OK)
