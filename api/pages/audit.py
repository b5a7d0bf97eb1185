"""The audit log for people: found by who, what, when and from where; each act with what it changed."""

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.checkpoints import CheckpointView, views_of
from api.dependencies import Caller, CallerDep, ServicesDep, authenticate, check_permission
from api.pages.frame import Frame, frame_for
from api.rendering import render
from api.routes.audit.acts import combined
from api.routes.audit.views import ACTS, own_share
from api.services import Services
from database.store.audit_checkpoints import checkpoints
from database.store.audit_reading import Act, Filter, acts, names_of, project_names
from domain.access.permissions import Permission
from domain.audit.actions import ACTIONS
from domain.errors import NotFound

router = APIRouter(include_in_schema=False)

ACTS_SHOWN = 50
_TEXT_LENGTH_MAX = 300
_CELL_LENGTH_MAX = 20_000

Typed = Annotated[str, Query(max_length=_TEXT_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filter as it was typed; empty fields do not matter.

    Attributes:
        since: A day or a moment in UTC, as a browser's field for it sends it.
        until: As ``since``; a day is included as a whole.
    """

    anyone: str = ""
    action: str = ""
    outcome: str = ""
    address: str = ""
    project: str = ""
    target: str = ""
    email: str = ""
    since: str = ""
    until: str = ""

    @property
    def query(self) -> str:
        """What is typed, as a query string."""
        return urlencode({one.name: value for one in fields(self) if (value := getattr(self, one.name))})


def wanted_of(  # noqa: PLR0917  # FastAPI fills them by name
    anyone: Typed = "",
    action: Typed = "",
    outcome: Typed = "",
    address: Typed = "",
    project: Typed = "",
    target: Typed = "",
    email: Typed = "",
    since: Typed = "",
    until: Typed = "",
) -> Wanted:
    """The filter of the address."""
    typed = (anyone, action, outcome, address, project, target, email, since, until)
    return Wanted(*(value.strip() for value in typed))


@dataclass(frozen=True, slots=True)
class Change:
    """One field that an act changed, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ShownAct:
    """An act with the names that its ids have at present.

    Attributes:
        behalf: Names of those on whose behalf, nearest first; ids where there is no name any more.
        target: What was acted on, for a person.
        changes: What changed.
        facts: The rest of what the row says, name and value.
    """

    act: Act
    behalf: tuple[str, ...]
    target: str
    project: str | None
    changes: tuple[Change, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """What ``audit/index.html`` shows.

    Attributes:
        sees_all: Whether it is the whole log, or one's own acts (``scope`` says of what).
        error: What is wrong with the filter.
        export_url: Where the same is had as a file, but for the form; ``None`` where the reader may not export.
        last_checkpoint: For who sees everything: until where it is signed.
        has_checkpoints: Whether the reader may look at all of them.
    """

    frame: Frame
    wanted: Wanted
    rows: tuple[ShownAct, ...]
    sees_all: bool
    next_cursor: str | None
    actions: Sequence[str]
    export_url: str | None
    error: str | None = None
    has_checkpoints: bool = False
    last_checkpoint: CheckpointView | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the reader may see of the log: all or their own share of it, of the platform or of one project."""

    caller: Caller
    share: Filter | None
    project: str | None
    may_export: bool


async def scope_of(request: Request, services: Services, caller: Caller, project: str) -> tuple[Scope, UUID | None]:
    """The reader's scope, and the project that was asked for.

    Raises:
        NotFound: There is no such project, or it may not be seen.
        PermissionMissing: It may be seen, but not its audit log.
    """
    share = own_share(caller)
    if not project:
        return Scope(caller, share, None, caller.may(Permission.AUDIT_EXPORT)), None
    owner, _, name = project.partition("/")
    _, grant = await authenticate(request, services, owner=owner, name=name)
    if grant.project is None:
        raise NotFound(f"There is no project {project!r}, or you may not see it. Write it as owner/name.")
    if share is not None:
        await check_permission(services, grant, Permission.AUDIT_READ, grant.project.resource)
    on_project = Caller(grant.actor, grant.held)
    return Scope(on_project, None, grant.project.full_name, True), grant.project.id


@router.get("/audit", summary="Audit log")
async def get_audit_page(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    wanted: Annotated[Wanted, Depends(wanted_of)],
    cursor: Annotated[str | None, Query(max_length=1024)] = None,
) -> Response:
    """All acts, those of a project, or one's own: what the reader may see."""
    scope, project_id = await scope_of(request, services, caller, wanted.project)
    frame = frame_for(services, caller, section="audit")
    try:
        looked_for = _filter(wanted, project_id)
    except ValueError as error:
        page = AuditPage(frame, wanted, (), scope.share is None, None, ACTIONS, None, error=str(error))
        return render("audit/index.html", status_code=400, page=page, frame=frame)
    place = ACTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        found = await acts(
            session,
            services.database.audit_keys,
            combined(looked_for, scope.share),
            place=place,
            limit=ACTS_SHOWN + 1,
        )
        rows, following = ACTS.cut(services.secret_key, found, ACTS_SHOWN)
        people = {one for act in rows for one in act.chain} | {act.resource_id for act in rows if act.resource_id}
        names = await names_of(session, people)
        projects = await project_names(session, {act.project_id for act in rows if act.project_id})
        has_checkpoints = scope.share is None and scope.project is None
        last = await checkpoints(session, limit=1) if has_checkpoints else []
    page = AuditPage(
        frame=frame,
        wanted=wanted,
        rows=tuple(_shown(act, names, projects) for act in rows),
        sees_all=scope.share is None,
        next_cursor=following,
        actions=ACTIONS,
        export_url=_export_url(scope, looked_for) if scope.may_export else None,
        has_checkpoints=has_checkpoints,
        last_checkpoint=next(iter(await views_of(services, last)), None),
    )
    return render("audit/index.html", page=page, frame=frame)


def _filter(wanted: Wanted, project_id: UUID | None) -> Filter:
    """What was typed, as the store looks for it.

    Raises:
        ValueError: Something is not what its field is for; the message says what.
    """
    return Filter(
        anyone=wanted.anyone or None,
        action=wanted.action or None,
        outcome=wanted.outcome or None,
        address=_address(wanted.address) if wanted.address else None,
        target=_uuid(wanted.target) if wanted.target else None,
        email=wanted.email or None,
        since=_moment(wanted.since, is_end=False) if wanted.since else None,
        until=_moment(wanted.until, is_end=True) if wanted.until else None,
        project_id=project_id,
    )


def _address(text: str) -> str:
    try:
        return ipaddress.ip_address(text).compressed
    except ValueError:
        raise ValueError(f"{text!r} is no IP address.") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is no id: 32 hexadecimal digits with dashes.") from None


def _moment(text: str, *, is_end: bool) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write it as 2026-01-31 or 2026-01-31T18:30, in UTC.") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    is_day = "T" not in text and " " not in text
    return at.replace(hour=23, minute=59, second=59, microsecond=999_999) if is_day and is_end else at


def _export_url(scope: Scope, wanted: Filter) -> str:
    """Where the same acts are had as a file, but for the form."""
    place = f"/api/v1/projects/{scope.project}/audit/export" if scope.project else "/api/v1/audit/export"
    asked = {
        one.name: value.isoformat() if isinstance(value, datetime) else str(value)
        for one in fields(wanted)
        if one.name not in ("project_id", "only_of", "token_id") and (value := getattr(wanted, one.name)) is not None
    }
    return f"{place}?{urlencode(asked)}"


def _shown(act: Act, names: dict[UUID, str], projects: dict[UUID, str]) -> ShownAct:
    project = projects.get(act.project_id) if act.project_id else None
    target = act.resource
    if act.resource == "project" and project:
        target = f"project {project}"
    elif act.resource_id is not None:
        target = f"{act.resource} {names.get(act.resource_id, act.resource_id)}"
    ids = {
        "trace": act.trace_id,
        "request": act.request_id,
        "session": act.session_id,
        "token": act.token_id,
        "user agent": act.user_agent,
        "actor id": act.actor_id,
        "target id": act.resource_id,
        "row": f"{act.id} · log {act.log}, number {act.seq}",
        "hash": act.hash,
    }
    detail = act.detail if isinstance(act.detail, dict) else {}
    told = {name: _text(value) for name, value in detail.items() if not _is_change(value)}
    return ShownAct(
        act=act,
        behalf=tuple(names.get(one, str(one)) for one in act.chain),
        target=target,
        project=project,
        changes=_changes(act, detail),
        facts=(*told.items(), *((name, str(value)) for name, value in ids.items() if value is not None)),
    )


def _is_change(value: Any) -> bool:  # noqa: ANN401  # whatever a detail may be
    return isinstance(value, dict) and bool(value) and set(value) <= {"before", "after"}


def _changes(act: Act, detail: dict[str, Any]) -> tuple[Change, ...]:
    before = act.before if isinstance(act.before, dict) else {}
    after = act.after if isinstance(act.after, dict) else {}
    found = [Change(name, _text(before.get(name)), _text(after.get(name))) for name in sorted({*before, *after})]
    found += [
        Change(name, _text(value.get("before")), _text(value.get("after")))
        for name, value in detail.items()
        if _is_change(value)
    ]
    return tuple(found)


def _text(value: Any) -> str:  # noqa: ANN401  # whatever a detail may be
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        text = "\n".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return text if len(text) <= _CELL_LENGTH_MAX else text[:_CELL_LENGTH_MAX] + " …"
