"""A real small server for the supervisor's tests."""

import asyncio
import sys
from pathlib import Path

from deploy.local.part import Launch, Part

PROGRAM = """
import os, signal, socket, subprocess, sys
name, port, journal, manner = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")

def end(*_):
    note("ended")
    sys.exit(0)

signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "stubborn" else end)
if manner == "refuses":
    print("configuration is wrong: no such colour", flush=True)
    sys.exit(3)
if manner == "family":
    subprocess.Popen(["sleep", "300"])
    outliving = subprocess.Popen(["sleep", "300"], start_new_session=True)
    note(f"sandbox {outliving.pid}")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen()
note("started")
while True:
    try:
        listener.accept()[0].close()
    except InterruptedError:
        pass
"""


class SmallPart(Part):
    """Listens on a port and writes when it started and ended (not when it was killed) into a journal.

    Args:
        manner: ``good``, ``stubborn`` (ignores SIGTERM), ``refuses`` (ends at once with code 3), ``family`` (has one
            ordinary child and one in a session of its own, as step sandboxes have).
    """

    ready_timeout_seconds = 10.0

    def __init__(self, name: str, *, port: int, journal: Path, manner: str = "good") -> None:
        self.name = name
        self.port = port
        self.journal = journal
        self.manner = manner
        self.stop_timeout_seconds = 0.5 if manner == "stubborn" else 10.0

    def launch(self) -> Launch:
        argv = (sys.executable, "-S", "-c", PROGRAM, self.name, str(self.port), str(self.journal), self.manner)
        return Launch(argv=argv, cwd=self.journal.parent)

    async def is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True
