"""The second step of a sign-in: the page that asks for a code or a passkey after a right password."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.csrf import FIELD
from api.dependencies import ServicesDep
from api.pages.access.login import signed_in
from api.pages.access.visit import Visit, checked_visit, local_path, visit_of
from api.passkeys import ANSWER_LENGTH_MAX, authentication_options, passkey_site
from api.rendering import render
from api.requests import origin_of
from api.second_factor import CODE_LENGTH_MAX, ProofKind, check_code, check_passkey
from api.services import Services
from database.store.access.factors import factors_of, half_signed_in, passkeys_of
from domain.access.factors import Factors
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import TooManyRequests, Unauthenticated

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class SecondFactorPage:
    """What ``access/second_factor.html`` shows.

    Attributes:
        name: Who is about to sign in.
        passkey_options: For the browser; ``None`` without passkeys, or where they do not work.
        elsewhere: The address where the passkeys work, if that is another one than this.
        error: Why the last attempt failed.
    """

    name: str
    next_path: str
    csrf_token: str
    factors: Factors
    passkey_options: str | None
    elsewhere: str | None
    csrf_field: str = FIELD
    error: str | None = None


async def _pending(request: Request, visit: Visit) -> Actor:
    user_id = visit.pending_user(request)
    async with visit.services.database.transaction() as session:
        actor = await half_signed_in(session, user_id, origin_of(request))
    if actor is None:
        raise Unauthenticated("You may not sign in any more.", code="sign_in_expired")
    return actor


async def _page(
    request: Request,
    visit: Visit,
    actor: Actor,
    next_path: str,
    refused: Unauthenticated | TooManyRequests | None = None,
) -> Response:
    services = visit.services
    async with services.database.transaction() as session:
        factors = await factors_of(session, actor.user_id)
        passkeys = await passkeys_of(session, actor.user_id)
    site = passkey_site(services.public_url) if passkeys else None
    options = None
    if site is not None and site.is_address_of(request):
        bound_to = visit.factor_id(actor.user_id)
        options = authentication_options(site, services.secret_key, "second-factor", bound_to, passkeys)
    page = SecondFactorPage(
        name=actor.name,
        next_path=local_path(next_path),
        csrf_token=visit.csrf_token,
        factors=factors,
        passkey_options=options,
        elsewhere=site.origin if site is not None and options is None else None,
        error=refused.message if refused else None,
    )
    response = render("access/second_factor.html", status_code=refused.status if refused else 200, page=page)
    if isinstance(refused, TooManyRequests):
        response.headers["retry-after"] = str(refused.retry_after_seconds)
    return response


def _begin_again(next_path: str) -> Response:
    return RedirectResponse(f"/login?next={quote(local_path(next_path), safe='')}", status_code=303)


@router.get("/login/second-factor", summary="Second factor page")
async def get_second_factor(
    request: Request, services: ServicesDep, next_path: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """The form; who has not given a right password yet is led to the login page."""
    visit = visit_of(request, services)
    if visit is None:
        return _begin_again(next_path)
    try:
        actor = await _pending(request, visit)
    except Unauthenticated:
        return _begin_again(next_path)
    return await _page(request, visit, actor, next_path)


@router.post("/login/second-factor", summary="Sign in with the second factor")
async def post_second_factor(
    request: Request,
    services: ServicesDep,
    code: Annotated[str, Form(max_length=CODE_LENGTH_MAX)] = "",
    answer: Annotated[str, Form(max_length=ANSWER_LENGTH_MAX)] = "",
    next_path: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Checks a code, or what the browser answered with a passkey; then the session begins."""
    visit = await checked_visit(request, services)
    try:
        actor = await _pending(request, visit)
    except Unauthenticated:
        return _begin_again(next_path)
    try:
        factor = await _proven(request, visit, actor, code, answer)
    except (Unauthenticated, TooManyRequests) as refused:
        return await _page(request, visit, actor, next_path, refused)
    few = (await _factors(services, actor)).few_recovery_codes
    if factor == "recovery_code" and few:
        # Whoever used one has few left and probably lost the device: this is the moment to do something about it.
        next_path = f"/me/factors?next={quote(local_path(next_path), safe='')}"
    return await signed_in(request, visit, actor, next_path, factor=factor)


async def _proven(request: Request, visit: Visit, actor: Actor, code: str, answer: str) -> ProofKind:
    if not answer:
        return await check_code(visit.services, request, actor, code, action=AuditAction.SESSION_CREATE)
    await check_passkey(
        visit.services,
        request,
        actor,
        answer,
        purpose="second-factor",
        bound_to=visit.factor_id(actor.user_id),
        action=AuditAction.SESSION_CREATE,
    )
    return "passkey"


async def _factors(services: Services, actor: Actor) -> Factors:
    async with services.database.transaction() as session:
        return await factors_of(session, actor.user_id)
