from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.repositories.git_cli import GitRepositories
from adapters.repositories.pipeline_files import READ_SIZE_BYTES_MAX, PipelineSources, read_pipeline_files
from domain.pipelines.problems import Problem
from tests.support.git import Git, new_clone


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
    return await new_clone(tmp_path / "work", url=str(repositories.path(project_id)))


async def read(repositories: GitRepositories, project_id: UUID, git: Git) -> PipelineSources:
    await git("push", "-q", "origin", "HEAD")
    async with repositories.reader(project_id) as reader:
        return await read_pipeline_files(reader, await git.sha())


async def test_a_commit_without_any_is_an_answer(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    await git.commit({"README": "x", ".platform": "a file, no directory"})
    assert await read(repositories, project_id, git) == PipelineSources({})


async def test_what_is_too_large_or_not_meant_is_told_and_hides_nothing(
    repositories: GitRepositories, project_id: UUID, git: Git
) -> None:
    await git.commit(
        {
            ".platform.yml": "a",
            ".platform/b.yaml": "#" * (READ_SIZE_BYTES_MAX + 1),
            ".platform/a.yaml": "#" * READ_SIZE_BYTES_MAX,
        }
    )
    found = await read(repositories, project_id, git)
    assert list(found.contents) == [".platform/a.yaml"]
    assert len(found.contents[".platform/a.yaml"]) == READ_SIZE_BYTES_MAX
    assert [problem.path for problem in found.too_large] == [".platform/b.yaml"]
    assert "the limit" in found.too_large[0].message
    assert [problem.path for problem in found.not_meant] == [".platform.yml"]


async def test_links_and_deeper_files_are_none(repositories: GitRepositories, project_id: UUID, git: Git) -> None:
    (git.directory / ".platform").mkdir()
    (git.directory / ".platform" / "link.yaml").symlink_to("/etc/passwd")
    await git.commit({".platform.yaml": "root", ".platform/z.yaml": "z", ".platform/deep/x.yaml": "x"})
    found = await read(repositories, project_id, git)
    assert dict(found.contents) == {".platform.yaml": b"root", ".platform/z.yaml": b"z"}


def test_one_file_is_chosen_whether_it_could_be_read_or_not() -> None:
    large = Problem(path="b", line=1, column=1, message="too large")
    odd = Problem(path="c.yml", line=1, column=1, message="not read")
    found = PipelineSources({"a": b"1", "d": b"2"}, (large,), (odd,))
    assert found.paths == ("a", "d", "b")
    assert found.only("a") == PipelineSources({"a": b"1"}, (), (odd,))
    assert found.only("b") == PipelineSources({}, (large,), (odd,))
