"""Puts a workspace and the system's files where the sandbox's user can reach them, seen by the sandbox alone.

The state directory is closed to everyone but the worker's user, and bubblewrap runs as the sandbox's user from its
first instruction: it could not even name the workspace. So root binds both to a reachable place, in a mount namespace
that only bubblewrap inherits.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000


# Made here, before any sandbox: each call of ``CDLL`` makes a type, which costs more than the mounts.
_LIBRARY = ctypes.CDLL(None, use_errno=True)
_UNSHARE, _MOUNT = _LIBRARY.unshare, _LIBRARY.mount


def stage(system: str, workspace: str, place: str, mount_point: str) -> None:
    """Binds ``system`` to ``place``, and ``workspace`` to the directory ``mount_point`` in it (mount(2), unshare(2)).

    They are mounted in a mount namespace of this process's own.

    Raises:
        OSError: The kernel refused.
    """
    _check(_UNSHARE(CLONE_NEWNS), "could not make a mount namespace")
    _check(_MOUNT(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "could not make the mounts private")
    _bind(system, place)
    _bind(workspace, f"{place}/{mount_point}")


def _bind(source: str, place: str) -> None:
    _check(_MOUNT(os.fsencode(source), os.fsencode(place), None, MS_BIND, None), f"could not bind to {place}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
