"""What of the audit log is asked for, and how an act is shown."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AwareDatetime, BaseModel, Field

from api.dependencies import Caller
from api.pagination import Listing, newest_first
from database.engine import Session
from database.store.audit_reading import Act, Filter, names_of
from domain.access.permissions import Permission

ACTS: Listing[Act, tuple[datetime, UUID]] = newest_first("audit")


class Identity(BaseModel):
    """Somebody who acted or was acted for."""

    id: UUID
    name: str | None = Field(description="`(erased)` where the person was erased; null where only the id is known")


class Actor(Identity):
    """Who acted."""

    kind: str


class AuditedAct(BaseModel):
    """One row of the audit log. Personal data is in clear here and encrypted where it lies."""

    id: UUID
    at: AwareDatetime
    action: str = Field(examples=["token:create"])
    outcome: Literal["success", "denied", "failure"]
    actor: Actor
    on_behalf_of: list[Identity] = Field(description="The whole chain, nearest first")
    resource: str
    resource_id: UUID | None
    project_id: UUID | None
    address: str | None
    user_agent: str | None
    token_id: UUID | None
    session_id: UUID | None
    request_id: str | None
    trace_id: str | None
    detail: Any = None
    before: Any = None
    after: Any = None
    log: int = Field(description="Which chain")
    seq: int = Field(description="Which row of it")
    hash: str = Field(description="SHA-256 of the row, as in an export of `perdure audit export`")


def filter_query(  # noqa: PLR0917  # FastAPI fills them by name
    actor: Annotated[str | None, Query(max_length=100, description="Name or id of who acted")] = None,
    anyone: Annotated[
        str | None, Query(max_length=100, description="Name or id of who acted or of somebody on whose behalf")
    ] = None,
    target: Annotated[UUID | None, Query(description="Id of what was acted on")] = None,
    resource: Annotated[str | None, Query(max_length=50, description="Kind of what was acted on")] = None,
    action: Annotated[str | None, Query(max_length=100, description="The action, or its beginning: `token:`")] = None,
    outcome: Annotated[Literal["success", "denied", "failure"] | None, Query()] = None,
    address: Annotated[str | None, Query(max_length=100, description="IP address")] = None,
    email: Annotated[str | None, Query(max_length=300, description="E-mail address that was changed or used")] = None,
    request_id: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[AwareDatetime | None, Query(description="From here on")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this")] = None,
) -> Filter:
    """What is looked for, as query parameters."""
    return Filter(
        actor=actor,
        anyone=anyone,
        target=target,
        resource=resource,
        action=action,
        outcome=outcome,
        address=address,
        email=email,
        request_id=request_id,
        since=since,
        until=until,
    )


FilterDep = Annotated[Filter, Depends(filter_query)]


def own_share(caller: Caller) -> Filter | None:
    """What of the platform's log the caller may see without more: ``None`` means all of it.

    Without ``audit:read`` that is one's own acts; asked with a credential whose scopes leave ``audit:read`` out, only
    what was done with that credential, so that a token that leaks does not tell its owner's doings.
    """
    actor = caller.actor
    if caller.may(Permission.AUDIT_READ):
        return None
    is_narrowed = actor.scopes is not None and Permission.AUDIT_READ.value not in actor.scopes
    return Filter(
        only_of=actor.user_id,
        token_id=actor.token_id if is_narrowed else None,
        project_id=actor.project_id,
    )


async def shown_acts(session: Session, acts: Sequence[Act]) -> list[AuditedAct]:
    """Acts as the API shows them, with the present names of those on whose behalf they were."""
    names = await names_of(session, {one for act in acts for one in act.chain})
    return [shown(act, names) for act in acts]


def shown(act: Act, names: dict[UUID, str]) -> AuditedAct:
    """One act."""
    return AuditedAct(
        id=act.id,
        at=act.created_at,
        action=act.action,
        outcome=act.outcome,
        actor=Actor(id=act.actor_id, name=act.actor_name, kind=act.actor_kind),
        on_behalf_of=[Identity(id=one, name=names.get(one)) for one in act.chain],
        resource=act.resource,
        resource_id=act.resource_id,
        project_id=act.project_id,
        address=act.address,
        user_agent=act.user_agent,
        token_id=act.token_id,
        session_id=act.session_id,
        request_id=act.request_id,
        trace_id=act.trace_id,
        detail=act.detail,
        before=act.before,
        after=act.after,
        log=act.log,
        seq=act.seq,
        hash=act.hash,
    )
