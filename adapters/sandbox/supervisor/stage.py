"""Puts a workspace where the sandbox's user can reach it, seen by the sandbox alone.

The state directory is closed to everyone but the worker's user, and bubblewrap runs as the sandbox's user from its
first instruction: it could not even name the workspace. So root binds it to a reachable place, in a mount namespace
that only bubblewrap inherits.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000


def stage(workspace: str, place: str) -> None:
    """Binds ``workspace`` to ``place`` in a mount namespace of this process's own (mount(2), unshare(2)).

    Raises:
        OSError: The kernel refused.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")

    check(library.unshare(CLONE_NEWNS), "could not make a mount namespace")
    check(library.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "could not make the mounts private")
    check(library.mount(os.fsencode(workspace), os.fsencode(place), None, MS_BIND, None), f"could not bind to {place}")
