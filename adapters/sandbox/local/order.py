"""What the supervisor is told to do for one sandbox: bubblewrap's options, the script, limits and meters."""

from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import Any

from adapters.sandbox.base import SandboxSpec
from adapters.sandbox.local.cgroups import group_orders, meter_orders
from adapters.sandbox.local.host import Host
from adapters.sandbox.local.system import MOUNT_POINT

WORKSPACE = "/work"
HOME = "/tmp/home"  # noqa: S108  inside the sandbox, where /tmp is its own
SCRIPT = "/run/perdure/step"
INNER_ID = 1000
STAGE = "/mnt"
"""Where root binds the system's files, and in them the workspace, for bubblewrap (``supervisor/stage.py``)."""

SHARED_MEMORY_SHARE = 4
"""The shared memory file system gets this part of ``tmp_size_bytes``."""

SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""Links into /usr on the systems of today, directories on older ones."""

HOSTS = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 perdure\n"


def account_files(uid: int) -> dict[str, bytes]:
    """``passwd`` and ``group`` for a step that is this user inside."""
    passwd = f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nperdure:x:{uid}:{uid}:perdure:{HOME}:/bin/sh\n"
    return {"passwd": passwd.encode(), "group": f"root:x:0:\nperdure:x:{uid}:\n".encode()}


ETC_FILES = {**account_files(INNER_ID), "hosts": HOSTS.encode(), "resolv.conf": b""}
"""Files below /etc that are made for sandboxes."""

NETWORK_FILES = ("/etc/hosts", "/etc/resolv.conf")
"""What a step with network sees of the host instead: its name resolution."""

BASE_ENVIRONMENT = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "LOGNAME": "perdure",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PWD": WORKSPACE,
    "SHELL": "/bin/sh",
    "USER": "perdure",
}

Option = str | bytes
"""A word for bubblewrap; bytes become an open file with that content."""


def process_title(sandbox_id: str) -> str:
    """What the list of processes shows for bubblewrap, and how what is left of a lost sandbox is found."""
    return f"perdure-sandbox:{sandbox_id}"


def problem_with(spec: SandboxSpec) -> str | None:
    """What makes a spec impossible to start, for a person; ``None`` if nothing does."""
    for name, value in spec.env.items():
        if not name or "=" in name or "\0" in name:
            return f"the environment variable {name!r} has a name that no program can be given"
        if "\0" in value:
            return f"the environment variable {name} holds a NUL character, which no program can be given"
    for number, command in enumerate(spec.commands, start=1):
        if "\0" in command:
            return f"command {number} holds a NUL character, which no shell can read"
    return None


def make_order(
    spec: SandboxSpec,
    host: Host,
    *,
    directory: Path,
    workspace: Path,
    system: Path,
    read_only_paths: Iterable[Path],
    boot_id: str,
) -> dict[str, Any]:
    """The order, as ``marshal`` can carry it."""
    becomes_user = host.uid is not None and not host.as_root
    stage = STAGE if becomes_user and host.bwrap is not None else None
    marker = f"PERDURE_SANDBOX={spec.id}"
    return {
        "directory": str(directory),
        "boot_id": boot_id,
        "bwrap": None if host.bwrap is None else str(host.bwrap),
        "libraries": None if host.libraries is None else str(host.libraries),
        "uid": host.uid if becomes_user else None,
        "gid": host.uid if becomes_user else None,
        "workspace": str(workspace),
        "system": str(system),
        "stage": stage,
        "mount_point": MOUNT_POINT,
        "program": program(host),
        "script": script(spec, host),
        "environment": {**BASE_ENVIRONMENT, "PWD": str(workspace), **spec.env, "PERDURE_SANDBOX": spec.id},
        "marker": marker,
        "title": process_title(spec.id),
        "options": options(
            spec,
            host,
            workspace=f"{stage}/{MOUNT_POINT}" if stage else str(workspace),
            etc=f"{stage or system}/etc",
            read_only_paths=read_only_paths,
        ),
        "limits": spec.limits.model_dump(),
        "cgroups": group_orders(host.cgroups, spec.id, spec.limits),
        "meters": meter_orders(host.cgroups, spec.id),
    }


def program(host: Host) -> list[str]:
    """What runs the script."""
    if host.bwrap is None:
        return ["/bin/sh", "-e"]
    if not host.as_root:
        return ["/bin/sh", "-e", SCRIPT]
    user = [f"--reuid={host.uid}", f"--regid={host.uid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return ["/usr/bin/setpriv", *user, "--", "/bin/sh", "-e", SCRIPT]


def script(spec: SandboxSpec, host: Host) -> bytes:
    """The shell script: the gate, the process limit, then each command shown and run.

    ``eval`` keeps a mistake in one command (an open quote) from swallowing the next. The process limit is set here,
    inside the innermost user namespace, where the user's processes outside do not count; dash calls it ``-p``.
    """
    limit = spec.limits.processes
    lines = [
        "exec 2>&1",
        "read -r perdure_go <&3 || exit 126",
        "unset perdure_go",
        "exec 3<&- 4<&-",
    ]
    # Outside of a user namespace the kernel would count the processes of all sandboxes together.
    if host.bwrap is not None and not (host.as_root and host.cgroups.pids):
        lines.append(f"ulimit -u {limit} 2>/dev/null || ulimit -p {limit}")
    for command in spec.commands:
        # The group marker of the log: what ``set -x`` would show, but as it was written.
        lines.append(f"printf '\\033[36m+ %s\\033[0m\\n' {quote(command)}")
        lines.append(f"eval {quote(command)}")
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def options(
    spec: SandboxSpec, host: Host, *, workspace: str, etc: str, read_only_paths: Iterable[Path]
) -> list[Option]:
    """The options of bubblewrap: who, what of the host, what of its own."""
    made: list[Option] = [*_separation(spec, host)]
    for name, value in {**BASE_ENVIRONMENT, **spec.env}.items():
        made += ["--setenv", name, value]
    made += ["--ro-bind", "/usr", "/usr", *_etc(spec, host, etc)]
    for path in read_only_paths:
        made += ["--ro-bind", str(path), str(path)]
    for link in map(Path, SYSTEM_DIRECTORIES):
        if link.is_symlink():
            made += ["--symlink", str(link.readlink()), str(link)]
        elif link.is_dir():
            made += ["--ro-bind", str(link), str(link)]
    made += ["--perms", "0444", "--file", script(spec, host), SCRIPT]
    if "proc" in host.namespaces:
        made += ["--proc", "/proc"]
    size = str(spec.limits.tmp_size_bytes)
    shared_size = str(max(1, spec.limits.tmp_size_bytes // SHARED_MEMORY_SHARE))
    made += ["--dev", "/dev", "--perms", "1777", "--size", shared_size, "--tmpfs", "/dev/shm"]  # noqa: S108  inside
    made += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--perms", "0777", "--dir", HOME]  # noqa: S108  inside
    made += ["--dir", "/var", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108  inside
    made += ["--bind", workspace, WORKSPACE, "--remount-ro", "/dev", "--remount-ro", "/"]
    return [*made, "--chdir", WORKSPACE]


def _etc(spec: SandboxSpec, host: Host, etc: str) -> list[Option]:
    """What is seen of /etc: the copies, and over them what is another for this host or this step."""
    over: dict[str, bytes] = {}
    if host.as_root and host.uid is not None:
        over |= {f"/etc/{name}": content for name, content in account_files(host.uid).items()}
    if spec.network:
        over |= {name: Path(name).read_bytes() for name in NETWORK_FILES if Path(name).exists()}
    made: list[Option] = ["--ro-bind", etc, "/etc"]
    for name, content in over.items():
        made += ["--perms", "0444", "--ro-bind-data", content, name]
    return made


def _separation(spec: SandboxSpec, host: Host) -> list[str]:
    """The namespaces, and the rights that are given up."""
    chosen = host.namespaces
    made = ["--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
    if host.as_root:
        # Only for ``setpriv``, which gives them up.
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            made += ["--cap-add", capability]
    else:
        made += ["--unshare-user", "--uid", str(INNER_ID), "--gid", str(INNER_ID)]
    made += [f"--unshare-{kind}" for kind in ("pid", "ipc", "cgroup") if kind in chosen]
    if "uts" in chosen:
        made += ["--unshare-uts", "--hostname", "perdure"]
    if "net" in chosen and not spec.network:
        made.append("--unshare-net")
    if "nested" in chosen:
        made.append("--disable-userns")
    return made
