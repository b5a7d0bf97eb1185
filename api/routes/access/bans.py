"""Bans after too many failed attempts: seen and lifted by an administrator."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, BaseModel, Field

from api.attempts import NAME_LENGTH_MAX
from api.dependencies import Caller, ServicesDep, require_platform
from api.errors import problems
from api.pagination import LimitQuery
from api.strict_route import StrictRoute
from database.store.access.bans import lift_bans, present_bans
from domain.access.bans import PROOFS, Subject, SubjectKind, address_subject, name_subject
from domain.access.permissions import Permission
from domain.errors import InvalidInput, NotFound

router = APIRouter(prefix="/api/v1/bans", tags=["access"], route_class=StrictRoute)

UsersAdmin = Annotated[Caller, Depends(require_platform(Permission.ADMIN_USERS))]

ADDRESS_LENGTH_MAX = 64


class Ban(BaseModel):
    """A name or an address from which nothing is checked at the moment."""

    by: SubjectKind
    address: str | None = Field(
        description="The IP address, or the /64 of an IPv6 one; null for a name, which is hashed"
    )
    bans: int = Field(description="How many there were in a row; each is twice as long as the one before")
    until: AwareDatetime


class Bans(BaseModel):
    """Present bans."""

    items: list[Ban]


@router.get("", summary="List present bans", responses=problems(400, 401, 403))
async def get_bans(_: UsersAdmin, services: ServicesDep, limit: LimitQuery = 50) -> Bans:
    """Who may not try to sign in at the moment, those that last longest first. Whose names: see the audit log."""
    async with services.database.transaction() as session:
        bans = await present_bans(session, limit=limit)
    return Bans(items=[Ban(by=ban.kind, address=ban.address, bans=ban.bans, until=ban.banned_until) for ban in bans])


@router.delete("/names/{name}", status_code=204, summary="Let a name try again", responses=problems(400, 401, 403, 404))
async def delete_name(
    admin: UsersAdmin, services: ServicesDep, name: Annotated[str, Path(max_length=NAME_LENGTH_MAX)]
) -> None:
    """Lifts the bans of a login name (for mails: of an e-mail address) and forgets its failures."""
    subjects = [name_subject(services.secret_key, proof, name) for proof in PROOFS]
    await _lift(services, admin, subjects, "name")


@router.delete(
    "/addresses/{address}", status_code=204, summary="Let an address try again", responses=problems(400, 401, 403, 404)
)
async def delete_address(
    admin: UsersAdmin, services: ServicesDep, address: Annotated[str, Path(max_length=ADDRESS_LENGTH_MAX)]
) -> None:
    """Lifts the ban of an IP address (any one of an IPv6 /64) and forgets its failures."""
    try:
        subject = address_subject(address)
    except ValueError as error:
        raise InvalidInput(f"{address!r} is no IP address.", code="invalid_address") from error
    await _lift(services, admin, [subject], "address")


async def _lift(services: ServicesDep, admin: Caller, subjects: list[Subject], by: SubjectKind) -> None:
    async with services.database.transaction() as session:
        lifted = await lift_bans(session, admin.actor, subjects, {"by": by})
    if not lifted:
        raise NotFound(f"There are no failed attempts of this {by}.")
