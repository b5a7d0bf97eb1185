"""The audit log as a file, for a spreadsheet or a program. What proves itself is `perdure audit export`."""

import csv
import io
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import StreamingResponse

from api.dependencies import Caller, ProjectAccess, ServicesDep, require_platform, require_project
from api.errors import problems
from api.proof import require_recent_proof
from api.routes.audit.views import AuditedAct, FilterDep, shown
from api.services import Services
from database.store.audit import record
from database.store.audit_reading import Filter, all_acts
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.audit.canonical import canonical, plain

router = APIRouter(prefix="/api/v1", tags=["audit"])

ExportAccess = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.AUDIT_EXPORT)))]
ProjectExportAccess = Annotated[ProjectAccess, Depends(require_recent_proof(require_project(Permission.AUDIT_EXPORT)))]

COLUMNS = (
    *("at", "action", "outcome", "actor", "actor_id", "actor_kind", "on_behalf_of", "resource", "resource_id"),
    *("project_id", "address", "user_agent", "token_id", "session_id", "request_id", "trace_id"),
    *("detail", "before", "after", "id", "log", "seq", "hash"),
)
# What a spreadsheet takes for a formula (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


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
    caller: ExportAccess, wanted: FilterDep, services: ServicesDep, form: Form = Form.JSON
) -> StreamingResponse:
    """Every act that is found, oldest first, as it is read. Cells of the CSV never begin as a formula does."""
    return await _export(services, caller.actor, wanted, form)


@router.get(
    "/projects/{owner}/{name}/audit/export",
    summary="Export a project's audit log",
    responses=problems(400, 401, 403, 404),
    response_class=StreamingResponse,
)
async def get_project_audit_export(
    access: ProjectExportAccess, wanted: FilterDep, services: ServicesDep, form: Form = Form.JSON
) -> StreamingResponse:
    """As the export of the platform, of what was done to one project."""
    return await _export(services, access.actor, replace(wanted, project_id=access.project.id), form)


async def _export(services: Services, actor: Actor, wanted: Filter, form: Form) -> StreamingResponse:
    asked = {name: value for name, value in asdict(wanted).items() if value is not None}
    async with services.database.transaction() as session:
        resource = "project" if wanted.project_id else "platform"
        detail = {"form": form.value, "filter": asked}
        await record(
            session, actor, AuditAction.AUDIT_EXPORT, resource, wanted.project_id, wanted.project_id, detail=detail
        )
    body = _csv(services, wanted) if form is Form.CSV else _json(services, wanted)
    headers = {"content-disposition": f'attachment; filename="audit.{form.value}"', "cache-control": "no-store"}
    return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)


async def _json(services: Services, wanted: Filter) -> AsyncGenerator[str, None]:
    yield "["
    separator = "\n"
    async for act in all_acts(services.database, wanted):
        yield separator + shown(act, {}).model_dump_json()
        separator = ",\n"
    yield "\n]\n"


async def _csv(services: Services, wanted: Filter) -> AsyncGenerator[str, None]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    async for act in all_acts(services.database, wanted):
        writer.writerow(_cells(shown(act, {})))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


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
