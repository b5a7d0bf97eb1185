"""The signals that a supervisor sends, takes and names."""

import contextlib
import os
import signal

SIGXCPU = int(signal.SIGXCPU)

FATAL_CODES = frozenset(
    128 + number
    for number in (
        *(signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
        *(signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM, signal.SIGXCPU),
        *(signal.SIGXFSZ, signal.SIGSYS),
    )
)
"""A shell reports a command that a signal ended as 128 + its number (POSIX, 2.8.2); 129 is git's usage error."""


def wake_on_terminate(wakeup_write_fd: int) -> None:
    """SIGTERM writes a byte to the descriptor; the fork server has made us deaf to the terminal's signals already."""
    signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)


def reset() -> None:
    """Gives a child the signals that a program expects, whatever we or our starter (``nohup``, ``&``) ignore."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)


def kill(pidfd: int) -> None:
    """SIGKILL to exactly that process; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def kill_pid(pid: int) -> None:
    """SIGKILL to a pid; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
