"""What a step cannot see, reach or change, tried from inside with real commands."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.sandbox.local import LocalSandboxes
from adapters.sandbox.local.spawn import FORK_SERVER
from tests.adapters.sandbox.support import make_spec, processes_with, run


@pytest.fixture(params=["user namespaces", "root without user namespaces"])
def local(request: pytest.FixtureRequest, local: LocalSandboxes) -> LocalSandboxes:
    """Each way in which a host may separate steps."""
    if request.param == "user namespaces":
        return local
    as_root: LocalSandboxes = request.getfixturevalue("local_as_root")
    return as_root


class TestSystem:
    async def test_the_system_is_read_only(self, local: LocalSandboxes, run_id: UUID) -> None:
        places = "/ /usr /usr/bin /etc /etc/ssl /dev /run /run/perdure /var"
        _, output = await run(
            local, run_id, f"for d in {places}; do touch $d/x 2>/dev/null && echo wrote $d; done; true"
        )
        assert output == ""

    async def test_files_of_its_own_can_be_written(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, output = await run(
            local, run_id, 'for d in /work /tmp /var/tmp /dev/shm "$HOME"; do echo x > "$d/x" && cat "$d/x"; done; pwd'
        )
        assert (outcome.exit_code, output) == (0, "x\n" * 5 + "/work\n")

    async def test_only_the_named_parts_of_the_host_are_there(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "ls -A /")
        allowed = {"bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "tmp", "usr", "var", "work"}
        assert set(output.split()) <= allowed

    async def test_secrets_of_the_host_are_not_there(
        self, local: LocalSandboxes, run_id: UUID, local_root: Path
    ) -> None:
        other = uuid4()
        (await local.create_workspace(other) / "secret").write_text("of another run")
        await local.hand_over_workspace(other)
        places = ["/root", "/home", "/etc/shadow", "/sys", "/mnt", str(local_root), str(local.workspace_path(other))]
        _, output = await run(local, run_id, *(f"test ! -e {place} || echo {place}" for place in places))
        assert output == ""
        await local.destroy_run(other)

    async def test_no_descriptor_leads_out(self, local: LocalSandboxes, run_id: UUID) -> None:
        command = "for p in /proc/[0-9]*; do readlink $p/fd/* $p/cwd $p/root; done 2>/dev/null | sort -u"
        _, output = await run(local, run_id, command)
        outside = [
            line for line in output.split() if not line.startswith(("pipe:", "/dev/null", "anon_inode:", "/proc/"))
        ]
        assert set(outside) <= {"/", "/work", "/run/perdure/step"}

    async def test_devices_cannot_be_made(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "mknod disk b 8 0 2>/dev/null && echo made; ls /dev; true")
        assert "made" not in output
        assert not {"sda", "vda", "mem", "kmsg", "kvm"} & set(output.split())

    async def test_set_user_id_programs_give_nothing(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status")
        assert output.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


class TestEnvironment:
    async def test_only_the_spec_fills_the_environment(
        self, local: LocalSandboxes, run_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PERDURE_TEST_SECRET", "of the worker")
        _, output = await run(local, run_id, "env", env={"MINE": "grün\nzwei Zeilen", "PATH": "/usr/bin:/bin"})
        assert "MINE=grün\nzwei Zeilen\n" in output
        assert "PATH=/usr/bin:/bin\n" in output
        names = {line.split("=")[0] for line in output.splitlines() if "=" in line}
        assert names <= {"MINE", "PATH", "HOME", "LANG", "LOGNAME", "PWD", "OLDPWD", "SHELL", "USER", "SHLVL", "_"}

    async def test_neither_commands_nor_environment_are_in_the_list_of_processes(
        self, local: LocalSandboxes, run_id: UUID
    ) -> None:
        spec = make_spec(run_id, "echo ready", "sleep 600 # hush-command", env={"TOKEN": "hush-value"})
        await local.start(spec)
        while b"sleep 600" not in await local.read_log(spec.id, offset=0, size_bytes_max=4096):
            await local.wait(spec.id, log_offset=len(await local.read_log(spec.id, offset=0, size_bytes_max=4096)),
                             timeout_seconds=5)  # fmt: skip
        assert processes_with("hush") == []
        record = local.root / "sandboxes" / spec.id
        stored = [path for path in record.iterdir() if path.name != "log" and b"hush" in path.read_bytes()]
        assert stored == []
        await local.kill(spec.id)

    async def test_files_are_made_as_on_any_machine(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "umask; ulimit -c; trap")
        assert output == "0022\n0\n"

    @pytest.mark.parametrize("started_by", ["a terminal", "nohup in the background"])
    async def test_no_signal_is_ignored(self, local: LocalSandboxes, run_id: UUID, started_by: str) -> None:
        before = signal.getsignal(signal.SIGQUIT)
        if started_by != "a terminal":
            signal.signal(signal.SIGQUIT, signal.SIG_IGN)
            await run(local, run_id, "true")
            os.kill(FORK_SERVER.pid, signal.SIGKILL)  # the next one inherits it
            await asyncio.to_thread(os.waitid, os.P_PID, FORK_SERVER.pid, os.WEXITED | os.WNOWAIT)
        try:
            _, output = await run(local, run_id, "grep -E 'SigIgn|SigBlk' /proc/self/status")
        finally:
            signal.signal(signal.SIGQUIT, before)
        masks = [int(mask, 16) for mask in output.split()[1::2]]
        # 32 and 33 are the C library's own.
        assert [mask & 0x7FFFFFFF for mask in masks] == [0, 0]

    async def test_it_has_a_name_and_a_user_of_its_own(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "hostname; whoami; id -u; echo $HOME; cd; pwd")
        uid = str(local._host.uid) if local._host.as_root else "1000"
        assert output.split() == ["perdure", "perdure", uid, "/tmp/home", "/tmp/home"]  # noqa: S108  inside

    async def test_it_has_no_capability_and_gets_none(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "grep -E '^(Cap|NoNewPrivs)' /proc/self/status")
        said = {name: int(value, 16) for name, value in (line.split(":") for line in output.splitlines())}
        assert said == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1}


class TestProcesses:
    async def test_only_its_own_processes_are_seen(self, local: LocalSandboxes, run_id: UUID) -> None:
        _, output = await run(local, run_id, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
        assert f"{os.getpid()}" not in output
        assert 1 < len(output.split("\n")) < 8
        assert "pytest" not in output

    async def test_a_user_namespace_cannot_be_made(self, local: LocalSandboxes, run_id: UUID) -> None:
        if local._host.as_root:
            pytest.skip("there are none on such a host")
        outcome, output = await run(local, run_id, "unshare --user --map-root-user id -u")
        assert outcome.exit_code != 0
        assert "0\n" not in output

    async def test_a_background_process_ends_with_the_step(self, local: LocalSandboxes, run_id: UUID) -> None:
        outcome, _ = await run(local, run_id, "setsid sh -c 'trap \"\" TERM HUP; sleep 987650' &", "true")
        assert outcome.exit_code == 0
        assert processes_with("987650") == []


class TestNetwork:
    async def test_there_is_none_by_default(self, local: LocalSandboxes, run_id: UUID) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            outcome, output = await run(local, run_id, "cat /proc/net/dev | tail -n +3 | cut -d: -f1", _connect(port))
        assert outcome.exit_code != 0
        assert output.split()[0] == "lo"
        assert "connected" not in output

    async def test_its_own_loopback_works(self, local: LocalSandboxes, run_id: UUID) -> None:
        program = (
            "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 1, LocalAddr => q(127.0.0.1)) or die;"
            "IO::Socket::INET->new(PeerAddr => q(127.0.0.1), PeerPort => $s->sockport) or die; print q(own loopback)"
        )
        _, output = await run(local, run_id, f"perl -e '{program}'")
        assert output == "own loopback"

    async def test_abstract_sockets_of_the_host_are_out_of_reach(self, local: LocalSandboxes, run_id: UUID) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"\0perdure-{run_id}")
            server.listen()
            _, output = await run(local, run_id, "cat /proc/net/unix")
        assert str(run_id) not in output

    async def test_the_operator_may_grant_it(self, local: LocalSandboxes, run_id: UUID) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            outcome, output = await run(local, run_id, _connect(port), network=True)
        assert (outcome.exit_code, output) == (0, "connected")


def _connect(port: int) -> str:
    return (
        f"perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => q(127.0.0.1), PeerPort => {port}) or die $!;"
        " print q(connected)'"
    )
