"""The login page, signing in and signing out with a browser."""

import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.attempts import NAME_LENGTH_MAX
from api.csrf import FIELD, check_csrf, csrf_token
from api.dependencies import ActorDep, ServicesDep, authenticate
from api.rendering import render
from api.services import Services
from api.sign_in import (
    check_password,
    drop_session_cookie,
    set_session_cookie,
    start_session,
)
from database.store.access.sessions import close_session
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.errors import InvalidInput, TooManyRequests, Unauthenticated

router = APIRouter(include_in_schema=False)

VISIT_COOKIE_SECONDS = 3600
NEXT_LENGTH_MAX = 2000


@dataclass(frozen=True, slots=True)
class LoginPage:
    """What ``access/login.html`` shows.

    Attributes:
        next_path: Where a successful sign-in leads.
        csrf_token: Bound to the visit cookie, because there is no session yet.
        name: What was typed before, so that only the password is typed again.
        error: Why the last attempt failed.
    """

    next_path: str
    csrf_token: str
    csrf_field: str = FIELD
    name: str = ""
    error: str | None = None


def local_path(text: str) -> str:
    """``text`` if it is a path of this platform, else ``/``: a login never sends anybody to another site.

    Browsers read a path that begins with two slashes, or with a slash and a backslash, as another host, and drop tabs
    and line breaks before they look.
    """
    plain = text.isprintable() and "\\" not in text
    if plain and text.startswith("/") and not text.startswith("//") and len(text) <= NEXT_LENGTH_MAX:
        return text
    return "/"


def _visit_cookie_name(services: Services) -> str:
    return "__Host-perdure_visit" if services.secure_cookies else "perdure_visit"


def _page(services: Services, visit: str, page: LoginPage, status_code: int = 200) -> Response:
    response = render("access/login.html", status_code=status_code, page=page)
    response.set_cookie(
        _visit_cookie_name(services),
        visit,
        max_age=VISIT_COOKIE_SECONDS,
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="strict",
    )
    return response


def _visit_id(visit: str) -> str:
    """What the CSRF token of a visit is bound to; the prefix keeps it apart from every session's id."""
    return f"visit/{visit}"


@router.get("/login", summary="Login page")
async def get_login(
    request: Request, services: ServicesDep, next_path: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """The form; somebody who is signed in already is led on."""
    if await _is_signed_in(request, services):
        return RedirectResponse(local_path(next_path), status_code=303)
    visit = request.cookies.get(_visit_cookie_name(services)) or secrets.token_urlsafe(24)
    token = csrf_token(services.secret_key, _visit_id(visit))
    return _page(services, visit, LoginPage(next_path=local_path(next_path), csrf_token=token))


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
    """Checks name and password; wrong ones show the form again."""
    visit = request.cookies.get(_visit_cookie_name(services))
    if not visit:
        raise InvalidInput(
            "The login page was open too long, or this browser keeps no cookies. Open it again and sign in.",
            code="visit_expired",
        )
    await check_csrf(request, services.secret_key, _visit_id(visit), services.public_url)
    try:
        actor = await check_password(services, request, name, password)
    except (Unauthenticated, TooManyRequests) as refused:
        token = csrf_token(services.secret_key, _visit_id(visit))
        page = LoginPage(next_path=local_path(next_path), csrf_token=token, name=name, error=refused.message)
        response = _page(services, visit, page, status_code=refused.status)
        if isinstance(refused, TooManyRequests):
            response.headers["retry-after"] = str(refused.retry_after_seconds)
        return response
    _, secret = await start_session(services, actor, request)
    response = RedirectResponse(local_path(next_path), status_code=303)
    set_session_cookie(response, services, secret)
    return response


@router.post("/logout", summary="Sign out")
async def post_logout(actor: ActorDep, services: ServicesDep) -> Response:
    """Ends the browser session."""
    async with services.database.transaction() as session:
        await close_session(session, actor)
    response = RedirectResponse("/login", status_code=303)
    drop_session_cookie(response, services)
    return response
