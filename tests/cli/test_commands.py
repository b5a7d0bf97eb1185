import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.up import _choose_ports
from deploy.local.identity import ProcessIdentity
from deploy.local.installation import open_installation
from deploy.local.ports import BASE_DEFAULT, PORT_NAMES, block_of_ports, free_ports
from deploy.local.state import HOME_VARIABLE, PartRecord, RunRecord, StateDirectory
from deploy.local.supervisor import Stage, Supervisor


def perdure(state: Path, *arguments: str) -> Result:
    """The command, run here: `test_up.py` and the chaos tests run it as a process."""
    return CliRunner().invoke(main, arguments, env={HOME_VARIABLE: str(state)}, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "nonsense=1"], "there is no port called 'nonsense'"),
        (["--port", "api=80"], "must be a number from 1024 to 65535"),
        (["--port", "api=x"], "must be a number"),
        (["--port", "api=7406"], "would listen on the same port: api, postgres"),
        (["--port-base", "65530"], "the first port must lie between"),
        (["--port-base", "7500", "--ports", "auto"], "choose one of"),
    ],
)
def test_up_refuses_ports_that_cannot_be(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    answer = perdure(tmp_path / "state", "up", *arguments)
    assert answer.exit_code == 1
    assert complaint in answer.stderr


def test_a_second_up_names_who_runs(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    with state.lock():
        answer = perdure(state.path, "up")
    assert answer.exit_code == 1
    assert "already runs" in answer.stderr
    assert "perdure down" in answer.stderr


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    (state.path / "settings.toml").write_text("[api\n")
    answer = perdure(state.path, "up")
    assert answer.exit_code == 1
    assert "settings.toml is not valid TOML" in answer.stderr


def test_status_and_down_of_a_place_where_nothing_ran(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert "never ran" in perdure(state, "status").stdout
    answer = perdure(state, "status", "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["running"] is False
    assert "Nothing runs" in perdure(state, "down").stdout
    assert not state.exists()


def test_down_stops_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    orphan = subprocess.Popen(["sleep", "300"], start_new_session=True)
    RunRecord(None, [PartRecord("api", state="ready", identity=ProcessIdentity.of(orphan.pid))]).save(state.record_path)
    answer = perdure(state.path, "down")
    assert "stopping api" in answer.stdout
    assert orphan.wait(timeout=5) == -15


async def test_status_shows_each_part_with_pid_port_memory_and_health(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    (state.path / "settings.toml").write_text('[temporal]\naddress = "temporal.example:7233"\n')
    with state.lock():
        installation = open_installation(state, ports=free_ports())
        servers = installation.stages[0]
        supervisor = Supervisor(state, [servers], external=installation.external, announce=lambda _: None)
        await supervisor.up()
        try:
            # In a thread, because it brings an event loop of its own.
            answer = await asyncio.to_thread(perdure, state.path, "status", "--json")
            table = (await asyncio.to_thread(perdure, state.path, "status")).stdout
        finally:
            await supervisor.down()
    assert answer.exit_code == 0, answer.stdout + answer.stderr
    status = json.loads(answer.stdout)
    parts = {part["part"]: part for part in status["parts"]}
    assert list(parts) == ["temporal", "postgres", "valkey", "s3"]
    assert parts["temporal"]["state"] == "external"
    assert parts["temporal"]["address"] == "temporal.example:7233"
    for name in ("postgres", "valkey", "s3"):
        part = parts[name]
        assert (part["state"], part["health"], part["restarts"]) == ("ready", "ok", 0)
        assert part["port"] == installation.ports[name]
        assert part["memory_bytes"] > 1_000_000
        assert str(part["pid"]) in table
    assert isinstance(servers, Stage)
    after = json.loads((await asyncio.to_thread(perdure, state.path, "status", "--json")).stdout)
    assert after["running"] is False
    assert {part["health"] for part in after["parts"]} == {"down", "unknown"}


@pytest.mark.parametrize("name", PORT_NAMES)
def test_every_port_can_be_chosen_alone(tmp_path: Path, name: str) -> None:
    state = StateDirectory(tmp_path / "state")
    chosen = _choose_ports(state, port_base=None, single=(f"{name}=9999",), automatic=False)
    assert chosen == {**block_of_ports(BASE_DEFAULT), name: 9999}
