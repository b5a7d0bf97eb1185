import hashlib
import http.server
import io
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.bootstrap import BootstrapFailed, download_uv, find_uv

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "local" / "bootstrap.py"


def wheel_with(program: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("uv-1.2.3.data/scripts/uv", program)
    return content.getvalue()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web server for a folder, and its address."""
    folder = tmp_path / "index"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]  # passed on as they come

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def entry(folder: Path, base: str, content: bytes, *, digest: str | None = None) -> dict[str, str]:
    name = f"uv-1.2.3-py3-none-manylinux_2_17_{platform.machine()}.manylinux2014_{platform.machine()}.whl"
    (folder / name).write_bytes(content)
    return {"url": f"{base}/{name}", "hash": f"sha256:{digest or hashlib.sha256(content).hexdigest()}"}


def test_a_wheel_with_another_hash_is_thrown_away(index: tuple[Path, str], tmp_path: Path) -> None:
    wheel = entry(*index, wheel_with(b"evil"), digest="0" * 64)
    with pytest.raises(BootstrapFailed, match=r"is not what uv\.lock names"):
        download_uv([wheel], tmp_path / "bin")
    assert not (tmp_path / "bin").exists()


def test_a_wheel_that_cannot_be_fetched_is_named(index: tuple[Path, str], tmp_path: Path) -> None:
    wheel = {**entry(*index, b""), "url": f"{index[1]}/gone-manylinux_{platform.machine()}.whl"}
    with pytest.raises(BootstrapFailed, match=r"gone-manylinux_.* cannot be fetched"):
        download_uv([wheel], tmp_path / "bin")


def test_a_machine_without_wheel_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BootstrapFailed, match="Install uv yourself"):
        download_uv([{"url": "x/uv-1-py3-none-win_amd64.whl", "hash": ""}], tmp_path / "bin")


def test_the_locked_wheel_becomes_a_program(index: tuple[Path, str], tmp_path: Path) -> None:
    wheel = entry(*index, wheel_with(b"#!/bin/sh\necho it runs\n"))
    other = {"url": f"{index[1]}/uv-1.2.3-py3-none-musllinux_1_1_{platform.machine()}.whl", "hash": "sha256:0"}
    download_uv([other, wheel], tmp_path / "bin")
    assert subprocess.run([tmp_path / "bin" / "uv"], capture_output=True, check=True).stdout == b"it runs\n"


def test_a_uv_on_the_path_that_is_too_old_is_not_used(
    index: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "path" / "uv"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho uv 1.2.2\n")
    old.chmod(0o755)
    wheel = entry(*index, wheel_with(b"new"))
    lock = tmp_path / "uv.lock"
    lock.write_text(
        '[[package]]\nname = "uv"\nversion = "1.2.3"\n'
        f'wheels = [{{ url = "{wheel["url"]}", hash = "{wheel["hash"]}" }}]\n'
    )
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    # No pip either, as on Debian without python3-venv.
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    found = find_uv(lock, tmp_path / "cache")
    assert found.read_bytes() == b"new"
    old.write_text("#!/bin/sh\necho uv 1.2.3\n")
    assert find_uv(lock, tmp_path / "other") == old


def test_an_installed_environment_is_left_alone(tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "local" / "bootstrap.py"
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).write_text("nothing to read\n")
    digest = hashlib.sha256(b"nothing to read\n" * 2).hexdigest()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "perdure-installed").write_text(f"{digest} {Path(sys.executable).resolve()}\n")
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
