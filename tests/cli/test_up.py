"""`perdure up` as a person runs it: the whole platform, from nothing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.identity import ProcessIdentity
from deploy.local.ports import is_free
from deploy.local.state import RunRecord, StateDirectory

SERVING = "Ctrl-C stops everything"
GIBIBYTE = 1024**3


class Terminal:
    """`perdure up` in a state directory, and what it prints."""

    def __init__(self, state: StateDirectory) -> None:
        self.state = state
        self.process: asyncio.subprocess.Process | None = None
        self.lines: list[str] = []

    async def up(self) -> list[str]:
        """Starts it and returns its lines once it serves."""
        self.lines = []
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "cli.main",
            "up",
            *([] if self.state.record_path.exists() else ["--ports", "auto"]),
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(300):
            while not (self.lines and SERVING in self.lines[-1]):
                line = await self.process.stdout.readline()
                assert line, "\n".join(self.lines)
                self.lines.append(line.decode().rstrip())
        return self.lines

    async def end(self, wanted: signal.Signals) -> int:
        """Sends a signal to it, and returns its exit code once it has ended."""
        assert self.process is not None
        self.process.send_signal(wanted)
        async with asyncio.timeout(60):
            output, _ = await self.process.communicate()
        self.lines += output.decode().splitlines()
        code = self.process.returncode
        self.process = None
        assert code is not None
        return code

    async def status(self) -> dict[str, Any]:
        """`perdure status --json`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "cli.main",
            "status",
            "--json",
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        answer: dict[str, Any] = json.loads(output)
        return answer

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.state.path.parent),
            "PERDURE_HOME": str(self.state.path),
        }

    def children(self) -> list[ProcessIdentity]:
        record = RunRecord.load(self.state.record_path)
        assert record is not None
        return [part.identity for part in record.parts if part.identity is not None]

    def ports(self) -> list[int]:
        record = RunRecord.load(self.state.record_path)
        assert record is not None
        return [port for part in record.parts for port in part.ports]


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    terminal = Terminal(StateDirectory(tmp_path / "state"))
    yield terminal
    if terminal.process is not None:
        await terminal.end(signal.SIGTERM)


@pytest.mark.timeout(600)
async def test_from_nothing_to_the_demos_green_end_and_back_after_sigkill_of_everything(terminal: Terminal) -> None:
    shown = "\n".join(await terminal.up())
    assert "the run ended: success" in shown, shown
    assert "| OK" in shown, "the log of the demo's tests is missing"
    password = (terminal.state.path / "admin-password").read_text().strip()
    assert password not in shown
    status = await terminal.status()
    assert [part["part"] for part in status["parts"]] == ["temporal", "postgres", "valkey", "s3", "api", "worker"]
    assert {part["health"] for part in status["parts"]} == {"ok"}
    assert status["memory_bytes"] < 1.2 * GIBIBYTE
    for process in psutil.Process(status["supervisor_pid"]).children(recursive=True):
        assert password not in " ".join(process.cmdline())

    before = terminal.children()
    for identity in before:
        identity.send(signal.SIGKILL)
    await terminal.end(signal.SIGKILL)
    shown = "\n".join(await terminal.up())
    assert "The first run" not in shown
    assert not any(identity.alive for identity in before)

    worker = terminal.children()[-1]
    worker.send(signal.SIGKILL)
    while "ready again" not in terminal.lines[-1]:
        assert terminal.process is not None
        assert terminal.process.stdout is not None
        terminal.lines.append((await terminal.process.stdout.readline()).decode())
    worker_status = (await terminal.status())["parts"][-1]
    assert (worker_status["restarts"], worker_status["health"]) == (1, "ok")

    children = terminal.children()
    assert await terminal.end(signal.SIGINT) == 0
    stopped = [line.split()[0] for line in terminal.lines if " stopped " in line]
    assert stopped[:2] == ["worker", "api"]
    assert not any(identity.alive for identity in children)
    assert all(is_free(port) for port in terminal.ports())
