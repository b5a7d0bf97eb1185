"""The small process that owns one sandbox: it outlives the worker and records the end of the commands.

Forked by ``forkserver.py`` with its order (``marshal`` of what ``adapters/sandbox/local/order.py`` makes) on standard
input and a pipe to its starter as standard output and error.

What it promises:

1. The journal is locked for as long as the supervisor lives. It is a POSIX lock: no child can inherit it, and
   ``F_GETLK`` tells anyone the pid of its holder.
2. ``begun`` is made once, by ``link(2)``: whoever makes it decides what becomes of the sandbox. It is on disk before
   the commands are let go, so without ``begun`` no command ever ran.
3. The commands wait at a gate (a pipe) for one word. If the supervisor dies first they read the end of the file and
   leave; if it dies later, bubblewrap's parent-death signal takes the whole pid namespace with it.
4. The result is a line of the journal, written when the last process has ended and the last byte of output is in
   ``log``.
"""

import errno
import fcntl
import json
import marshal
import os
import time
from typing import Any

from adapters.sandbox.supervisor import signals
from adapters.sandbox.supervisor.files import append_line, sync_to_disk, write_file
from adapters.sandbox.supervisor.process import adopt_orphans
from adapters.sandbox.supervisor.setup import Setup, SetupError
from adapters.sandbox.supervisor.watch import Watch

GROUP_TRIES = 1000


def lock_journal() -> int | None:
    """Takes the lock of the journal and returns its descriptor; ``None`` if another supervisor has it and has begun."""
    fd = os.open("journal", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        else:
            return fd
        if os.path.exists("begun"):
            return None
        # The other one is between its lock and its ``begun``; if it dies there, the lock comes to us.
        time.sleep(0.001)


def begin(order: dict[str, Any]) -> bool:
    """Makes ``begun``; False if the sandbox was begun (or killed before its start) already."""
    draft = f"begun.{os.getpid()}"
    write_file(
        draft,
        json.dumps(
            {
                "pid": os.getpid(),
                "boot_id": order["boot_id"],
                "begun_at": time.time(),
                "cgroups": [group["directory"] for group in order["cgroups"]],
            }
        ).encode(),
    )
    try:
        # By its full name: if the run was destroyed meanwhile, our directory goes by another one and nothing begins.
        os.link(draft, f"{order['directory']}/begun")
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def read_order() -> dict[str, Any]:
    """The order, from standard input."""
    parts = []
    while part := os.read(0, 1 << 20):
        parts.append(part)
    order: dict[str, Any] = marshal.loads(b"".join(parts))  # noqa: S302  our own starter made it, in memory
    return order


def run(order: dict[str, Any], gate: tuple[int, int], wakeup: int, journal: int) -> None:
    """Runs the commands of a sandbox that has begun, and records their end."""
    begun_at = time.time()
    setup = Setup(order, gate)
    watch = Watch(order, setup, wakeup)
    try:
        try:
            setup.spawn()
            sync_to_disk("begun")
            watch.await_setup(journal)
        except OSError as error:
            raise SetupError(f"the sandbox could not be set up: {error}") from error
        watch.let_go()
        watch.until_end()
        result = watch.finish()
    except SetupError as error:
        result = {"started_at": begun_at, "ended_at": time.time(), "start_error": str(error)}
    append_line(journal, result=result)
    for group in order["cgroups"]:
        remove_group(group["directory"])


def remove_group(directory: str) -> None:
    """Removes an emptied cgroup; whoever destroys the run removes what is still busy after a second."""
    for _ in range(GROUP_TRIES):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            # The kernel lets go of a task only after its last switch, a moment after its parent was told of the end.
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.001)
        else:
            return


def main() -> None:
    """Supervises one sandbox from its beginning to its recorded end."""
    os.umask(0o022)  # what the commands inherit; our own files lie in a directory that is closed
    os.closerange(3, 1 << 20)
    gate = os.pipe2(os.O_CLOEXEC)
    adopt_orphans()
    wakeup, wakeup_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signals.wake_on_terminate(wakeup_write)
    order = read_order()
    os.chdir(order["directory"])
    journal = lock_journal()
    if journal is None or not begin(order):
        return
    nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(1, b"begun\n")
    except BrokenPipeError:
        # The starter was killed; the sandbox runs all the same.
        os.close(1)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    try:
        run(order, gate, wakeup, journal)
    except BaseException as error:
        append_line(journal, failure=f"the supervisor failed: {type(error).__name__}: {error}")
        raise
