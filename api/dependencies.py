"""What a route asks for before it runs: the services, who asks, and a permission on a project."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Path, Request
from starlette.requests import HTTPConnection

from api.credentials import credential_of
from api.csrf import SAFE_METHODS, check_csrf
from api.refusals import note_asking, write_down_ended
from api.requests import note_credential, origin_of
from api.services import Services
from database.store.access.requests import Credential, Grant, authorize
from database.store.audit import record
from domain.access.decide import PLATFORM, Resource, decide, require
from domain.access.held import Held
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.errors import NotFound, PermissionMissing, Unauthenticated
from domain.projects import ProjectView

NO_SUCH_PROJECT = "There is no such project, or you may not see it."


async def services_of(connection: HTTPConnection) -> Services:
    """The services that the application was made with."""
    services: Services = connection.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, with what they hold everywhere.

    Attributes:
        lasts: How long until their credential or something held ends by itself; ``None`` if nothing does.
    """

    actor: Actor
    held: Held
    lasts: timedelta | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller may do this on the platform."""
        return decide(self.actor, permission, PLATFORM, held=self.held).allowed


@dataclass(frozen=True, slots=True)
class ProjectAccess:
    """The proof that the actor was found to hold ``permission`` on ``project``.

    Attributes:
        held: All that the actor's roles give on the project, for pages that show what else is possible.
        credential: What was proven, for a long answer that asks again later (``still_granted``).
    """

    actor: Actor
    project: ProjectView
    permission: Permission
    held: Held
    credential: Credential

    def may(self, permission: Permission) -> bool:
        """Whether the actor may also do this on the project."""
        return decide(self.actor, permission, self.project.resource, held=self.held).allowed


async def authenticate(
    request: Request, services: Services, *, owner: str | None = None, name: str | None = None
) -> tuple[Credential, Grant]:
    """Who asks, proven by the request's credential; for a browser also that no other page made it ask.

    Raises:
        Unauthenticated: No credential or none that is good.
        PermissionMissing: An unsafe request of a browser without its CSRF token.
        Unavailable: The database does not answer.
    """
    credential = await credential_of(request, secure=services.secure_cookies, issuers=services.token_issuers)
    return credential, await authenticate_with(credential, request, services, owner=owner, name=name)


async def authenticate_with(
    credential: Credential, request: Request, services: Services, *, owner: str | None = None, name: str | None = None
) -> Grant:
    """``authenticate`` for a credential that came another way (git's Basic); same errors."""
    grant = await authorize(
        services.database, credential, rights=services.rights, origin=origin_of(request), owner=owner, name=name
    )
    if grant is None and credential.kind == "external":
        raise Unauthenticated(
            "The token is good, but whom it speaks of, or who acts with it, is no active identity here. An "
            "administrator links them: POST /api/v1/users/{name}/external-identities.",
            code="not_linked",
        )
    if grant is None:
        await write_down_ended(services.database, services.ended_uses, request, credential)
        raise Unauthenticated(
            "The credential is unknown, expired or revoked. Sign in again, or make a new token.",
            code="invalid_credential",
        )
    actor = grant.actor
    note_asking(services.database, request, actor)
    note_credential(request.scope, str(actor.token_id or actor.session_id or actor.user_id))
    if actor.token_id is not None:
        services.token_uses.note(actor.token_id, actor.origin.ip)
    elif actor.session_id is not None:
        if request.method not in SAFE_METHODS:
            await check_csrf(request, services.secret_key, actor.session_id, services.public_url)
        services.session_uses.note(actor.session_id)
    return grant


async def current_caller(request: Request, services: ServicesDep) -> Caller:
    """Any authenticated identity, with its global permissions."""
    _, grant = await authenticate(request, services)
    return Caller(grant.actor, grant.held, grant.lasts)


async def current_actor(caller: Annotated[Caller, Depends(current_caller)]) -> Actor:
    """Any authenticated identity."""
    return caller.actor


CallerDep = Annotated[Caller, Depends(current_caller)]
ActorDep = Annotated[Actor, Depends(current_actor)]

OwnerPath = Annotated[str, Path(description="Login name of the project's owner", max_length=64)]
NamePath = Annotated[str, Path(description="Name of the project", max_length=64)]


def require_project(permission: Permission) -> Callable[..., Awaitable[ProjectAccess]]:
    """The dependency of a route on ``/{owner}/{name}`` that needs ``permission`` there.

    Raises:
        Unauthenticated: No good credential.
        NotFound: No such project, or the actor may not see it.
        PermissionMissing: The actor may see it but lacks ``permission``; an audit row tells of the attempt.
    """

    async def allowed(request: Request, owner: OwnerPath, name: NamePath) -> ProjectAccess:
        services: Services = request.app.state.services
        credential, grant = await authenticate(request, services, owner=owner, name=name)
        if grant.project is None:
            raise NotFound(NO_SUCH_PROJECT)
        actor = await check_permission(services, grant, permission, grant.project.resource)
        return ProjectAccess(actor, grant.project, permission, grant.held, credential)

    allowed.permission = permission  # type: ignore[attr-defined]  # read by the documentation and the route sweep
    return allowed


ReadAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PROJECT_READ))]
WriteAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PROJECT_WRITE))]
DeleteAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PROJECT_DELETE))]
RunAccess = Annotated[ProjectAccess, Depends(require_project(Permission.PIPELINE_RUN))]


def require_platform(permission: Permission) -> Callable[..., Awaitable[Caller]]:
    """The dependency of a route that needs ``permission`` on the platform itself.

    Raises:
        Unauthenticated: No good credential.
        PermissionMissing: The caller lacks ``permission``; an audit row tells of the attempt.
    """

    async def allowed(request: Request, services: ServicesDep) -> Caller:
        _, grant = await authenticate(request, services)
        actor = await check_permission(services, grant, permission, PLATFORM)
        return Caller(actor, grant.held)

    allowed.permission = permission  # type: ignore[attr-defined]  # read by the documentation and the route sweep
    return allowed


async def check_permission(
    services: Services, who: Caller | Grant, permission: Permission, resource: Resource
) -> Actor:
    """``domain.access.decide.require``, with an audit row for a refusal."""
    try:
        return require(who.actor, permission, resource, held=who.held)
    except (NotFound, PermissionMissing) as refusal:
        async with services.database.transaction() as session:
            await record(
                session,
                who.actor,
                permission,
                "platform" if resource.project_id is None else "project",
                resource.project_id,
                resource.project_id,
                outcome="denied",
                detail={"permission": permission.value, "answer": refusal.specific_code, **refusal.details},
            )
        if isinstance(refusal, PermissionMissing):
            refusal.is_audited = True
        raise


async def still_granted(services: Services, access: ProjectAccess) -> Grant | None:
    """Asks again whether the credential and the permission still hold, for answers that stay open for long.

    Returns:
        What is granted now; ``None`` if the credential has ended or the permission is gone.

    Raises:
        Unavailable: The database does not answer.
    """
    project = access.project
    grant = await authorize(
        services.database,
        access.credential,
        rights=services.rights,
        origin=access.actor.origin,
        owner=project.owner_name,
        name=project.name,
    )
    if grant is None or grant.project is None or grant.project.id != project.id:
        return None
    verdict = decide(grant.actor, access.permission, grant.project.resource, held=grant.held)
    return grant if verdict.allowed else None
