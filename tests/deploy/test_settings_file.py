import tomllib
from pathlib import Path

import pytest

from deploy.local.credentials import ServerCredentials
from deploy.local.ports import block_of_ports
from deploy.local.servers import embedded_servers
from deploy.local.settings_file import WrittenSettings, set_value, write_settings


def write(state: Path, *, base: int = 7400) -> WrittenSettings:
    ports = block_of_ports(base)
    credentials = ServerCredentials.load_or_generate(state / "servers.json")
    return write_settings(state, servers=embedded_servers(state, ports=ports, credentials=credentials), ports=ports)


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[database]\nurl = nonsense\n")
    with pytest.raises(ValueError, match=r"settings.toml is not valid TOML: .*line 2"):
        write(tmp_path)


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    first = write(tmp_path).path.read_bytes()
    assert write(tmp_path).path.read_bytes() == first


def test_new_ports_change_addresses_and_keep_credentials_and_comments(tmp_path: Path) -> None:
    path = write(tmp_path).path
    path.write_text("# mine\n" + path.read_text().replace("[bus]", "[bus]  # theirs"))
    old = tomllib.loads(path.read_text())
    new = write(tmp_path, base=8400)
    text = path.read_text()
    assert "# mine" in text
    assert "[bus]  # theirs" in text
    assert new.values["bus"]["url"] == old["bus"]["url"].replace("7407", "8407")
    assert new.values["api"]["port"] == 8400
    assert new.values["temporal"]["payload_keys"] == old["temporal"]["payload_keys"]
    assert new.external == frozenset()


def test_ports_may_change_back_and_forth(tmp_path: Path) -> None:
    for base in (7400, 8400, 7400, 9400):
        written = write(tmp_path, base=base)
        assert written.external == frozenset()
        assert written.values["temporal"]["address"] == f"127.0.0.1:{base + 3}"


def test_a_server_of_the_operator_is_left_alone_and_not_started(tmp_path: Path) -> None:
    path = write(tmp_path).path
    own = "postgresql+asyncpg://me:secret@db.example:5432/perdure"
    ours = tomllib.loads(path.read_text())["database"]["url"]
    path.write_text(path.read_text().replace(ours, own))
    written = write(tmp_path, base=8400)
    assert written.external == {"postgres"}
    assert written.values["database"]["url"] == own


def test_a_server_named_before_the_first_start_is_used(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[temporal]\naddress = "temporal.example:7233"\n')
    written = write(tmp_path)
    assert written.external == {"temporal"}
    assert written.values["temporal"]["address"] == "temporal.example:7233"


def test_a_value_is_set_in_its_own_section_only() -> None:
    text = "[a]\nurl = 1\n\n[b]\nurl = 2  # old\n"
    assert set_value(text, "b", "url", "x") == '[a]\nurl = 1\n\n[b]\nurl = "x"\n'
    assert set_value(text, "a", "more", True) == "[a]\nurl = 1\nmore = true\n\n[b]\nurl = 2  # old\n"
    assert set_value(text, "c", "n", 3) == text + "\n[c]\nn = 3\n"
