"""Signing in through an identity provider, linking an account there to one's own, and proving oneself again there."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from api.denials import audited_denials
from api.dependencies import Caller, ServicesDep, authenticate
from api.external_sign_in import Way, begin, drop, keep, provider_of, redeem, way_back
from api.mails import mailing
from api.pages.access.visit import local_path, new_visit, visit_of
from api.pages.frame import Frame, frame_for
from api.proof import ProvenSessionDep, SessionDep, check_recent_proof
from api.rendering import render
from api.requests import origin_of
from api.second_factor import note_second_factor_needed, present_factors
from api.services import Services
from api.sign_in import renew_session, set_session_cookie, start_session
from database.store.access.external import (
    ExternalIdentityView,
    external_identities_of,
    is_linked,
    link_external,
    sign_in_external,
    unlink_external,
)
from domain.access.external import ExternalProfile, ExternalSignInRefused
from domain.actors import NOBODY, Actor
from domain.audit.actions import AuditAction

router = APIRouter(include_in_schema=False)

HERE = "/me/providers"


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """One row of the page.

    Attributes:
        title: What the provider is called, or its address if it is not one to sign in with.
    """

    title: str
    link: ExternalIdentityView


@dataclass(frozen=True, slots=True)
class ProvidersPage:
    """What ``access/providers.html`` shows.

    Attributes:
        linked: Who the reader is elsewhere.
        linkable: Name and title of the providers that could be linked.
    """

    frame: Frame
    linked: list[LinkedAccount]
    linkable: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class OnwardPage:
    """What ``access/onward.html`` shows: a page that leads on by itself.

    A redirect would not do: browsers take a form's redirect to another site for the form's own target
    (``form-action`` of the Content-Security-Policy), and send no ``SameSite=Strict`` cookie along a chain of redirects
    that another site began.
    """

    title: str
    url: str


def _onward(title: str, url: str) -> Response:
    return render("access/onward.html", page=OnwardPage(title, url))


NextQuery = Annotated[str, Query(alias="next")]


@router.get("/login/oidc/{provider}", summary="Sign in through a provider")
async def get_begin(provider: str, services: ServicesDep, next_path: NextQuery = "/") -> Response:
    """Sends the browser to the provider."""
    way, url = await begin(services, provider, "sign-in", local_path(next_path))
    response = RedirectResponse(url, status_code=303)
    keep(services, response, way)
    return response


@router.get("/login/oidc/{provider}/callback", summary="Come back from a provider")
async def get_callback(provider: str, request: Request, services: ServicesDep) -> Response:
    """Finishes what was begun: signs in, links, or proves."""
    provider_of(services, provider)
    origin = origin_of(request)
    async with audited_denials(
        services, NOBODY.model_copy(update={"origin": origin}), AuditAction.SESSION_CREATE, "user"
    ):
        way = way_back(services, request, provider)
        profile = await redeem(services, way, request.query_params)
        response = await _finish[way.purpose](request, services, way, profile)
    drop(services, response, way)
    return response


async def _sign_in(request: Request, services: Services, way: Way, profile: ExternalProfile) -> Response:
    policy = provider_of(services, way.provider).settings.policy
    async with services.database.transaction() as session:
        actor = await sign_in_external(session, profile, policy, origin_of(request))
    if (await present_factors(services, actor.user_id)).needed:
        # The provider stands for the password; whoever set up a second factor here is asked for it too.
        await note_second_factor_needed(services, actor)
        visit = visit_of(request, services) or new_visit(services)
        response = _onward("Second factor", f"/login/second-factor?next={quote(way.next_path, safe='')}")
        visit.keep(response)
        visit.keep_pending(response, actor.user_id)
        return response
    async with services.database.transaction() as session:
        _, secret = await start_session(services, session, actor, request, factor="provider")
    response = RedirectResponse(way.next_path, status_code=303)
    set_session_cookie(response, services, secret)
    return response


async def _own_session(request: Request, services: Services, way: Way) -> Actor:
    """The actor of the very browser session that began.

    Raises:
        Unauthenticated: It ended meanwhile.
        ExternalSignInRefused: This browser is signed in as somebody else now.
    """
    _, grant = await authenticate(request, services)
    if grant.actor.session_id != way.session_id or grant.actor.token_id is not None:
        raise ExternalSignInRefused(
            "This was begun in another session than the one that this browser has now. Nothing was changed; begin "
            "again.",
            code="sign_in_expired",
        )
    return grant.actor


async def _link(request: Request, services: Services, way: Way, profile: ExternalProfile) -> Response:
    actor = await _own_session(request, services, way)
    await check_recent_proof(services, request, actor)
    policy = provider_of(services, way.provider).settings.policy
    async with mailing(services) as session:
        await link_external(session, actor, profile, policy)
    return RedirectResponse(HERE, status_code=303)


async def _prove(request: Request, services: Services, way: Way, profile: ExternalProfile) -> Response:
    actor = await _own_session(request, services, way)
    async with services.database.transaction() as session:
        linked = await is_linked(session, actor.user_id, profile)
    if not linked or (await present_factors(services, actor.user_id)).needed:
        raise ExternalSignInRefused(
            "That account is not linked to yours, or your second factor is what counts here. Nothing was proven.",
            code="proof_missing",
        )
    _, secret = await renew_session(services, actor, factor="provider")
    response = RedirectResponse(way.next_path, status_code=303)
    set_session_cookie(response, services, secret)
    return response


_finish = {"sign-in": _sign_in, "link": _link, "prove": _prove}


@router.post("/me/proof/oidc/{provider}", summary="Prove again through a provider that it is you")
async def post_proof(provider: str, caller: SessionDep, services: ServicesDep, next_path: NextQuery = "/") -> Response:
    """Leads to the provider, which asks again who it is."""
    return await _begun(services, caller, provider, "prove", local_path(next_path))


@router.post(f"{HERE}/link/{{provider}}", summary="Link an account at a provider")
async def post_link(provider: str, caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """Leads to the provider; the account that one signs in with there is linked to one's own here."""
    return await _begun(services, caller, provider, "link", HERE)


async def _begun(services: Services, caller: Caller, name: str, purpose: str, next_path: str) -> Response:
    way, url = await begin(services, name, "link" if purpose == "link" else "prove", next_path, caller.actor.session_id)
    response = _onward(provider_of(services, name).settings.title, url)
    keep(services, response, way)
    return response


@router.get(HERE, summary="Your accounts at providers")
async def get_providers(caller: SessionDep, services: ServicesDep) -> Response:
    """Who you are elsewhere, and what could be linked."""
    titles = {provider.settings.issuer: provider.settings.title for provider in services.identity_providers.values()}
    async with services.database.transaction() as session:
        links = await external_identities_of(session, caller.actor.user_id)
    page = ProvidersPage(
        frame=frame_for(services, caller, section="account"),
        linked=[LinkedAccount(titles.get(link.issuer, link.issuer), link) for link in links],
        linkable=[(name, provider.settings.title) for name, provider in services.identity_providers.items()],
    )
    return render("access/providers.html", page=page, frame=page.frame)


@router.post(f"{HERE}/{{external_id}}/unlink", summary="Unlink an account at a provider")
async def post_unlink(external_id: UUID, caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """It signs you in no more; refused where it is the only way left."""
    issuers = [provider.settings.issuer for provider in services.identity_providers.values()]
    async with mailing(services) as session:
        await unlink_external(session, caller.actor, caller.actor.user_id, external_id, usable_issuers=issuers)
    return RedirectResponse(HERE, status_code=303)
