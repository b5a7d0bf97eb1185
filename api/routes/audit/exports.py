"""The audit log as a file, for a spreadsheet or a program. What proves itself is `perdure audit export`."""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse

from api.dependencies import (
    Caller,
    ProjectAccess,
    ServicesDep,
    authenticate,
    require_platform,
    require_project,
)
from api.errors import problems
from api.proof import require_recent_proof
from api.routes.audit.views import AuditedAct, FilterDep, shown
from api.services import Services
from api.strict_route import StrictRoute
from database.store.audit import record
from database.store.audit_reading import Act, Filter, all_acts
from domain.access.decide import PLATFORM, decide
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.audit.canonical import canonical, plain
from domain.errors import Unauthenticated
from domain.projects import ProjectView

router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=StrictRoute)

ExportAccess = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.AUDIT_EXPORT)))]
ProjectExportAccess = Annotated[ProjectAccess, Depends(require_recent_proof(require_project(Permission.AUDIT_EXPORT)))]

COLUMNS = (
    *("at", "action", "outcome", "actor", "actor_id", "actor_kind", "on_behalf_of", "resource", "resource_id"),
    *("project_id", "address", "user_agent", "token_id", "session_id", "request_id", "trace_id"),
    *("detail", "before", "after", "id", "log", "seq", "hash"),
)
# What a spreadsheet takes for a formula (OWASP, "CSV injection"), some of them also full-width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# So many rows later, whoever asked may not be allowed any more.
_LOOK_AGAIN_ROWS = 500
_PIECE_CHARACTERS = 64 * 1024
_TAKEN_BACK = "cut off here: the right to export was taken back meanwhile"


class Form(StrEnum):
    """How the file is written."""

    CSV = "csv"
    JSON = "json"


MEDIA_TYPES = {Form.CSV: "text/csv; charset=utf-8", Form.JSON: "application/json"}


@router.get(
    "/audit/export",
    summary="Export the audit log",
    responses=problems(400, 401, 403),
    response_class=StreamingResponse,
)
async def get_audit_export(
    request: Request, caller: ExportAccess, wanted: FilterDep, services: ServicesDep, form: Form = Form.JSON
) -> StreamingResponse:
    """Every act that is found, oldest first, as it is read. Cells of the CSV never begin as a formula does.

    Ends early, with a line that says so (and as JSON without its end), when the right to it is taken back meanwhile.
    """

    async def may_go_on() -> bool:
        return await _may(request, services)

    return await _export(services, caller.actor, wanted, form, may_go_on)


@router.get(
    "/projects/{owner}/{name}/audit/export",
    summary="Export a project's audit log",
    responses=problems(400, 401, 403, 404),
    response_class=StreamingResponse,
)
async def get_project_audit_export(
    request: Request, access: ProjectExportAccess, wanted: FilterDep, services: ServicesDep, form: Form = Form.JSON
) -> StreamingResponse:
    """As the export of the platform, of what was done to one project."""

    async def may_go_on() -> bool:
        return await _may(request, services, access.project)

    wanted = replace(wanted, project_id=access.project.id)
    return await _export(services, access.actor, wanted, form, may_go_on)


async def _may(request: Request, services: Services, project: ProjectView | None = None) -> bool:
    """Whether the credential and the right are still there."""
    owner, name = (project.owner_name, project.name) if project is not None else (None, None)
    try:
        _, grant = await authenticate(request, services, owner=owner, name=name)
    except Unauthenticated:
        return False
    resource = PLATFORM if project is None else project.resource
    is_there = project is None or (grant.project is not None and grant.project.id == project.id)
    return is_there and decide(grant.actor, Permission.AUDIT_EXPORT, resource, held=grant.held).allowed


async def _export(
    services: Services, actor: Actor, wanted: Filter, form: Form, may_go_on: Callable[[], Awaitable[bool]]
) -> StreamingResponse:
    asked = {name: value for name, value in asdict(wanted).items() if value is not None}
    async with services.database.transaction() as session:
        resource = "project" if wanted.project_id else "platform"
        detail = {"form": form.value, "filter": asked}
        await record(
            session, actor, AuditAction.AUDIT_EXPORT, resource, wanted.project_id, wanted.project_id, detail=detail
        )
    found = _while_allowed(all_acts(services.database, wanted), may_go_on)
    body = _csv(found) if form is Form.CSV else _json(found)
    headers = {"content-disposition": f'attachment; filename="audit.{form.value}"', "cache-control": "no-store"}
    return StreamingResponse(_in_pieces(body), media_type=MEDIA_TYPES[form], headers=headers)


async def _while_allowed(
    acts: AsyncIterator[Act], may_go_on: Callable[[], Awaitable[bool]]
) -> AsyncIterator[Act | None]:
    """The acts; ``None`` instead of the rest where the right to them was taken back."""
    number = 0
    async for act in acts:
        if number and number % _LOOK_AGAIN_ROWS == 0 and not await may_go_on():
            yield None
            return
        yield act
        number += 1


async def _json(found: AsyncIterator[Act | None]) -> AsyncGenerator[str, None]:
    yield "["
    separator = "\n"
    async for act in found:
        if act is None:
            yield f"\n{_TAKEN_BACK}\n"
            return
        yield separator + shown(act, {}).model_dump_json()
        separator = ",\n"
    yield "\n]\n"


async def _csv(found: AsyncIterator[Act | None]) -> AsyncGenerator[str, None]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\r\n", quoting=csv.QUOTE_ALL)  # RFC 4180
    writer.writerow(COLUMNS)
    async for act in found:
        writer.writerow([_TAKEN_BACK] if act is None else _cells(shown(act, {})))
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


async def _in_pieces(lines: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The same text in fewer and larger pieces: each one costs a pass through the server."""
    piece = io.StringIO()
    async for line in lines:
        piece.write(line)
        if piece.tell() >= _PIECE_CHARACTERS:
            yield piece.getvalue()
            piece.seek(0)
            piece.truncate()
    yield piece.getvalue()


def _cells(act: AuditedAct) -> list[str]:
    facts = act.model_dump(mode="json")
    facts |= {"actor": act.actor.name, "actor_id": act.actor.id, "actor_kind": act.actor.kind}
    facts["on_behalf_of"] = " ".join(str(one.id) for one in act.on_behalf_of)
    return [_cell(facts[column]) for column in COLUMNS]


def _cell(value: Any) -> str:  # noqa: ANN401  # whatever a detail may be
    if value is None:
        return ""
    text = canonical(plain(value)) if isinstance(value, dict | list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
