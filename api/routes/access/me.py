"""Who am I."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, ServicesDep
from api.errors import problems
from api.services import Services
from api.sign_in import csrf_token_of
from api.strict_route import StrictRoute
from database.store.access.exchange import names_of
from domain.access.held import Held
from domain.actors import Actor, ActorKind

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)


class Lender(BaseModel):
    """Somebody in whose name the bearer of an exchanged token acts."""

    id: UUID
    name: str


class Me(BaseModel):
    """Who the credential belongs to and what it is good for."""

    id: UUID
    name: str
    kind: ActorKind
    rights_of: UUID | None = Field(description="Whose rights an exchanged token gives; null: one's own")
    on_behalf_of: list[Lender] = Field(description="In whose name an exchanged token acts, nearest first")
    permissions: list[str] = Field(description="What the roles held everywhere give, sorted; `*:*` is everything")
    scopes: list[str] | None = Field(description="What the API token narrows that to; null for a browser session")
    project_id: UUID | None = Field(description="The only project that the API token is good for")
    token_id: UUID | None
    session_id: UUID | None
    csrf_token: str | None = Field(description="What a browser session sends as X-CSRF-Token with unsafe requests")


@router.get("/me", summary="Who am I", responses=problems(401))
async def get_me(caller: CallerDep, services: ServicesDep) -> Me:
    """The identity behind the credential of this request."""
    return await me_of(services, caller.actor, caller.held)


async def me_of(services: Services, actor: Actor, held: Held) -> Me:
    """What ``GET /me`` and a sign-in answer."""
    return Me(
        id=actor.user_id,
        name=actor.name,
        kind=actor.kind,
        rights_of=actor.rights_of,
        on_behalf_of=await _lenders(services, actor),
        permissions=sorted(held.permissions),
        scopes=None if actor.scopes is None else sorted(actor.scopes),
        project_id=actor.project_id,
        token_id=actor.token_id,
        session_id=actor.session_id,
        csrf_token=csrf_token_of(services, actor),
    )


async def _lenders(services: Services, actor: Actor) -> list[Lender]:
    if not actor.on_behalf_of:
        return []
    async with services.database.transaction() as session:
        names = await names_of(session, actor.on_behalf_of)
    return [Lender(id=one, name=names[one]) for one in actor.on_behalf_of]
