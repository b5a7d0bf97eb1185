"""Audit rows: written in the transaction of the change that they tell of. The serving role can only insert."""

from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from database.models.audit import AuditRow
from domain.actors import Actor

Outcome = Literal["success", "denied", "failure"]


async def record(  # noqa: PLR0917  # the order reads like the sentence: who did what to which
    session: AsyncSession,
    actor: Actor,
    action: str,
    resource: str,
    resource_id: UUID | None,
    project_id: UUID | None = None,
    outcome: Outcome = "success",
    detail: dict[str, object] | None = None,
) -> None:
    """Adds one row; it becomes visible with the caller's transaction or not at all.

    Args:
        session: The transaction of the change.
        actor: Who acts, with credential and origin.
        action: ``resource:verb``, for instance ``project:create``; a denied attempt names the missing permission.
        resource: The kind of thing acted on, for instance ``project``.
        resource_id: Which one; ``None`` for the platform or what never came to be.
        project_id: The project that it belongs to.
        outcome: ``success``, ``denied`` (not allowed) or ``failure`` (tried, did not work).
        detail: Structured facts: before and after, reason. Never a secret.
    """
    session.add(
        AuditRow(
            actor_id=actor.user_id,
            actor_name=actor.name,
            actor_kind=actor.kind,
            on_behalf_of=list(actor.on_behalf_of),
            token_id=actor.token_id,
            session_id=actor.session_id,
            action=action,
            resource=resource,
            resource_id=resource_id,
            project_id=project_id,
            outcome=outcome,
            detail=detail,
            ip_addr=actor.origin.ip,
            user_agent=actor.origin.user_agent,
            request_id=actor.origin.request_id,
        )
    )
    await session.flush()
