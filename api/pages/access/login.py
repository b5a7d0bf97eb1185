"""The login page: name and password, or a passkey alone; and signing out."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.attempts import NAME_LENGTH_MAX
from api.csrf import FIELD
from api.dependencies import ActorDep, ServicesDep, authenticate
from api.pages.access.visit import Visit, checked_visit, local_path, new_visit, visit_of
from api.passkeys import ANSWER_LENGTH_MAX, authentication_options, passkey_site
from api.rendering import render
from api.second_factor import ProofKind, note_second_factor_needed, passkey_sign_in
from api.services import Services
from api.sign_in import check_password, drop_session_cookie, set_session_cookie, start_session
from database.store.access.sessions import close_session
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.actors import Actor
from domain.errors import TooManyRequests, Unauthenticated

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class LoginPage:
    """What ``access/login.html`` shows.

    Attributes:
        next_path: Where a successful sign-in leads.
        csrf_token: Bound to the visit cookie, because there is no session yet.
        passkey_options: For the browser; ``None`` where passkeys do not work.
        providers: Name and title of the identity providers to sign in through.
        name: What was typed before, so that only the password is typed again.
        error: Why the last attempt failed.
    """

    next_path: str
    csrf_token: str
    passkey_options: str | None
    providers: tuple[tuple[str, str], ...]
    csrf_field: str = FIELD
    name: str = ""
    error: str | None = None


def _page(
    request: Request, visit: Visit, next_path: str, *, name: str = "", refused: Unauthenticated | TooManyRequests | None
) -> Response:
    services = visit.services
    site = passkey_site(services.public_url)
    options = None
    if site is not None and site.is_address_of(request):
        options = authentication_options(site, services.secret_key, "sign-in", visit.id)
    page = LoginPage(
        next_path=local_path(next_path),
        csrf_token=visit.csrf_token,
        passkey_options=options,
        providers=tuple((one, provider.settings.title) for one, provider in services.identity_providers.items()),
        name=name,
        error=refused.message if refused else None,
    )
    response = render("access/login.html", status_code=refused.status if refused else 200, page=page)
    if isinstance(refused, TooManyRequests):
        response.headers["retry-after"] = str(refused.retry_after_seconds)
    visit.keep(response)
    return response


@router.get("/login", summary="Login page")
async def get_login(
    request: Request, services: ServicesDep, next_path: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """The form; somebody who is signed in already is led on."""
    if await _is_signed_in(request, services):
        return RedirectResponse(local_path(next_path), status_code=303)
    return _page(request, visit_of(request, services) or new_visit(services), next_path, refused=None)


async def _is_signed_in(request: Request, services: Services) -> bool:
    try:
        await authenticate(request, services)
    except Unauthenticated:
        return False
    return True


@router.post("/login", summary="Sign in")
async def post_login(
    request: Request,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=NAME_LENGTH_MAX)],
    password: Annotated[str, Form(max_length=PASSWORD_LENGTH_MAX)],
    next_path: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Checks name and password; wrong ones show the form again, right ones may lead to the second factor."""
    visit = await checked_visit(request, services)
    try:
        right = await check_password(services, request, name, password)
    except (Unauthenticated, TooManyRequests) as refused:
        return _page(request, visit, next_path, name=name, refused=refused)
    actor = right.actor
    if right.factors.needed:
        await note_second_factor_needed(services, actor)
        response = RedirectResponse(f"/login/second-factor?next={quote(local_path(next_path), safe='')}", 303)
        visit.keep_pending(response, actor.user_id)
        return response
    return await signed_in(request, visit, actor, next_path, factor="password")


@router.post("/login/passkey", summary="Sign in with a passkey")
async def post_passkey(
    request: Request,
    services: ServicesDep,
    answer: Annotated[str, Form(max_length=ANSWER_LENGTH_MAX)],
    next_path: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """A passkey that has verified its user is enough."""
    visit = await checked_visit(request, services)
    try:
        actor = await passkey_sign_in(services, request, answer, bound_to=visit.id)
    except Unauthenticated as refused:
        return _page(request, visit, next_path, refused=refused)
    return await signed_in(request, visit, actor, next_path, factor="passkey")


async def signed_in(request: Request, visit: Visit, actor: Actor, next_path: str, *, factor: ProofKind) -> Response:
    """Opens the session and leads on."""
    async with visit.services.database.transaction() as session:
        _, secret = await start_session(visit.services, session, actor, request, factor=factor)
    response = RedirectResponse(local_path(next_path), status_code=303)
    visit.drop_pending(response)
    set_session_cookie(response, visit.services, secret)
    return response


@router.post("/logout", summary="Sign out")
async def post_logout(actor: ActorDep, services: ServicesDep) -> Response:
    """Ends the browser session."""
    async with services.database.transaction() as session:
        await close_session(session, actor)
    response = RedirectResponse("/login", status_code=303)
    drop_session_cookie(response, services)
    return response
