import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deploy.local.identity import ProcessIdentity
from deploy.local.part import Launch, PartFailed
from deploy.local.ports import free_ports, is_free
from deploy.local.state import STATE_VARIABLE, AlreadyRunning, PartRecord, RunRecord, StateDirectory
from deploy.local.supervisor import Happening, Kind, Stage, Supervisor, Task
from tests.deploy.small_part import SmallPart
from tests.support.eventually import eventually

ABANDON = """
import asyncio, os, sys
from pathlib import Path
from deploy.local.state import StateDirectory
from deploy.local.supervisor import Stage, Supervisor
from tests.deploy.small_part import SmallPart

async def main():
    state = StateDirectory(Path(sys.argv[1]))
    with state.lock():
        parts = [SmallPart(n, port=int(p), journal=Path(sys.argv[2]), manner=sys.argv[3])
                 for n, p in zip(("one", "two"), sys.argv[4:])]
        await Supervisor(state, [Stage(parts)], announce=lambda h: None).up()
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class House:
    """A state directory with parts, and all that the supervisor announced."""

    def __init__(self, root: Path) -> None:
        self.state = StateDirectory(root / "state")
        self.state.make()
        self.journal = root / "journal"
        self.journal.touch()
        self.free = iter(free_ports().values())
        self.said: list[Happening] = []
        self.supervisors: list[Supervisor] = []

    def part(self, name: str, manner: str = "good") -> SmallPart:
        return SmallPart(name, port=next(self.free), journal=self.journal, manner=manner)

    def supervisor(self, *stages: Stage | Task) -> Supervisor:
        made = Supervisor(self.state, stages, announce=self.said.append)
        self.supervisors.append(made)
        return made

    def written(self) -> list[str]:
        """What the programs noted, without pids."""
        return [line.rsplit(" ", 1)[0] for line in self.journal.read_text().splitlines()]

    def record(self, name: str) -> PartRecord:
        record = RunRecord.load(self.state.record_path)
        assert record is not None
        return next(part for part in record.parts if part.name == name)

    def said_again(self, times: int) -> Callable[[], bool]:
        """Whether parts became ready again so often."""
        return lambda: [said.kind for said in self.said].count(Kind.AGAIN) == times

    def pid(self, name: str) -> int:
        identity = self.record(name).identity
        assert identity is not None
        return identity.pid


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    for supervisor in house.supervisors:
        await supervisor.down()


def members_of(group: int) -> list[int]:
    """The running processes of a process group."""
    return [pid for pid in psutil.pids() if ProcessIdentity.of(pid) and os.getpgid(pid) == group]


def python(code: str) -> Launch:
    return Launch(argv=(sys.executable, "-S", "-c", code), cwd=Path.cwd())


async def test_a_taken_port_names_its_holder_and_starts_nothing(house: House) -> None:
    first, second = house.part("first"), house.part("second")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", second.port))
        holder.listen()
        with pytest.raises(PartFailed) as caught:
            await house.supervisor(Stage([first, second])).up()
    assert f"second: port {second.port} is held by pid {os.getpid()} (" in str(caught.value)
    assert "--port-base" in str(caught.value)
    assert house.written() == []


async def test_a_port_whose_holder_is_just_dying_is_waited_for(house: House) -> None:
    part = house.part("only")
    # Bound and not listening: a holder that no list names, as a process is whose last threads are ending.
    dying = socket.socket()
    dying.bind(("127.0.0.1", part.port))
    asyncio.get_running_loop().call_later(0.4, dying.close)
    supervisor = house.supervisor(Stage([part]))
    await supervisor.up()
    await supervisor.down()
    assert "only started" in "\n".join(house.written())


async def test_a_part_that_refuses_to_start_stops_the_others_and_shows_its_log(house: House) -> None:
    good, bad = house.part("good"), house.part("bad", "refuses")
    with pytest.raises(PartFailed, match=r"bad ended at its start \(exit code 3\)(?s:.)*no such colour"):
        await house.supervisor(Stage([good]), Stage([bad])).up()
    assert house.written() == ["good started", "good ended"]
    assert is_free(good.port)


async def test_a_failing_task_between_stages_stops_everything(house: House) -> None:
    before, after = house.part("before"), house.part("after")
    task = Task("migrations", python("print('column is missing'); raise SystemExit(1)"))
    with pytest.raises(PartFailed, match=r"migrations failed \(exit code 1\)(?s:.)*column is missing"):
        await house.supervisor(Stage([before]), task, Stage([after])).up()
    assert house.written() == ["before started", "before ended"]


async def test_a_task_that_hangs_is_ended(house: House) -> None:
    task = Task("migrations", python("import time; time.sleep(100)"), timeout_seconds=0.3)
    with pytest.raises(PartFailed, match="took more than 0 s"):
        await house.supervisor(task).up()


async def test_stages_start_in_order_and_stop_in_reverse(house: House) -> None:
    server, api, worker = house.part("server"), house.part("api"), house.part("worker")
    supervisor = house.supervisor(
        Stage([server]), Task("migrations", python("pass")), Stage([api, worker], one_by_one=True)
    )
    await supervisor.up()
    started = house.written()
    assert started[0] == "server started"
    assert set(started[1:]) == {"api started", "worker started"}
    await supervisor.down()
    assert house.written()[3:] == ["worker ended", "api ended", "server ended"]
    kinds = [(said.kind, said.part) for said in house.said]
    assert kinds[:2] == [(Kind.READY, "server"), (Kind.DONE, "migrations")]
    assert house.record("api").state == "stopped"


async def test_a_child_that_dies_alone_is_started_again_with_growing_pauses(house: House) -> None:
    part = house.part("part")
    supervisor = house.supervisor(Stage([part]))
    await supervisor.up()
    for restarts in (1, 2):
        os.kill(house.pid("part"), signal.SIGKILL)
        await eventually(house.said_again(restarts))
        assert house.record("part").restarts == restarts
    died = [said.text for said in house.said if said.kind is Kind.DIED]
    assert died == [
        "killed by SIGKILL; starting it again in 0.25 s",
        "killed by SIGKILL; starting it again in 0.5 s",
    ]
    assert [said.kind for said in house.said].count(Kind.AGAIN) == 2
    assert house.record("part").last_end == "killed by SIGKILL"


async def test_a_part_that_ignores_its_stop_signal_is_killed_in_time(house: House) -> None:
    part = house.part("part", "stubborn")
    supervisor = house.supervisor(Stage([part]))
    await supervisor.up()
    async with asyncio.timeout(5):
        await supervisor.down()
    assert house.said[-1].kind is Kind.KILLED
    assert is_free(part.port)


async def test_stopping_ends_the_children_of_a_part_but_not_sessions_of_their_own(house: House) -> None:
    part = house.part("part", "family")
    supervisor = house.supervisor(Stage([part]))
    await supervisor.up()
    sandbox_pid = int(house.journal.read_text().splitlines()[0].split()[2])
    group = house.pid("part")
    await supervisor.down()
    await eventually(lambda: not members_of(group))
    sandbox = ProcessIdentity.of(sandbox_pid)
    assert sandbox is not None
    sandbox.stop(signal.SIGKILL, timeout_seconds=5)


@pytest.mark.parametrize("manner", ["good", "stubborn"])
async def test_after_sigkill_of_the_supervisor_the_next_one_finds_no_orphan_in_its_way(
    house: House, manner: str
) -> None:
    parts = [house.part("one", manner), house.part("two", manner)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ABANDON,
        str(house.state.path),
        str(house.journal),
        manner,
        *(str(part.port) for part in parts),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    orphans = [house.record("one").identity, house.record("two").identity]
    process.kill()
    await process.communicate()
    with house.state.lock():
        await house.supervisor(Stage(parts)).up()
    assert not any(orphan and orphan.alive for orphan in orphans)
    assert [line.split()[1] for line in house.written()].count("started") == 4


async def test_an_orphan_without_record_is_known_by_its_environment(house: House) -> None:
    part = house.part("part", "good")
    launch = part.launch()
    orphan = await asyncio.create_subprocess_exec(
        *launch.argv, env={**os.environ, STATE_VARIABLE: str(house.state.path)}, start_new_session=True
    )
    await eventually(part.is_ready)
    await house.supervisor(Stage([part])).up()
    assert await orphan.wait() == 0
    assert "stopping part" in house.said[0].text


async def test_a_process_that_took_over_a_recorded_pid_is_not_touched(house: House) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "300")
    identity = ProcessIdentity.of(stranger.pid)
    assert identity is not None
    earlier = replace(identity, start_ticks=identity.start_ticks - 1)
    RunRecord(None, [PartRecord("part", identity=earlier)]).save(house.state.record_path)
    await house.supervisor(Stage([house.part("part")])).up()
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


def test_a_second_supervisor_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    with state.lock(), pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"), state.lock():
        pass
    with state.lock():
        assert state.supervisor_pid() == os.getpid()
    assert state.supervisor_pid() is None
