"""Control groups, versions 1 and 2, where this process may make them.

A group is looked for below the one that this process is in, and for root also at the top of the hierarchy. Nothing is
taken from the names of things: a group counts as available when it could be made, limited and removed again.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from adapters.sandbox.base import SandboxLimits

OWN_PROCESSES = 4
"""bubblewrap's two processes and the shell, and one to spare, in the count of ``pids.max``."""


@dataclass(frozen=True)
class CgroupParent:
    """A directory in which groups can be made.

    Attributes:
        files: What a group made there has to offer.
    """

    version: Literal[1, 2]
    path: Path
    files: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cgroups:
    """Where groups for each controller can be made; ``None`` where they cannot."""

    memory: CgroupParent | None
    pids: CgroupParent | None
    cpu: CgroupParent | None


NO_CGROUPS = Cgroups(memory=None, pids=None, cpu=None)

FILES: dict[tuple[str, int], tuple[str, ...]] = {
    ("memory", 1): ("memory.limit_in_bytes", "memory.oom_control"),
    ("memory", 2): ("memory.max", "memory.events"),
    ("pids", 1): ("pids.max",),
    ("pids", 2): ("pids.max",),
    ("cpuacct", 1): ("cpuacct.usage",),
    ("cpu", 2): ("cpu.stat",),
}
"""The files that must be there for a controller to count as usable."""


def find_cgroups() -> Cgroups:
    """Tries which controllers can be used here."""
    parents = list(_parents())

    def first(*names: str) -> CgroupParent | None:
        tried = (_tried(name, parent) for name, parent in parents if name in names)
        return next((parent for parent in tried if parent is not None), None)

    return Cgroups(memory=first("memory"), pids=first("pids"), cpu=first("cpuacct", "cpu"))


def _parents() -> list[tuple[str, CgroupParent]]:
    """Every (controller, directory) that may work, the nearest first."""
    own = _own_groups()
    found: list[tuple[str, CgroupParent]] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        mount_root, mount_point = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        controllers = {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, [])
        for controller in controllers:
            if controller not in own:
                continue
            inside = Path(own[controller])
            if inside.is_relative_to(mount_root):
                inside = inside.relative_to(mount_root)
            nearest = Path(mount_point) / str(inside).lstrip("/")
            places = dict.fromkeys([nearest, *([Path(mount_point)] if os.geteuid() == 0 else [])])
            for place in places:
                if kind == "cgroup":
                    found.append((controller, CgroupParent(version=1, path=place)))
                else:
                    found += [(name, CgroupParent(version=2, path=place)) for name in ("memory", "pids", "cpu")]
    return found


def _own_groups() -> dict[str, str]:
    """Controller -> the group that this process is in; the empty name is version 2."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _tried(controller: str, parent: CgroupParent) -> CgroupParent | None:
    """The parent, with the files of the group that was made in it; ``None`` if the controller cannot be used there."""
    wanted = FILES.get((controller, parent.version))
    if wanted is None:
        return None
    trial = parent.path / f"perdure-trial-{os.getpid()}"
    try:
        if parent.version != 1:
            enabled = (parent.path / "cgroup.subtree_control").read_text().split()
            if controller not in enabled:
                (parent.path / "cgroup.subtree_control").write_text(f"+{controller}")
        trial.mkdir()
    except OSError:
        return None
    try:
        files = frozenset(entry.name for entry in trial.iterdir())
        return replace(parent, files=files) if files.issuperset(wanted) else None
    finally:
        with contextlib.suppress(FileNotFoundError):
            trial.rmdir()


def group_orders(cgroups: Cgroups, name: str, limits: SandboxLimits) -> list[dict[str, object]]:
    """The groups that the supervisor makes and joins: directory, what to write there, the file to join by."""
    writes: dict[tuple[int, Path], list[tuple[str, str]]] = {}

    def group_of(parent: CgroupParent) -> list[tuple[str, str]]:
        return writes.setdefault((parent.version, parent.path), [])

    if cgroups.memory is not None:
        group_of(cgroups.memory).extend(_memory_writes(cgroups.memory, limits.memory_bytes))
    if cgroups.pids is not None:
        group_of(cgroups.pids).append(("pids.max", str(limits.processes + OWN_PROCESSES)))
    if cgroups.cpu is not None:
        group_of(cgroups.cpu)
    return [
        {
            "directory": str(path / f"perdure-{name}"),
            "writes": files,
            # In version 1 a thread that moves itself through ``tasks`` needs no lock on all processes of the host:
            # 0.2 ms, where ``cgroup.procs`` takes 5 to 20.
            "join": "tasks" if version == 1 else "cgroup.procs",
        }
        for (version, path), files in writes.items()
    ]


def _memory_writes(parent: CgroupParent, limit_bytes: int) -> list[tuple[str, str]]:
    limit = str(limit_bytes)
    if parent.version == 1:
        required, optional = ("memory.limit_in_bytes", limit), [("memory.memsw.limit_in_bytes", limit)]
    else:
        required, optional = ("memory.max", limit), [("memory.swap.max", "0"), ("memory.oom.group", "1")]
    return [required, *((name, value) for name, value in optional if name in parent.files)]


def meter_orders(cgroups: Cgroups, name: str) -> dict[str, object]:
    """The files by which the supervisor tells what was used and whether the memory limit was hit."""
    meters: dict[str, object] = {}
    if cgroups.memory is not None:
        group, first = cgroups.memory.path / f"perdure-{name}", cgroups.memory.version == 1
        meters["oom"] = str(group / ("memory.oom_control" if first else "memory.events"))
        meters["memory_peak"] = str(group / ("memory.max_usage_in_bytes" if first else "memory.peak"))
    if cgroups.cpu is not None:
        group, first = cgroups.cpu.path / f"perdure-{name}", cgroups.cpu.version == 1
        file, key, per_second = ("cpuacct.usage", "", 10**9) if first else ("cpu.stat", "usage_usec", 10**6)
        meters["cpu"] = (str(group / file), key, per_second)
    return meters
