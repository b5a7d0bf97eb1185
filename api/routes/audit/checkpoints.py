"""Checkpoints of the audit log: listed, shown, and made on demand."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from api.checkpoints import CheckpointView, SignedCheckpointView, have_made, views_of
from api.dependencies import Caller, ServicesDep, require_platform
from api.errors import problems
from api.idempotency import REPLAYED_HEADER, Once, OnceDep
from api.pagination import CursorQuery, LimitQuery, Listing, Page, next_url
from api.proof import require_recent_proof
from api.services import Services
from api.strict_route import StrictRoute
from database.engine import Session
from database.store.audit import record
from database.store.audit_checkpoints import NUMBER_MAX, StoredCheckpoint, checkpoint_by_number, checkpoints
from domain.access.permissions import Permission
from domain.audit.actions import AuditAction
from domain.errors import NotFound
from domain.ids import audit_checkpoint_workflow_id

router = APIRouter(prefix="/api/v1/audit/checkpoints", tags=["audit"], route_class=StrictRoute)

AuditReader = Annotated[Caller, Depends(require_platform(Permission.AUDIT_READ))]
ProvenExporter = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.AUDIT_EXPORT)))]
NumberPath = Annotated[int, Path(ge=1, le=NUMBER_MAX)]

CHECKPOINTS: Listing[StoredCheckpoint, int] = Listing(
    "checkpoints", written=lambda row: (str(row.number),), read=lambda place: int(place[0])
)
MADE, BEGUN = 201, 202


class CheckpointOrder(BaseModel):
    """A checkpoint that was asked for."""

    workflow_id: str = Field(description="The workflow that makes it and brings it to the object store")
    workflow_url: str | None = Field(description="Its page in the Temporal UI")
    checkpoint: CheckpointView | None = Field(
        default=None, description="Null while it is under way; look at the list again"
    )


class _Order(BaseModel):
    """What is kept for an ``Idempotency-Key``: the same order is the same checkpoint."""

    order_id: UUID


@router.get("", summary="List the checkpoints", responses=problems(400, 401, 403))
async def get_checkpoints(
    request: Request, _: AuditReader, services: ServicesDep, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> Page[CheckpointView]:
    """Checkpoints of the whole log, newest first, each with whether the object store has it."""
    place = CHECKPOINTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        found = await checkpoints(session, before=place, limit=limit + 1)
    page, following = CHECKPOINTS.cut(services.secret_key, found, limit)
    return Page(items=await views_of(services, page), next=next_url(request, following))


@router.get("/{number}", summary="Show a checkpoint", responses=problems(400, 401, 403, 404))
async def get_checkpoint(number: NumberPath, _: AuditReader, services: ServicesDep) -> SignedCheckpointView:
    """A checkpoint with its signature, to be kept elsewhere and checked with the public key."""
    async with services.database.transaction() as session:
        stored = await checkpoint_by_number(session, number)
    if stored is None:
        raise NotFound(f"There is no checkpoint {number} yet.")
    [view] = await views_of(services, [stored])
    return SignedCheckpointView(**view.model_dump(), statement=stored.statement, signature=stored.signature.hex())


@router.post(
    "",
    status_code=MADE,
    summary="Make a checkpoint now",
    responses={
        BEGUN: {"model": CheckpointOrder, "description": "It takes longer; `checkpoint` is null, and the list tells"},
        **problems(400, 401, 403, 409, 422, 503),
    },
)
async def post_checkpoint(
    caller: ProvenExporter, response: Response, services: ServicesDep, once: OnceDep
) -> CheckpointOrder:
    """Signs where the log stands instead of waiting for the hourly turn, for instance before maintenance."""
    ordered, is_replayed = await order_checkpoint(caller, services, once)
    response.status_code = BEGUN if ordered.checkpoint is None else MADE
    if is_replayed:
        response.headers[REPLAYED_HEADER] = "true"
    return ordered


async def order_checkpoint(caller: Caller, services: Services, once: Once) -> tuple[CheckpointOrder, bool]:
    """Writes down who asks, then has it made; also says whether that is the answer to a repeated request.

    Raises:
        Conflict: The log was tampered with (code ``audit_log_damaged``), or no checkpoint could be made.
        Unavailable: Temporal is away; nothing was begun.
    """

    async def order(session: Session) -> _Order:
        await record(session, caller.actor, AuditAction.AUDIT_CHECKPOINT, "platform", None)
        return _Order(order_id=uuid4())

    answer = await once.run(caller.actor, order)
    order_id = _Order.model_validate_json(bytes(answer.body)).order_id
    made = await have_made(services, order_id, caller.actor.name)
    workflow_id = audit_checkpoint_workflow_id(order_id)
    ordered = CheckpointOrder(workflow_id=workflow_id, workflow_url=services.workflow_url(workflow_id))
    if made is not None:
        async with services.database.transaction() as session:
            stored = await checkpoint_by_number(session, made.number)
        ordered.checkpoint = next(iter(await views_of(services, [stored] if stored else [])), None)
    return ordered, REPLAYED_HEADER in answer.headers
