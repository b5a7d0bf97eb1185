"""The signals that a supervisor sends, takes and names, without the cost of ``import signal``.

``signal`` builds enumerations with ``enum``, 5 of the 17 ms that a supervisor would then take to start. Everything
used here is CPython's C module below it, which has the same functions and plain numbers.
"""

import _signal  # type: ignore[import-not-found]  # no stubs: it is what signal.py is made of
import os

SIGXCPU: int = _signal.SIGXCPU

FATAL_CODES: frozenset[int] = frozenset(
    128 + number
    for number in (
        *(_signal.SIGINT, _signal.SIGQUIT, _signal.SIGILL, _signal.SIGTRAP, _signal.SIGABRT, _signal.SIGBUS),
        *(_signal.SIGFPE, _signal.SIGKILL, _signal.SIGSEGV, _signal.SIGPIPE, _signal.SIGTERM, _signal.SIGXCPU),
        *(_signal.SIGXFSZ, _signal.SIGSYS),
    )
)
"""A shell reports a command that a signal ended as 128 + its number (POSIX, 2.8.2); 129 is git's usage error."""


def wake_on_terminate(wakeup_write_fd: int) -> None:
    """SIGTERM writes a byte to the descriptor; a closing terminal or Ctrl-C at the worker is none of our business."""
    _signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGTERM, lambda *_: None)
    for number in (_signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)


def reset() -> None:
    """Gives a child the signals that a program expects; Python itself ignores SIGPIPE and SIGXFSZ."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_DFL)


def kill(pidfd: int) -> None:
    """SIGKILL to exactly that process; nothing if it is gone."""
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_pid(pid: int) -> None:
    """SIGKILL to a pid; nothing if it is gone."""
    try:
        os.kill(pid, _signal.SIGKILL)
    except ProcessLookupError:
        return
