"""One installation: its state directory, ports, settings, and the stages in which it starts."""

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.local.credentials import ServerCredentials
from deploy.local.part import Part
from deploy.local.ports import BASE_DEFAULT, block_of_ports
from deploy.local.private_files import write_private
from deploy.local.python_programs import PythonProgram, python_launch
from deploy.local.servers import Servers, embedded_servers
from deploy.local.settings_file import SECTION_OF_PART, Value, WrittenSettings, write_settings
from deploy.local.state import PartRecord, StateDirectory
from deploy.local.supervisor import Stage, Task

CODEC_PATH = "/api/v1/temporal/codec"
"""Where the API decodes payloads for the Temporal UI."""


@dataclass(frozen=True)
class Installation:
    """Everything that `perdure up` runs, wired to one state directory."""

    state: StateDirectory
    ports: dict[str, int]
    servers: Servers
    settings: WrittenSettings
    api: PythonProgram
    worker: PythonProgram

    @property
    def parts(self) -> list[Part]:
        """Every part that is ours to run, in the order of its start."""
        return [*self._own_servers(), self.api, self.worker]

    @property
    def external(self) -> list[PartRecord]:
        """The servers that the operator runs elsewhere."""
        values = self.settings.values
        found = []
        for name in sorted(self.settings.external):
            section = values[SECTION_OF_PART[name]]
            address = section.get("address") or section.get("endpoint") or section.get("url") or ""
            # What stands before the @ of an address is a credential.
            found.append(PartRecord(name=name, state="external", address=str(address).rpartition("@")[2]))
        return found

    @property
    def stages(self) -> list[Stage | Task]:
        """Servers, migrations, programs."""
        migrate = Task("migrations", python_launch("migrations.upgrade", settings_path=self.settings.path))
        # The worker ends first: it hands its steps over while the API and the servers still answer.
        return [Stage(self._own_servers()), migrate, Stage([self.api, self.worker], one_by_one=True)]

    @property
    def api_url(self) -> str:
        """Where this host reaches the API."""
        return f"http://{self.api.address}"

    @property
    def public_url(self) -> str:
        """Where people reach it."""
        return str(self.settings.values["api"]["public_url"])

    @property
    def temporal_ui_url(self) -> str:
        """Where people look at workflows."""
        return str(self.settings.values["temporal"].get("ui_url", ""))

    @property
    def admin_name(self) -> str:
        """The first administrator."""
        return str(self.settings.values["access"]["admin_name"])

    @property
    def admin_password_path(self) -> Path:
        """The file with the administrator's first password."""
        return Path(str(self.settings.values["access"]["admin_password_file"]))

    def _own_servers(self) -> list[Part]:
        return [part for part in self.servers.parts if part.name not in self.settings.external]


def open_installation(state: StateDirectory, *, ports: dict[str, int] | None = None) -> Installation:
    """Makes the installation in ``state`` on first use, reads it afterwards.

    Without new ports it writes nothing once everything exists, so `perdure status` may call it at any time.

    Args:
        ports: Where to listen from now on; ``None`` for where it listened last, at first the default block.

    Raises:
        ValueError: ``settings.toml`` is not valid; the message says where.
    """
    chosen = ports or chosen_ports(state)
    credentials = ServerCredentials.load_or_generate(state.path / "servers.json")
    codec = f"http://127.0.0.1:{chosen['api']}{CODEC_PATH}"
    servers = embedded_servers(state.path, ports=chosen, credentials=credentials, codec_endpoint=codec)
    settings = write_settings(state.path, servers=servers, ports=chosen)
    if chosen != _recorded_ports(state):
        write_private(state.path / "ports.json", json.dumps(chosen, indent=2) + "\n")
    return Installation(
        state=state,
        ports=chosen,
        servers=servers,
        settings=settings,
        api=PythonProgram(
            "api",
            module="api.main",
            port=_port(settings.values["api"]["port"]),
            ready_path="/readyz",
            settings_path=settings.path,
        ),
        worker=PythonProgram(
            "worker",
            module="worker.main",
            port=_port(settings.values["worker"]["health_port"]),
            ready_path="/healthz",
            settings_path=settings.path,
        ),
    )


def chosen_ports(state: StateDirectory) -> dict[str, int]:
    """Where the installation listened last; the default block if it never did."""
    return {**block_of_ports(BASE_DEFAULT), **_recorded_ports(state)}


def _recorded_ports(state: StateDirectory) -> dict[str, int]:
    path = state.path / "ports.json"
    if not path.exists():
        return {}
    recorded: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def _port(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError(f"a port in settings.toml is {value!r}, but must be a number")  # shown to its writer
    return value
