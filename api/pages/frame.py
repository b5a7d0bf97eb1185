"""What every page for a signed-in person shows, and how values are written for people."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.csrf import FIELD, csrf_token
from api.dependencies import Caller, ProjectAccess
from api.rendering import environment
from api.services import Services
from domain.access.decide import PLATFORM, decide
from domain.access.permissions import Permission
from domain.git.refs import is_sha, short_name

STATIC = Path(__file__).parents[1] / "static"
SHA_CHARACTERS = 8

_UNITS = (("year", 365 * 86400), ("month", 30 * 86400), ("day", 86400), ("h", 3600), ("min", 60))


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a page.

    Attributes:
        csrf_token: For the page's forms; empty for a reader without a browser session, who gets no forms.
        temporal_ui_url: Empty if there is no UI.
        token_command: Makes an API token for git, in a terminal.
        section: Which entry of the navigation is the present one.
        sees_people: Whether the navigation leads to everybody; others see whom they answer for from their account.
    """

    user_name: str
    csrf_token: str
    temporal_ui_url: str
    token_command: str
    section: str = "projects"
    sees_people: bool = False
    csrf_field: str = FIELD


def frame_for(services: Services, who: Caller | ProjectAccess, *, section: str = "projects") -> Frame:
    """The frame of a page that was asked for."""
    actor = who.actor
    token = csrf_token(services.secret_key, actor.session_id) if actor.session_id is not None else ""
    asked = '{"name": "git", "scopes": ["pipeline:run", "project:create", "project:read", "project:write"]}'
    command = f"curl -u {actor.name} {services.public_url}/api/v1/tokens --json '{asked}'"
    sees_people = decide(actor, Permission.ADMIN_USERS, PLATFORM, held=who.held).allowed
    return Frame(actor.name, token, services.temporal_ui_url, command, section, sees_people)


def iso(at: datetime) -> str:
    """For ``<time datetime>``."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: datetime) -> str:
    """The absolute time, for a title."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(at: datetime) -> str:
    """How long ago, in the largest unit that fits; ``static/app.js`` keeps it fresh in the same words."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    for unit, unit_seconds in _UNITS:
        count = int(seconds // unit_seconds)
        if count >= 1:
            word = unit + "s" if count > 1 and unit in ("year", "month", "day") else unit
            return f"{count} {word} ago"
    return "just now"


def duration(length: timedelta | int | None) -> str:
    """A length of time; an ``int`` is in milliseconds."""
    if length is None:
        return ""
    seconds = length / 1000 if isinstance(length, int) else length.total_seconds()
    if seconds < 10:  # noqa: PLR2004  # below ten seconds a tenth is worth reading
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def since(at: datetime) -> str:
    """The length of time from then to now."""
    return duration(max(datetime.now(UTC) - at, timedelta()))


def size(size_bytes: int) -> str:
    """Bytes in the unit that fits."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:  # noqa: PLR2004  # IEC 80000-13
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004  # two digits are enough
        amount /= 1024
    return f"{amount:.1f} GiB"


def short_sha(sha: str | None) -> str:
    """Enough of a commit's id for a person."""
    return (sha or "")[:SHA_CHARACTERS]


def short_ref(ref: str) -> str:
    """A branch or tag as people call it; a commit's id is shortened."""
    return short_sha(ref) if is_sha(ref) else short_name(ref)


def asset(name: str) -> str:
    """The address of a static file; it changes with its content, so that browsers may keep it."""
    address = _ADDRESSES.get(name)
    if address is None:
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
        address = _ADDRESSES[name] = f"/static/{name}?v={digest}"
    return address


_ADDRESSES: dict[str, str] = {}

environment.globals["asset"] = asset
for _write in (iso, moment, ago, duration, since, size, short_sha, short_ref):
    environment.filters[_write.__name__] = _write
