"""Makes ``.venv`` from ``uv.lock`` on a machine that may have nothing but Python's standard library.

    python3 deploy/local/bootstrap.py [--any-python]

`uv` does the work: the one on the PATH if it is new enough; else the locked version, installed by pip; else, where
Debian's python3-venv is missing, the wheel that ``uv.lock`` names, taken only if its SHA-256 is the one in the lock.
It runs before anything is installed, so it uses the standard library only and no module of ours.
"""

import argparse
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

PYTHON_MIN, PYTHON_END = (3, 11), (3, 14)
DOWNLOAD_TIMEOUT_SECONDS = 60
WHEEL_SIZE_BYTES_MAX = 256 * 1024 * 1024
SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
STAMP = "perdure-installed"


class BootstrapFailed(Exception):
    """Nothing usable was installed; the message says what to do."""


def main() -> None:
    """Brings ``.venv`` in line with ``uv.lock``; does nothing if it is already."""
    parser = argparse.ArgumentParser(description="Makes .venv from uv.lock.")
    parser.add_argument("--any-python", action="store_true", help="keep the Python of a .venv that exists")
    arguments = parser.parse_args()
    if not PYTHON_MIN <= sys.version_info[:2] < PYTHON_END:
        found = platform.python_version()
        sys.exit(f"Perdure needs Python 3.11, 3.12 or 3.13; {sys.executable} is {found}. Try: make install PYTHON=...")
    root = Path(__file__).resolve().parent.parent.parent
    environment = root / ".venv"
    python = Path(sys.executable)
    if arguments.any_python and (environment / "bin" / "python").exists():
        python = environment / "bin" / "python"
    wanted = fingerprint(root, python)
    stamp = environment / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"Preparing .venv from uv.lock with {python} ...", flush=True)  # noqa: T201  # it may take a minute, once
    try:
        uv = find_uv(root / "uv.lock", cache_directory())
    except BootstrapFailed as error:
        sys.exit(str(error))
    command = [str(uv), "sync", "--quiet", "--frozen", "--python", str(python), "--project", str(root)]
    # Never another Python than the one asked for, and never another environment than this folder's.
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_PROJECT_ENVIRONMENT": str(environment)}
    if Path(SYSTEM_CERTIFICATES).exists():
        # Behind a company's proxy only the machine's own list of authorities knows the proxy.
        settings["UV_SYSTEM_CERTS"] = "true"
    hidden = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}
    inherited = {key: value for key, value in os.environ.items() if key not in hidden}
    if subprocess.run(command, env={**inherited, **settings}, check=False).returncode != 0:
        sys.exit(
            "uv could not install what uv.lock names (see above). Nothing else was changed; run `make install` again."
        )
    stamp.write_text(fingerprint(root, environment / "bin" / "python"), encoding="utf-8")


def fingerprint(root: Path, python: Path) -> str:
    """What an environment was made from: the lock, the project's table, the base interpreter."""
    digest = hashlib.sha256()
    for name in ("uv.lock", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    return f"{digest.hexdigest()} {python.resolve()}\n"


def cache_directory() -> Path:
    """Where a downloaded uv is kept for the next time."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "perdure"


def find_uv(lock_path: Path, cache: Path) -> Path:
    """A uv that can read our lock.

    Raises:
        BootstrapFailed: None could be had.
    """
    # Here and not at the top, so that an older Python still gets to say that it is too old.
    import tomllib  # noqa: PLC0415  # see above

    packages = tomllib.loads(lock_path.read_text(encoding="utf-8"))["package"]
    locked = next(package for package in packages if package["name"] == "uv")
    version: str = locked["version"]
    on_path = shutil.which("uv")
    if on_path and _version_of(on_path) >= _numbers(version):
        return Path(on_path)
    kept = cache / f"uv-{version}" / "bin" / "uv"
    if kept.exists():
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f"uv-{version}.{os.getpid()}"
    try:
        if not _install_with_pip(draft, version):
            shutil.rmtree(draft, ignore_errors=True)
            download_uv(locked["wheels"], draft / "bin")
        if not kept.exists():
            draft.rename(kept.parent.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kept


def download_uv(wheels: list[dict[str, str]], directory: Path) -> None:
    """Takes the program out of the wheel for this machine.

    Args:
        wheels: The lock's entries, each with ``url`` and ``hash``.
        directory: Where ``uv`` is put.

    Raises:
        BootstrapFailed: There is no wheel for this machine, it cannot be fetched, or it is not the locked one.
    """
    wheel = next((wheel for wheel in wheels if _fits(wheel["url"])), None)
    if wheel is None:
        raise BootstrapFailed(
            f"uv has no wheel for {sys.platform} on {platform.machine()}. Install uv yourself, then run `make install`."
        )
    try:
        with urllib.request.urlopen(wheel["url"], timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:  # noqa: S310  # from uv.lock
            content = answer.read(WHEEL_SIZE_BYTES_MAX)
    except OSError as error:
        raise BootstrapFailed(
            f"{wheel['url']} cannot be fetched ({error}). Nothing was installed. Check network and proxy settings, or "
            "install uv yourself, then run `make install`."
        ) from error
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != wheel["hash"]:
        raise BootstrapFailed(
            f"{wheel['url']} is not what uv.lock names: expected {wheel['hash']}, got {found}. It was thrown away."
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        directory.mkdir(parents=True, exist_ok=True)
        program = directory / "uv"
        program.write_bytes(archive.read(member))
        program.chmod(0o755)


def _install_with_pip(directory: Path, version: str) -> bool:
    """Whether the standard library's venv and pip could do it; Debian ships them in a package of their own."""
    if not _succeeds(sys.executable, "-m", "venv", str(directory)):
        return False
    python = str(directory / "bin" / "python")
    return _succeeds(python, "-m", "pip", "install", f"uv=={version}") and (directory / "bin" / "uv").exists()


def _succeeds(*command: str) -> bool:
    # In silence: what it would say is no reason to worry, because there is another way.
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _fits(url: str) -> bool:
    tags = url.rpartition("/")[2].removesuffix(".whl").rpartition("-")[2].split(".")
    system = "macosx" if sys.platform == "darwin" else "manylinux"
    return any(tag.startswith(system) and tag.endswith(f"_{platform.machine()}") for tag in tags)


def _version_of(program: str) -> tuple[int, ...]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    return _numbers(words[1]) if len(words) > 1 else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".") if number.isdigit())


if __name__ == "__main__":
    main()
