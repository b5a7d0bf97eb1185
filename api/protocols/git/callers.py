"""Who speaks git to us, and whether they may: Basic with an API token as the password (any user name), or Bearer."""

from dataclasses import dataclass

from starlette.requests import Request

from api.credentials import basic_credentials, bearer_credential
from api.dependencies import NO_SUCH_PROJECT, authenticate_with, check_permission
from api.organizations import needed_to_create
from api.services import Services
from database.store.access.requests import Credential, Grant
from domain.access.decide import PLATFORM, decide
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.errors import NotFound, Unauthenticated
from domain.projects import ProjectView, check_project_name


@dataclass(frozen=True, slots=True)
class GitCaller:
    """The proof that the actor may do what the request is about.

    Attributes:
        project: ``None`` for a push to a project that the actor may create.
        owner: The address asked for, also of a project that does not exist yet.
        name: As above.
    """

    actor: Actor
    project: ProjectView | None
    owner: str
    name: str


async def caller_who(request: Request, services: Services, permission: Permission) -> GitCaller:
    """Lets through whoever holds ``permission`` on the project of the path; one SELECT.

    A push to a project that does not exist is let through for whoever may create it; where its owner is somebody else,
    one more SELECT finds out whether the caller owns that.

    Raises:
        Unauthenticated: No token, or none that is good.
        NotFound: No such project, or the actor may not see it.
        PermissionMissing: The actor may see it but not do this.
        InvalidInput: The project could be created, but not under this name.
    """
    owner, name = request.path_params["owner"], request.path_params["name"]
    grant = await authenticate_with(await _credential(request, services), request, services, owner=owner, name=name)
    if grant.project is not None:
        actor = await check_permission(services, grant, permission, grant.project.resource)
    elif permission is not Permission.PROJECT_WRITE or not await _may_create(services, grant, owner):
        if permission is Permission.PROJECT_WRITE and owner == grant.actor.name:
            # Nothing is given away: whoever pushes to a name of their own is told what the first push needs.
            await check_permission(services, grant, Permission.PROJECT_CREATE, PLATFORM)
        raise NotFound(NO_SUCH_PROJECT)
    else:
        check_project_name(name)
        actor = grant.actor
    return GitCaller(actor=actor, project=grant.project, owner=owner, name=name)


async def _credential(request: Request, services: Services) -> Credential:
    basic = basic_credentials(request)
    if basic is not None:
        return await bearer_credential(basic[1], services.token_issuers)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return await bearer_credential(token.strip(), services.token_issuers)
    raise Unauthenticated("Sign in: any user name, and an API token (prd_...) as the password.")


async def _may_create(services: Services, grant: Grant, owner: str) -> bool:
    needed = await needed_to_create(services, grant, owner)
    return all(decide(grant.actor, permission, PLATFORM, held=grant.held).allowed for permission in needed)
