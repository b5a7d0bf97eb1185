"""``settings.toml``: what the API and the worker read.

It is written on first use and belongs to the operator afterwards: later starts change only the addresses of embedded
servers whose ports changed. A section that the operator pointed at a server of their own is left alone, and that
part is not started.
"""

import base64
import json
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path

from deploy.local.postgres import APP_ROLE, OWNER_ROLE
from deploy.local.private_files import write_private
from deploy.local.servers import Servers

Value = str | int | bool | dict[str, str]
Sections = dict[str, dict[str, Value]]

SECTION_OF_PART = {"postgres": "database", "temporal": "temporal", "valkey": "bus", "s3": "objects"}
"""Which section names the server of a part."""

ADDRESS_KEYS = {
    "database": ("url", "owner_url"),
    "temporal": ("address", "ui_url"),
    "bus": ("url",),
    "objects": ("endpoint", "access_key", "secret_key"),
}
"""The keys that say where a server is. They differ from ours exactly when the operator changed them."""


@dataclass(frozen=True)
class WrittenSettings:
    """The settings file as it now stands.

    Attributes:
        path: The file; programs get it in ``PERDURE_SETTINGS``.
        values: Its content.
        external: Names of the parts that the operator runs elsewhere.
    """

    path: Path
    values: Sections
    external: frozenset[str]


def write_settings(state: Path, *, servers: Servers, ports: dict[str, int]) -> WrittenSettings:
    """Brings ``settings.toml`` in ``state`` in line with the embedded servers.

    Raises:
        ValueError: The file is not valid TOML; the message names it and the line.
    """
    path = state / "settings.toml"
    record = state / "settings.ours.json"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    text = before
    present = _parse(path, text)
    addresses = _addresses(servers, ports)
    history: list[Sections] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    if addresses not in history:
        # Before the settings: a crash in between must not make our own address look like an operator's choice.
        history.append(addresses)
        write_private(record, json.dumps(history, indent=2) + "\n")
    external = frozenset(
        part for part, section in SECTION_OF_PART.items() if _is_foreign(present.get(section), history, section)
    )
    wanted = _first_values(state, servers)
    for section, keys in addresses.items():
        wanted.setdefault(section, {}).update(keys)
    for section, keys in wanted.items():
        if any(SECTION_OF_PART[part] == section for part in external):
            continue
        for key, value in keys.items():
            known = present.get(section, {}).get(key)
            if known is None or (known != value and _was_ours(known, history, section, key)):
                text = set_value(text, section, key, value)
    if not path.exists() or text != before:
        write_private(path, text)
    password = state / "admin-password"
    if not password.exists():
        write_private(password, secrets.token_urlsafe(18) + "\n")
    return WrittenSettings(path, _parse(path, text), external)


def set_value(text: str, section: str, key: str, value: Value) -> str:
    """``text`` (TOML) with ``key`` of ``section`` set to ``value``; every other line, comments too, stays."""
    lines = text.splitlines()
    line = f"{key} = {_toml(value)}"
    header = f"[{section}]"
    starts = [number for number, content in enumerate(lines) if content.split("#")[0].strip() == header]
    if not starts:
        return "\n".join([*lines, *([""] if lines else []), header, line]) + "\n"
    start = starts[0] + 1
    end = next((n for n in range(start, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    for number in range(start, end):
        if lines[number].split("=")[0].strip() == key:
            lines[number] = line
            return "\n".join(lines) + "\n"
    while end > start and not lines[end - 1].strip():
        end -= 1
    lines.insert(end, line)
    return "\n".join(lines) + "\n"


def _parse(path: Path, text: str) -> Sections:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}. Nothing was started; correct that line.") from error


def _was_ours(value: Value, history: list[Sections], section: str, key: str) -> bool:
    return any(written.get(section, {}).get(key) == value for written in history)


def _is_foreign(present: dict[str, Value] | None, history: list[Sections], section: str) -> bool:
    chosen = {key: value for key, value in (present or {}).items() if key in ADDRESS_KEYS[section]}
    return any(not _was_ours(value, history, section, key) for key, value in chosen.items())


def _toml(value: Value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _addresses(servers: Servers, ports: dict[str, int]) -> Sections:
    return {
        "database": {"url": servers.postgres.url(APP_ROLE), "owner_url": servers.postgres.url(OWNER_ROLE)},
        "temporal": {"address": servers.temporal.address, "ui_url": servers.temporal.ui_url},
        "bus": {"url": servers.valkey.url},
        "objects": {
            "endpoint": servers.s3.address,
            "access_key": servers.s3.credentials.access_key,
            "secret_key": servers.s3.credentials.secret_key,
        },
        "api": {"port": ports["api"], "public_url": f"http://127.0.0.1:{ports['api']}"},
        "worker": {"health_port": ports["worker"]},
    }


def _first_values(state: Path, servers: Servers) -> Sections:
    return {
        "database": {},
        "temporal": {
            "namespace": servers.temporal.namespace,
            "payload_key_id": "k1",
            "payload_keys": {"k1": _key()},
        },
        "bus": {},
        "objects": {"bucket": servers.s3.bucket, "secure": False},
        "api": {"host": "127.0.0.1", "secret_key": _key()},
        "worker": {},
        "repositories": {"root": str(state / "repositories")},
        "sandbox": {"root": str(state / "sandboxes")},
        "access": {"admin_name": "admin", "admin_password_file": str(state / "admin-password")},
        "audit": {"secret_key": _key(), "signing_key": _key()},
        "mail": {"outbox": str(state / "outbox")},
    }
