"""Refusals that come from looking at more than one permission leave their audit row too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from api.services import Services
from database.store.audit import record
from domain.actors import Actor
from domain.audit.actions import Action
from domain.errors import PermissionMissing


@asynccontextmanager
async def audited_denials(
    services: Services,
    actor: Actor,
    action: Action,
    resource: str,
    resource_id: UUID | None = None,
    *,
    project_id: UUID | None = None,
) -> AsyncIterator[None]:
    """Around a transaction: where its block raises ``PermissionMissing``, a row of its own tells of the attempt.

    Args:
        action: What was tried, for instance ``binding:create``.
        resource: On what kind of thing.
        resource_id: Which one.
        project_id: The project that it belongs to.
    """
    try:
        yield
    except PermissionMissing as refusal:
        async with services.database.transaction() as session:
            detail: dict[str, object] = {"answer": refusal.specific_code, **refusal.details}
            await record(session, actor, action, resource, resource_id, project_id, outcome="denied", detail=detail)
        refusal.is_audited = True
        raise
