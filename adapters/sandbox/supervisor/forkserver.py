"""Forks one supervisor per sandbox from a process that has everything loaded already.

Started once per worker by ``adapters/sandbox/local/spawn.py``, with one end of a socket pair as standard input. A
message on it is one byte and two descriptors: the order, and the pipe on which the supervisor gives its word. Starting
an interpreter for every step instead costs 11 ms of processor time each; a fork costs less than one.

The supervisors do not depend on this process: each has a session of its own and none of them hears of its end. It
leaves when the worker has closed the other end of the socket, which the kernel does if the worker is killed.
"""

import gc
import os
import signal
import socket
from typing import NoReturn

from adapters.sandbox.supervisor.main import main
from adapters.sandbox.supervisor.process import set_process_name

DESCRIPTORS = 2


def serve() -> None:
    """Forks a supervisor for each message, until the other end of the socket is closed."""
    set_process_name("perdure-steps")
    connection = socket.socket(fileno=0)
    # Nobody here asks how a supervisor ended: its record says it. So the kernel is to reap them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # A closing terminal or Ctrl-C at the worker is none of our business.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # What is frozen is not visited by the collector, so the pages of these objects stay shared with the children.
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, DESCRIPTORS)
        if not message:
            return
        order, word = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            os.write(word, f"no process could be made for it: {error}".encode())
        else:
            if pid == 0:
                _become_supervisor(order, word)
        os.close(order)
        os.close(word)


def _become_supervisor(order: int, word: int) -> NoReturn:
    """The child's side of the fork; leaves without the interpreter's farewell, which costs some milliseconds."""
    try:
        os.setsid()
        set_process_name("perdure-step")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for source, target in ((order, 0), (word, 1), (word, 2)):
            os.dup2(source, target)
        main()
    except BaseException as error:  # noqa: BLE001  whatever it is, it has to be said in the only place that is read
        os.write(2, f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    os._exit(0)
