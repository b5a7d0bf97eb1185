"""What a step sees of the host's ``/etc``."""

import os
import time
from pathlib import Path
from uuid import UUID

import pytest

from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.system import FILES_SIZE_BYTES_MAX, FORGET_SECONDS, LOOK_SECONDS, SystemFiles
from tests.adapters.sandbox.support import make_spec, run


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A host's /etc with a file, a secret, a directory and links."""
    etc = tmp_path / "host-etc"
    (etc / "ssl" / "certs").mkdir(parents=True)
    (etc / "ssl" / "certs" / "ca.pem").write_text("certificate")
    (etc / "ssl" / "certs" / "link.pem").symlink_to("ca.pem")
    (etc / "shadow").write_text("secret")
    (etc / "services").write_text("ssh 22")
    (etc / "zone").write_text("UTC")
    (etc / "localtime").symlink_to(etc / "zone")
    return etc


def files(system: SystemFiles) -> dict[str, str]:
    """Every file that a step would see, by its path below /etc."""
    etc = system.path / "etc"
    return {str(path.relative_to(etc)): path.read_text() for path in sorted(etc.rglob("*")) if path.is_file()}


SEEN = {
    "localtime": "UTC",
    "passwd": "ours",
    "services": "ssh 22",
    "ssl/certs/ca.pem": "certificate",
    "ssl/certs/link.pem": "certificate",
}


def test_what_is_named_is_seen_and_nothing_else(tmp_path: Path, etc: Path) -> None:
    system = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)
    assert files(system) == SEEN
    assert (system.path / "etc/ssl/certs/link.pem").readlink() == Path("ca.pem")
    (etc / "more").write_text("asked for")
    more = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, [etc / "more"], etc=etc)
    assert files(more) == {**SEEN, "more": "asked for"}


def test_a_change_on_the_host_makes_new_copies_and_leaves_the_old_to_who_has_them(tmp_path: Path, etc: Path) -> None:
    system = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)
    before = system.path
    assert not system.is_due()
    system.renew()
    assert system.path == before
    (etc / "ssl/certs/new.pem").write_text("another")
    system.renew()
    assert files(system) == {**SEEN, "ssl/certs/new.pem": "another"}
    assert not (before / "etc/ssl/certs/new.pem").exists()


def test_only_regular_files_up_to_a_size_are_copied(tmp_path: Path, etc: Path) -> None:
    os.mkfifo(etc / "ssl" / "certs" / "fifo")
    os.mkfifo(etc / "magic")
    with (etc / "ssl" / "certs" / "huge").open("wb") as huge:
        huge.truncate(FILES_SIZE_BYTES_MAX + 1)
    assert files(SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)) == SEEN


def test_other_users_may_read_them_whatever_our_umask_is(tmp_path: Path, etc: Path) -> None:
    umask = os.umask(0o077)
    try:
        system = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)
    finally:
        os.umask(umask)
    for path in (system.path, *system.path.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o444 == 0o444, path


def test_two_processes_with_the_same_host_share_copies(tmp_path: Path, etc: Path) -> None:
    one = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)
    other = SystemFiles(tmp_path / "system", {"passwd": b"ours"}, etc=etc)
    assert one.path == other.path
    assert [path.name for path in (tmp_path / "system").iterdir()] == [one.path.name]


def test_copies_are_removed_when_nobody_has_looked_at_them_for_long(tmp_path: Path, etc: Path) -> None:
    system = SystemFiles(tmp_path / "system", {}, etc=etc)
    old, recent = (SystemFiles(tmp_path / "system", {"name": name}, etc=etc).path for name in (b"old", b"recent"))
    long_ago = time.time() - FORGET_SECONDS - LOOK_SECONDS
    for path in (system.path, old):
        os.utime(path, (long_ago, long_ago))
    system.forget_old()
    assert system.path.exists()
    assert recent.exists()
    assert not old.exists()


async def test_a_step_reads_them_and_cannot_change_them(local: LocalSandboxes, run_id: UUID) -> None:
    outcome, output = await run(
        local,
        run_id,
        "id -un; getent hosts perdure; test ! -e /etc/shadow",
        "! touch /etc/new; ! echo x >> /etc/passwd; ! rm /etc/hosts",
    )
    assert outcome.exit_code == 0
    assert output.startswith("perdure\n127.0.1.1 ")


async def test_copies_that_a_running_step_uses_stay(local: LocalSandboxes, local_root: Path, run_id: UUID) -> None:
    old = SystemFiles(local_root / "system", {"old": b""})
    long_ago = time.time() - FORGET_SECONDS - LOOK_SECONDS
    os.utime(old.path, (long_ago, long_ago))
    spec = make_spec(run_id, "sleep 60")
    await local.start(spec)
    LocalSandboxes(local_root, host=local._host)
    assert old.path.exists()
    await local.kill(spec.id)
    LocalSandboxes(local_root, host=local._host)
    assert not old.path.exists()
