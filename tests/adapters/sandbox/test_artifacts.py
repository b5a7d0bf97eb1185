"""Nothing that a step leaves behind leads out of its workspace, and nothing blocks."""

import os
import socket
from pathlib import Path

import pytest

from adapters.sandbox.artifacts import ArtifactRefused, Found, find_artifacts, open_artifact


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return path


def fill(workspace: Path, *names: str) -> None:
    for name in names:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(name)


def paths(found: Found) -> list[str]:
    return [file.path for file in found.files]


def reason(found: Found) -> str:
    assert found.files == ()
    assert len(found.refused) == 1, found
    return found.refused[0].reason


@pytest.mark.parametrize(
    ("name", "target", "why"),
    [
        ("link", "../secret", "out of the workspace"),
        ("link", "../workspace/../secret", "out of the workspace"),
        ("link", "/etc/passwd", "absolute"),
        ("link", "missing", "does not exist"),
        ("link", "link", "circle"),
        ("link", ".", "link to a directory"),
        ("link", "dir/up/up", "out of the workspace"),
    ],
)
def test_links_that_lead_astray_are_refused(workspace: Path, name: str, target: str, why: str) -> None:
    (workspace / "dir").mkdir()
    (workspace / "dir" / "up").symlink_to("..")
    (workspace / "up").symlink_to("../secret")
    (workspace / name).symlink_to(target)
    assert why in reason(find_artifacts(workspace, [name]))
    with pytest.raises(ArtifactRefused, match=why), open_artifact(workspace, name):
        pass


@pytest.mark.parametrize("pattern", ["out/**", "out/secret", "out/*", "**/secret"])
def test_a_link_to_a_directory_is_never_walked(workspace: Path, pattern: str) -> None:
    (workspace / "out").symlink_to("../outside")
    found = find_artifacts(workspace, [pattern])
    assert found.files == ()
    assert [refused.path for refused in found.refused] == ([] if pattern.startswith("**") else ["out"])
    with pytest.raises(ArtifactRefused), open_artifact(workspace, "out/secret"):
        pass


def test_fifos_sockets_and_devices_are_refused_without_waiting(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        found = find_artifacts(workspace, ["**"])
    assert [(refused.path, refused.reason.split(";")[0]) for refused in found.refused] == [
        ("fifo", "is a FIFO"),
        ("socket", "is a socket"),
    ]
    if os.geteuid() == 0:
        try:
            os.mknod("null", 0o020666, os.makedev(1, 3))
        except PermissionError:
            return  # A container that may not make devices has none to refuse.
        assert "character device" in reason(find_artifacts(workspace, ["null"]))


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "dir", "missing", ""])
def test_paths_that_are_no_files_below_the_workspace_do_not_open(workspace: Path, path: str) -> None:
    (workspace / "dir").mkdir()
    with pytest.raises(ArtifactRefused), open_artifact(workspace, path):
        pass


def test_an_absolute_path_means_one_below_the_workspace(workspace: Path) -> None:
    with pytest.raises(ArtifactRefused, match="gone"), open_artifact(workspace, "/etc/passwd"):
        pass


def test_names_that_cannot_be_shown_are_refused_with_what_can_be(workspace: Path) -> None:
    Path(os.fsdecode(os.fsencode(workspace) + b"/bad\xff")).write_text("x")
    (workspace / "new\nline").write_text("x")
    found = find_artifacts(workspace, ["*"])
    assert [refused.path for refused in found.refused] == ["bad\\\\xff", "new\\nline"]
    assert "not UTF-8" in found.refused[0].reason
    assert "control character" in found.refused[1].reason


def test_limits_are_named(workspace: Path) -> None:
    fill(workspace, "a", "b", "c")
    assert "more than 2 files" in reason(find_artifacts(workspace, ["*"], files_max=2))
    assert len(find_artifacts(workspace, ["*"], files_max=3).files) == 3
    os.truncate(workspace / "a", 101)
    found = find_artifacts(workspace, ["*"], size_bytes_max=100)
    assert paths(found) == ["b", "c"]
    assert "the limit is 100" in found.refused[0].reason


def test_a_very_deep_tree_ends_somewhere(workspace: Path) -> None:
    deep = workspace
    for _ in range(120):
        deep /= "d"
        deep.mkdir()
    (deep / "file").write_text("x")
    found = find_artifacts(workspace, ["**/file"])
    assert found.files == ()
    assert len(found.refused) == 1


def test_no_workspace_and_no_pattern_mean_nothing(workspace: Path) -> None:
    fill(workspace, "a")
    assert find_artifacts(workspace, []) == Found((), ())
    assert find_artifacts(workspace / "missing", ["**"]) == Found((), ())
    assert find_artifacts(workspace, ["b", "c/**"]) == Found((), ())


def test_patterns_mean_files_in_order_and_each_once(workspace: Path) -> None:
    fill(workspace, "dist/b.whl", "dist/a.whl", "dist/deep/c.txt", "report.xml", ".hidden", "src/x.py", ".git/config")
    assert paths(find_artifacts(workspace, ["dist"])) == ["dist/a.whl", "dist/b.whl", "dist/deep/c.txt"]
    assert paths(find_artifacts(workspace, ["dist/*.whl", "dist/a.whl", "./report.xml"])) == [
        "dist/a.whl",
        "dist/b.whl",
        "report.xml",
    ]
    assert paths(find_artifacts(workspace, ["**/*.txt"])) == ["dist/deep/c.txt"]
    assert ".git/config" not in paths(find_artifacts(workspace, ["**"]))
    assert ".hidden" in paths(find_artifacts(workspace, ["**"]))
    assert paths(find_artifacts(workspace, [".git/config"])) == [".git/config"]


def test_links_inside_the_workspace_are_followed_to_files(workspace: Path) -> None:
    fill(workspace, "lib/real.so.1")
    (workspace / "lib" / "real.so").symlink_to("real.so.1")
    (workspace / "top").symlink_to("lib/../lib/./real.so")
    found = find_artifacts(workspace, ["top", "lib/real.so"])
    assert paths(found) == ["lib/real.so", "top"]
    with open_artifact(workspace, "top") as file:
        assert file.read() == b"lib/real.so.1"


def test_a_file_that_becomes_a_link_in_between_is_met_as_one(workspace: Path) -> None:
    fill(workspace, "dir/file")
    assert paths(find_artifacts(workspace, ["dir/file"])) == ["dir/file"]
    (workspace / "dir" / "file").unlink()
    (workspace / "dir" / "file").symlink_to("../../secret")
    with pytest.raises(ArtifactRefused, match="out of the workspace"), open_artifact(workspace, "dir/file"):
        pass
    (workspace / "dir" / "file").unlink()
    (workspace / "dir").rmdir()
    (workspace / "dir").symlink_to("../outside")
    with pytest.raises(ArtifactRefused), open_artifact(workspace, "dir/secret"):
        pass


def test_no_descriptor_is_left_open(workspace: Path) -> None:
    fill(workspace, "a/b/c", "d")
    (workspace / "l").symlink_to("a/b/c")
    (workspace / "bad").symlink_to("../secret")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        find_artifacts(workspace, ["**"])
        with open_artifact(workspace, "l"):
            pass
        with pytest.raises(ArtifactRefused), open_artifact(workspace, "bad"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
