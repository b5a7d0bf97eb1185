"""The audit log: who did what, when, from where and on whose behalf."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from api.dependencies import Caller, CallerDep, ProjectAccess, ServicesDep, require_platform, require_project
from api.errors import problems
from api.pagination import CursorQuery, LimitQuery, Page, next_url
from api.proof import require_recent_proof
from api.routes.audit.views import ACTS, AuditedAct, FilterDep, own_share, shown_acts
from api.services import Services
from api.strict_route import StrictRoute
from database.store.audit_people import erase_person
from database.store.audit_reading import Filter, acts
from domain.access.permissions import Permission
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=StrictRoute)

AuditAccess = Annotated[ProjectAccess, Depends(require_project(Permission.AUDIT_READ))]
UsersAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_USERS)))]


class AuditKey(BaseModel):
    """The key that the checkpoints of the audit log are checked with."""

    algorithm: str = "Ed25519"
    public_key: str = Field(description="Base64 of 32 bytes, for `perdure audit verify FILE --public-key`")
    key_id: str = Field(description="Stands in every checkpoint that the key signed")


@router.get("/audit", summary="Read the audit log", responses=problems(400, 401))
async def get_audit(  # noqa: PLR0917  # FastAPI fills them by name
    request: Request,
    caller: CallerDep,
    wanted: FilterDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[AuditedAct]:
    """Acts, newest first: all of them with `audit:read` on the platform, else your own.

    A token whose scopes leave `audit:read` out sees what was done with it.
    """
    return await _page(request, services, combined(wanted, own_share(caller)), cursor, limit)


@router.get(
    "/projects/{owner}/{name}/audit", summary="Read a project's audit log", responses=problems(400, 401, 403, 404)
)
async def get_project_audit(  # noqa: PLR0917  # as above
    request: Request,
    access: AuditAccess,
    wanted: FilterDep,
    services: ServicesDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Page[AuditedAct]:
    """What was done to a project, newest first."""
    return await _page(request, services, replace(wanted, project_id=access.project.id), cursor, limit)


def combined(wanted: Filter, share: Filter | None) -> Filter:
    """What is looked for, within what may be seen."""
    if share is None:
        return wanted
    return replace(wanted, only_of=share.only_of, token_id=share.token_id, project_id=share.project_id)


async def _page(
    request: Request, services: Services, wanted: Filter, cursor: str | None, limit: int
) -> Page[AuditedAct]:
    place = ACTS.place(services.secret_key, cursor)
    async with services.database.transaction() as session:
        found = await acts(session, services.database.audit_keys, wanted, place=place, limit=limit + 1)
        page, following = ACTS.cut(services.secret_key, found, limit)
        items = await shown_acts(session, page)
    return Page(items=items, next=next_url(request, following))


@router.get("/audit/key", summary="The public key of the audit log", responses=problems())
async def get_audit_key(services: ServicesDep) -> AuditKey:
    """Public. Keep it elsewhere: whoever owns the server could show another."""
    key = services.audit_key
    return AuditKey(public_key=key.text, key_id=key.id)


@router.delete(
    "/audit/people/{user_id}",
    status_code=204,
    summary="Erase a person from the audit log",
    responses=problems(400, 401, 403, 404, 409),
)
async def delete_audit_person(user_id: UUID, caller: UsersAdmin, services: ServicesDep) -> None:
    """Makes the name, addresses and other personal data of a deactivated identity unreadable, for ever.

    The rows stay, with ids instead of names, and so do all hashes.
    """
    async with services.database.transaction() as session:
        is_erased = await erase_person(session, caller.actor, user_id)
    if not is_erased:
        raise NotFound("There is nothing of this person that could be erased: it was done before.")
    services.database.audit_keys.forget(user_id)
