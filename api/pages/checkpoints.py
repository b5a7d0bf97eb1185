"""The checkpoints of the audit log for people: whether each is kept, and one made now."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from api.checkpoints import CheckpointView, views_of
from api.dependencies import Caller, ServicesDep
from api.idempotency import just_once
from api.pages.access.refusals import refusal_of
from api.pages.frame import Frame, frame_for
from api.rendering import render
from api.routes.audit.checkpoints import (
    BEGUN,
    CHECKPOINTS,
    AuditReader,
    CheckpointOrder,
    ProvenExporter,
    order_checkpoint,
)
from api.services import Services
from database.store.audit_checkpoints import checkpoints
from domain.access.permissions import Permission

router = APIRouter(include_in_schema=False)

HERE = "/audit/checkpoints"
CHECKPOINTS_SHOWN = 25


@dataclass(frozen=True, slots=True)
class CheckpointsPage:
    """What ``audit/checkpoints.html`` shows.

    Attributes:
        key: The public key, as the verifier takes it.
        may_make: Whether the reader may have one made.
        begun: One that takes longer than a page does.
        error: Why none was made.
    """

    frame: Frame
    checkpoints: tuple[CheckpointView, ...]
    key: str
    may_make: bool
    next_cursor: str | None
    begun: CheckpointOrder | None = None
    error: str | None = None


@router.get(HERE, summary="Checkpoints of the audit log")
async def get_checkpoints_page(
    caller: AuditReader, services: ServicesDep, cursor: Annotated[str | None, Query(max_length=1024)] = None
) -> Response:
    """Newest first, each with whether the object store has it."""
    return await _page(services, caller, cursor=cursor)


@router.post(HERE, summary="Make a checkpoint now")
async def post_checkpoints_page(caller: ProvenExporter, services: ServicesDep) -> Response:
    """Has one made, and shows it; where that takes longer, where to look."""
    made: list[CheckpointOrder] = []

    async def order() -> None:
        made.append((await order_checkpoint(caller, services, just_once(services)))[0])

    refused = await refusal_of(order())
    if refused is not None:
        return await _page(services, caller, status=refused.status, error=refused.message)
    [ordered] = made
    if ordered.checkpoint is None:
        return await _page(services, caller, status=BEGUN, begun=ordered)
    return RedirectResponse(HERE, status_code=303)


async def _page(
    services: Services,
    caller: Caller,
    *,
    status: int = 200,
    cursor: str | None = None,
    begun: CheckpointOrder | None = None,
    error: str | None = None,
) -> Response:
    place = CHECKPOINTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        found = await checkpoints(session, before=place, limit=CHECKPOINTS_SHOWN + 1)
    shown, following = CHECKPOINTS.cut(services.secret_key, found, CHECKPOINTS_SHOWN)
    page = CheckpointsPage(
        frame=frame_for(services, caller, section="audit"),
        checkpoints=tuple(await views_of(services, shown)),
        key=services.audit_key.text,
        may_make=caller.may(Permission.AUDIT_EXPORT),
        next_cursor=following,
        begun=begun,
        error=error,
    )
    return render("audit/checkpoints.html", status_code=status, page=page, frame=page.frame)
