"""What a process asks the kernel about itself (prctl(2)), for which Python has no function."""

import ctypes
import os

PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def set_process_name(name: str) -> None:
    """The name that ``ps -o comm`` and ``top`` show; at most 15 characters."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def adopt_orphans() -> None:
    """From now on a descendant whose parent has ended becomes a child of this process, which can wait for it."""
    _prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def _prctl(option: int, argument: object) -> None:
    if _LIBRARY.prctl(ctypes.c_int(option), argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
